"""JSON that says each thing once, and is not nested beyond what the interpreter's stack can follow."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

__all__ = ["loads"]


def loads(text: str | bytes) -> Any:
    """Parse JSON that somebody else wrote.

    Raises
    ------
    ValueError
        If it is not JSON, has a key twice in one object (which one was meant?), or is nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        (twice, _), *_ = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"key {twice[:40]!r} is there twice")
    return content
