"""When to ask again, and how long to wait before."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["RetryPolicy", "retry_after_s"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with jitter.

    Attributes
    ----------
    attempts
        How often a request is sent at most.
    first_wait_s, longest_wait_s
        Wait before the second attempt, and the longest one; a server that asks for more is given up on.
    """

    attempts: int = 4
    first_wait_s: float = 0.5
    longest_wait_s: float = 60.0

    def wait_s(self, attempt: int, asked_s: float | None) -> float | None:
        """Seconds to wait after attempt number ``attempt`` (from 1) failed; ``None`` to give up.

        Parameters
        ----------
        asked_s
            What the server asked for; never waited less.
        """
        if attempt >= self.attempts or (asked_s is not None and asked_s > self.longest_wait_s):
            return None
        backoff = min(self.first_wait_s * 2.0 ** (attempt - 1), self.longest_wait_s)
        jittered = backoff * random.uniform(0.5, 1.0)
        return jittered if asked_s is None else max(asked_s, jittered)


def retry_after_s(header: str | None) -> float | None:
    """Seconds of a ``Retry-After`` header, which holds seconds or a date; ``None`` where it holds neither."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        return _until(header)
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _until(header: str) -> float | None:
    try:
        moment = parsedate_to_datetime(header)
    except (TypeError, ValueError, IndexError):
        return None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(0.0, (aware - datetime.now(UTC)).total_seconds())
