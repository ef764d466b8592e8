"""Lists and ranges as they are written on the command line."""

from __future__ import annotations

import math
from collections.abc import Iterable

from costmodel.errors import WorkloadError

__all__ = ["counts", "words"]

_MOST_VALUES = 10_000_000
_FORMS = "expected N, A,B,C, FIRST:LAST:STEP, FIRST:LAST:xFACTOR or FIRST:LAST:logPOINTS"


def words(texts: Iterable[str]) -> tuple[str, ...]:
    """Entries of an option that is repeated, or lists several values between commas; each once."""
    entries = (part.strip() for text in texts for part in text.split(","))
    return tuple(dict.fromkeys(entry for entry in entries if entry))


def counts(name: str, texts: Iterable[str]) -> tuple[int, ...]:
    """Whole numbers of an option, each once, in the order given.

    Parameters
    ----------
    texts
        Numbers and ranges, between commas or one an entry. Ranges hold their last value where a step meets it:
        ``256:1024:256`` is 256, 512, 768, 1024; ``1:64:x2`` is 1, 2, 4 … 64; ``10:1000:log5`` is five values at equal
        ratios.

    Raises
    ------
    WorkloadError
        If a text is none of these.
    """
    found: dict[int, None] = {}
    for text in words(texts):
        found |= dict.fromkeys(_range(name, text))
    if not found:
        raise WorkloadError(f"{name}: got nothing, {_FORMS}")
    return tuple(found)


def _range(name: str, text: str) -> list[int]:
    parts = text.split(":")
    try:
        if len(parts) == 1:
            return [int(text)]
        if len(parts) == 3:
            values = _values(int(parts[0]), int(parts[1]), parts[2].strip().lower())
            if values is not None:
                return values
    except ValueError:
        pass
    raise WorkloadError(f"{name}: got {text!r:.60}, {_FORMS}")


def _values(first: int, last: int, how: str) -> list[int] | None:
    """Values of a range; nothing where it can't be one."""
    if last < first:
        return None
    if how.startswith("log"):
        points = int(how[3:])
        if first < 1 or not 2 <= points <= _MOST_VALUES:
            return None
        ratio = math.log(last / first) / (points - 1)
        return [round(first * math.exp(ratio * i)) for i in range(points)]
    if how.startswith("x"):
        factor = float(how[1:])
        if first < 1 or not 1 < factor < math.inf:
            return None
        steps = math.floor(math.log(last / first) / math.log(factor) + 1e-9)
        return [round(first * factor**i) for i in range(min(steps, _MOST_VALUES) + 1)]
    step = int(how)
    if step < 1 or (last - first) // step > _MOST_VALUES:
        return None
    return list(range(first, last + 1, step))
