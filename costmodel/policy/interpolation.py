"""Estimates between those that were made: over one size, with every source of error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.estimate import Estimate

__all__ = ["Table", "broadcast", "spread", "whole_grid"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Table:
    """An estimate over a grid; a source of error that a point lacks is 0 there."""

    grid: Floats
    value_s: Floats
    sd_s: dict[str, Floats]

    @classmethod
    def of(cls, grid: Sequence[float], estimates: Sequence[Estimate]) -> Table:
        """Tabulate one estimate for each point of the grid."""
        sources = dict.fromkeys(source for each in estimates for source in each.sd_s)
        return cls(
            np.array(grid, dtype=float),
            np.array([float(each.value_s) for each in estimates]),
            {s: np.array([float(each.sd_s.get(s, 0.0)) for each in estimates]) for s in sources},
        )

    @classmethod
    def over(cls, grid: Floats, each: Estimate) -> Table:
        """Tabulate an estimate that was made for the whole grid at once."""
        spread_out = broadcast(each, grid.shape)
        return cls(grid, np.asarray(spread_out.value_s), {s: np.asarray(sd) for s, sd in spread_out.sd_s.items()})

    def at(self, x: Floats) -> Estimate:
        """Interpolated."""
        return Estimate(
            np.interp(x, self.grid, self.value_s),
            {source: np.interp(x, self.grid, sd) for source, sd in self.sd_s.items()},
        )

    def integral(self, start: Floats, end: Floats) -> Estimate:
        """Integral of the interpolation from ``start`` to ``end``."""

        def between(values: Floats) -> Floats:
            steps = np.diff(self.grid) * (values[1:] + values[:-1]) / 2
            cumulated = np.concatenate([[0.0], np.cumsum(steps)])
            return _primitive(end, self.grid, values, cumulated) - _primitive(start, self.grid, values, cumulated)

        return Estimate(between(self.value_s), {source: between(sd) for source, sd in self.sd_s.items()})


def _primitive(x: Floats, grid: Floats, values: Floats, cumulated: Floats) -> Floats:
    """Integral from the start of the grid of a function that is linear between its points."""
    cell = np.clip(np.searchsorted(grid, x, side="right") - 1, 0, len(grid) - 2)
    offset, width = x - grid[cell], grid[cell + 1] - grid[cell]
    slope = (values[cell + 1] - values[cell]) / width
    return np.asarray(cumulated[cell] + offset * (values[cell] + slope * offset / 2))


def whole_grid(values: Floats, points: int) -> Floats:
    """Whole lengths that span the values, at least two."""
    low, high = np.floor(values.min()), np.ceil(values.max())
    return np.unique(np.round(np.linspace(low, max(high, low + 1), points)))


def spread(indices: NDArray[np.int64], by: Floats, count: int) -> NDArray[np.int64]:
    """At most ``count`` of the indices, evenly over their range of ``by``, the ends among them."""
    order = indices[np.argsort(by[indices], kind="stable")]
    _, first = np.unique(by[order], return_index=True)
    order = order[first]
    wanted = np.linspace(by[order[0]], by[order[-1]], count)
    return np.asarray(order[np.unique(np.clip(np.searchsorted(by[order], wanted), 0, len(order) - 1))])


def broadcast(each: Estimate, shape: tuple[int, ...]) -> Estimate:
    """One estimate for all items."""
    return Estimate(
        np.broadcast_to(each.value_s, shape), {source: np.broadcast_to(sd, shape) for source, sd in each.sd_s.items()}
    )
