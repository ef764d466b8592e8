"""Runs work items in random order, over and over, with anchors between them, until they are known well enough.

One pool holds everything: all operators and all slices of all models. A slow spell of the machine then falls on a
few samples of everything instead of on all samples of one item.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibrate.measure.device import Device
from calibrate.measure.journal import Journal
from calibrate.measure.samples import locate
from calibrate.measure.telemetry import Anchors, anchor_row

__all__ = ["StoppingRule", "Visit", "WorkItem", "run_pool"]

# Seconds of work between two anchors: short against the spells of a shared machine.
_BETWEEN_ANCHORS_S = 0.25
# The clock has settled when as many GEMM anchors in a row differ by no more than this.
_SETTLED_ANCHORS, _SETTLED_RATIO, _MOST_SETTLING_S = 4, 1.05, 3.0


@dataclass(frozen=True, slots=True)
class Visit:
    """One sample of one component of an item.

    Attributes
    ----------
    raw_s
        Single timings, in seconds; their mean is the sample.
    """

    component: str
    raw_s: tuple[float, ...]
    fields: Mapping[str, Any]

    @property
    def latency_s(self) -> float:
        """Mean of the timings."""
        return sum(self.raw_s) / len(self.raw_s)


@dataclass(frozen=True, slots=True)
class WorkItem:
    """Something to time.

    Attributes
    ----------
    key
        Identity: the same over runs, so that a resumed calibration finds what it has.
    fields
        Written into every row of the item.
    visit
        Runs it once and returns what was timed.
    """

    key: str
    fields: Mapping[str, Any]
    visit: Callable[[], Sequence[Visit]]


@dataclass(frozen=True, slots=True)
class StoppingRule:
    """When an item is known well enough, and when the pool ends anyway.

    Attributes
    ----------
    relative_stderr
        Wanted standard error of the mean, relative to it.
    least_samples
        Undisturbed samples that an item needs at least.
    most_sweeps
        Visits of an item at most.
    least_s, most_s
        Bounds on the time of the whole pool.
    """

    relative_stderr: float = 0.01
    least_samples: int = 5
    most_sweeps: int = 40
    least_s: float = 2.0
    most_s: float = 60.0


def run_pool(
    items: Sequence[WorkItem],
    device: Device,
    journal: Journal,
    *,
    rule: StoppingRule,
    seed: int,
    progress: Callable[[float, str], None],
) -> str:
    """Measure until the rule says stop.

    Parameters
    ----------
    progress
        Called with the share done (0…1) and a word on what is running.

    Returns
    -------
    str
        Why it stopped: ``confidence``, ``time`` or ``sweeps``.
    """
    anchors = Anchors(device)
    _warm_up(items, anchors, progress)
    rng = random.Random(seed + len(journal))
    started = time.monotonic()
    journal.append({"op": "start"})
    journal.append(anchor_row(anchors, device))
    reason = "sweeps"
    for sweep in range(rule.most_sweeps):
        open_items = _open_items(items, journal, rule)
        elapsed = time.monotonic() - started
        if not open_items and elapsed >= rule.least_s:
            reason = "confidence"
            break
        order = open_items or list(items)
        rng.shuffle(order)
        if not _sweep(order, device, journal, anchors, started + rule.most_s, progress, started):
            reason = "time"
            break
        progress(min((time.monotonic() - started) / rule.most_s, 1.0), f"sweep {sweep + 1}")
    journal.append({"op": "stop", "reason": reason, "elapsed_s": time.monotonic() - started})
    return reason


def _sweep(
    order: Sequence[WorkItem],
    device: Device,
    journal: Journal,
    anchors: Anchors,
    deadline: float,
    progress: Callable[[float, str], None],
    started: float,
) -> bool:
    """Visit every item once; ``False`` when time ran out on the way."""
    last_anchor = time.monotonic()
    for item in order:
        now = time.monotonic()
        if now >= deadline:
            journal.append(anchor_row(anchors, device))
            return False
        cpu_start, wall_start = time.process_time(), time.perf_counter()
        visits = item.visit()
        device.synchronize()
        wall_s, cpu_s = time.perf_counter() - wall_start, time.process_time() - cpu_start
        cpu_share = cpu_s / wall_s if device.kind == "cpu" else 1.0
        for visit in visits:
            journal.append(_row(item, visit, cpu_share))
        if time.monotonic() - last_anchor >= _BETWEEN_ANCHORS_S:
            journal.append(anchor_row(anchors, device))
            last_anchor = time.monotonic()
            progress(min((last_anchor - started) / (deadline - started), 1.0), item.key)
    journal.append(anchor_row(anchors, device))
    return True


def _warm_up(items: Sequence[WorkItem], anchors: Anchors, progress: Callable[[float, str], None]) -> None:
    """First calls build kernels and caches, and clocks take time to settle; neither is ever a sample."""
    for item in items:
        progress(0.0, f"warm-up {item.key}")
        item.visit()
    recent: deque[float] = deque(maxlen=_SETTLED_ANCHORS)
    deadline = time.monotonic() + _MOST_SETTLING_S
    while time.monotonic() < deadline:
        recent.append(anchors.measure()["gemm_s"])
        if len(recent) == _SETTLED_ANCHORS and max(recent) <= _SETTLED_RATIO * min(recent):
            return


def _open_items(items: Sequence[WorkItem], journal: Journal, rule: StoppingRule) -> list[WorkItem]:
    """Items with a component that is not known well enough yet."""
    rows = list(journal)
    known: dict[str, bool] = {}
    for (key, _), location in locate(rows, least_quiet=rule.least_samples).items():
        enough = location.samples >= rule.least_samples and location.stderr_s <= rule.relative_stderr * location.value_s
        known[key] = known.get(key, True) and enough
    return [item for item in items if not known.get(item.key, False)]


def _row(item: WorkItem, visit: Visit, cpu_share: float) -> dict[str, Any]:
    return {
        "item": item.key,
        **item.fields,
        **visit.fields,
        "component": visit.component,
        "latency_s": visit.latency_s,
        "raw_s": list(visit.raw_s),
        "samples": len(visit.raw_s),
        "cpu_share": cpu_share,
    }
