"""One request of a result file, whoever wrote it, and checked access to untrusted JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["ResultRow", "count", "number"]


@dataclass(frozen=True, slots=True)
class ResultRow:
    """Times as the client saw them.

    Attributes
    ----------
    prompt_tokens
        As the file counts them; ``counts_images`` says whether visual tokens are among them.
    start_s
        When the request was sent, on any clock; ``None`` where the file does not say.
    alone
        Whether the file says that it had the server to itself.
    """

    prompt_tokens: int
    output_tokens: int
    ttft_s: float
    total_s: float
    counts_images: bool
    start_s: float | None = None
    alone: bool = False

    @property
    def tpot_s(self) -> float | None:
        """Mean time of a token after the first."""
        return (self.total_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None

    @property
    def usable(self) -> bool:
        """Whether the figures can be those of an answer."""
        return self.prompt_tokens >= 0 and self.output_tokens >= 1 and 0 < self.ttft_s <= self.total_s


def number(values: Mapping[str, Any], name: str) -> float | None:
    """A finite number of a JSON object; ``None`` where there is none."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def count(values: Mapping[str, Any], name: str) -> int | None:
    """A count of a JSON object, which some writers give as a float."""
    value = number(values, name)
    return int(value) if value is not None and value >= 0 and value == int(value) else None
