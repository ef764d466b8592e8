"""Time of the operators of several stages at once: each law is asked once for all of its operators (equation 14).

Sizes may be arrays that broadcast. Then a stage stands for many requests, and so does its time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from costmodel.estimate import Estimate
from costmodel.lawbook import FittedLaw, LawBook
from costmodel.laws.base import Terms
from costmodel.ops import Num, Op
from costmodel.ops.stack import at_points, stacked
from costmodel.program import Component

__all__ = ["OperatorTimes"]

_Place = tuple[int, str]
"""A stage, and the key of a law."""


@dataclass(frozen=True, slots=True)
class _Run:
    """Operators of one stage that were priced together: rows of a stack, and their places among all operators."""

    place: _Place
    law: FittedLaw
    first: int
    rows: NDArray[np.float64]
    members: tuple[int, ...]
    terms: Terms
    counts: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Leader:
    """An operator that takes most of the time of its law: everywhere (no ``points``), or at some points."""

    place: _Place
    law: FittedLaw
    op: Op
    points: NDArray[np.bool_] | None


class OperatorTimes:
    """Times of stages, each given as its components.

    Parameters
    ----------
    book
        Laws of the device.
    stages
        Components of every stage.
    """

    def __init__(self, book: LawBook, stages: Sequence[Sequence[Component]]) -> None:
        entries = [(s, c.count, op) for s, stage in enumerate(stages) for c in stage for op in c.ops]
        self._ops = [op for _, _, op in entries]
        self._stage_of = [stage for stage, _, _ in entries]
        self._counts = np.array([count for _, count, _ in entries], dtype=float)
        self._groups = [(book.law_of(stack.op), stack) for stack in stacked(self._ops)]
        self._terms = [law.terms(stack.op) for law, stack in self._groups]

    @cached_property
    def _runs(self) -> list[_Run]:
        runs = []
        for (law, stack), terms in zip(self._groups, self._terms, strict=True):
            members = stack.members
            total_s = np.asarray(terms.total_s)
            counts = self._counts[list(members)].reshape(-1, *(1,) * (total_s.ndim - 1))
            times = total_s * counts
            for start, end in _equal_runs([self._stage_of[i] for i in members]):
                place = (self._stage_of[members[start]], law.key)
                rows = slice(start, end)
                runs.append(_Run(place, law, start, times[rows], members[rows], terms, counts[rows]))
        return sorted(runs, key=lambda run: run.members[0])

    def laws(self, stage: int) -> dict[str, str]:
        """Keys of the laws of a stage, in order, with their tiers."""
        return {run.law.key: run.law.tier for run in self._runs if run.place[0] == stage}

    @cached_property
    def _values(self) -> dict[_Place, Num]:
        values: dict[_Place, Num] = {}
        for run in self._runs:
            sum_s = np.add.reduce(run.rows, axis=0)
            values[run.place] = values[run.place] + sum_s if run.place in values else sum_s
        return values

    def bound_s(self, stage: int) -> tuple[float, float]:
        """Compute time and memory time of a stage, as means over its points."""
        compute_s, memory_s = 0.0, 0.0
        for run in self._runs:
            if run.place[0] == stage:
                rows = slice(run.first, run.first + len(run.members))
                compute_s += _mean_sum(np.asarray(run.terms.compute_s)[rows], run.counts)
                memory_s += _mean_sum(np.asarray(run.terms.memory_s)[rows], run.counts)
        return compute_s, memory_s

    def estimate(self, stage: int, *, errors: bool) -> Estimate:
        """Time of a stage; without ``errors`` its sources of error are left out."""
        value: Num = np.float64(0.0)
        for place, part in self._values.items():
            if place[0] == stage:
                value = value + part
        if not errors:
            return Estimate(value)
        sds = {p[1]: self._values[p] * log_sd for p, log_sd in self._log_sds.items() if p[0] == stage}
        return Estimate(value, sds)

    @cached_property
    def _log_sds(self) -> dict[_Place, Num]:
        """Spread of every law (equation 55), at the operator that takes most of the time there."""
        leaders = [leader for place in self._values for leader in self._leaders(place)]
        found: dict[_Place, Num] = {}
        ops = [leader.op if leader.points is None else at_points(leader.op, leader.points) for leader in leaders]
        for stack in stacked(ops):
            log_sd = np.asarray(leaders[stack.members[0]].law.log_sd(stack.op))
            for row, member in enumerate(stack.members):
                leader = leaders[member]
                if leader.points is None:
                    found[leader.place] = log_sd[row]
                    continue
                whole = found.setdefault(leader.place, np.zeros(leader.points.shape))
                np.asarray(whole)[leader.points] = log_sd[row]
        return {place: found[place] for place in self._values}

    def _leaders(self, place: _Place) -> Iterator[_Leader]:
        runs = [run for run in self._runs if run.place == place]
        if len(runs) == 1 and len(runs[0].members) == 1:
            yield _Leader(place, runs[0].law, self._ops[runs[0].members[0]], None)
            return
        peaks = np.broadcast_arrays(*(run.rows.max(axis=0) for run in runs))
        winner = np.argmax(np.stack(peaks), axis=0)
        for index, run in enumerate(runs):
            heaviest = np.broadcast_to(np.argmax(run.rows, axis=0), winner.shape)
            here = winner == index
            for row in np.unique(heaviest[here]).tolist():
                points = here & (heaviest == row)
                everywhere = bool(points.all())
                yield _Leader(place, run.law, self._ops[run.members[row]], None if everywhere else points)


def _equal_runs(values: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Start and end of every run of equal values."""
    start = 0
    for index in range(1, len(values) + 1):
        if index == len(values) or values[index] != values[start]:
            yield start, index
            start = index


def _mean_sum(rows: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    return float((rows * counts).sum() * len(rows) / max(rows.size, 1))
