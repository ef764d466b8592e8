"""Edit distance of short texts."""

from __future__ import annotations

__all__ = ["distance", "similarity"]


def distance(first: str, second: str) -> int:
    """Fewest insertions, deletions and substitutions of a character (Levenshtein, 1966).

    Examples
    --------
    >>> distance("kitten", "sitting")
    3
    """
    if len(first) < len(second):
        first, second = second, first
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, b in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (a != b))
    return row[-1]


def similarity(first: str, second: str, *, lowest: float = 0.0) -> float:
    """One minus the distance over the longer length; 0 at once where the lengths rule out ``lowest``."""
    longest = max(len(first), len(second))
    if longest == 0:
        return 1.0
    if 1 - abs(len(first) - len(second)) / longest < lowest:
        return 0.0
    return 1 - distance(first, second) / longest
