"""From rows of a journal to samples that count: those between two quiet anchors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrate.measure.telemetry import anchor_limits, is_quiet

__all__ = ["Location", "locate", "quiet_flags", "share_quiet", "trimmed_location"]

_TRIM = 0.2


@dataclass(frozen=True, slots=True)
class Location:
    """A robust mean of samples.

    Attributes
    ----------
    value_s, stderr_s
        Trimmed mean and its standard error.
    samples
        How many counted.
    """

    value_s: float
    stderr_s: float
    samples: int


def quiet_flags(rows: Sequence[Mapping[str, Any]]) -> list[bool]:
    """For each row in the order of writing: whether the anchors around it, and its CPU share, were undisturbed.

    Anchor rows themselves are never samples. A row with no anchor after it, in the same run of the writer, does not
    count: the writer was killed. Neither does one beside an anchor at which the device was throttled.
    """
    anchors = [row for row in rows if row.get("op") == "anchor"]
    if not anchors:
        return [False] * len(rows)
    limits = anchor_limits(anchors)
    before, after = _neighbours(rows), _neighbours(rows[::-1])[::-1]
    return [
        row.get("op") != "anchor"
        and first is not None
        and second is not None
        and not (first.get("throttled") or second.get("throttled"))
        and is_quiet(first, second, limits, cpu_share=row.get("cpu_share", 1.0))
        for row, first, second in zip(rows, before, after, strict=True)
    ]


def _neighbours(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any] | None]:
    """The last anchor before each row; none across the start of a run."""
    last: Mapping[str, Any] | None = None
    found = []
    for row in rows:
        found.append(last)
        if row.get("op") == "anchor":
            last = row
        elif row.get("op") == "start":
            last = None
    return found


def share_quiet(rows: Sequence[Mapping[str, Any]]) -> float:
    """Share of the samples that count."""
    flags = [quiet for row, quiet in zip(rows, quiet_flags(rows), strict=True) if "latency_s" in row]
    return sum(flags) / len(flags) if flags else 0.0


def locate(rows: Sequence[Mapping[str, Any]], *, least_quiet: int) -> dict[tuple[str, str], Location]:
    """Robust mean of every (item, component).

    Where fewer than ``least_quiet`` samples are undisturbed, all of them count and the median is taken: one-sided
    noise moves it less than the mean.
    """
    quiet: dict[tuple[str, str], list[float]] = defaultdict(list)
    everything: dict[tuple[str, str], list[float]] = defaultdict(list)
    for row, flag in zip(rows, quiet_flags(rows), strict=True):
        if "item" not in row:
            continue
        key = (row["item"], row.get("component", ""))
        everything[key].append(row["latency_s"])
        if flag:
            quiet[key].append(row["latency_s"])
    return {
        key: trimmed_location(quiet[key]) if len(quiet[key]) >= least_quiet else _median_location(values)
        for key, values in everything.items()
    }


def trimmed_location(values: Iterable[float]) -> Location:
    """Mean without the fastest and slowest 20 %, its standard error by the winsorised variance."""
    ordered = np.sort(np.fromiter(values, float))
    cut = int(len(ordered) * _TRIM)
    kept = ordered[cut : len(ordered) - cut]
    value = float(kept.mean())
    if len(ordered) < 2:
        return Location(value, value, len(ordered))
    winsorised = np.clip(ordered, kept[0], kept[-1])
    stderr = float(winsorised.std(ddof=1)) * len(ordered) ** 0.5 / len(kept)
    return Location(value, stderr, len(ordered))


def _median_location(values: Sequence[float]) -> Location:
    array: NDArray[np.float64] = np.asarray(values)
    value = float(np.median(array))
    # Standard error of a median, from the interquartile range of a normal law.
    spread = float(np.subtract(*np.percentile(array, [75, 25]))) / 1.349 if len(array) > 1 else value
    return Location(value, 1.2533 * spread / len(array) ** 0.5, len(array))
