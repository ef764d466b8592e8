"""Time of decode steps over a grid of contexts, and its integral: what sums the steps of any answer in no time.

A step's time is taken as linear between contexts of the grid, sixteen to an octave; sums over steps are integrals of
that (equation 20), so that many answers share the contexts that are priced.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.estimate import Estimate
from costmodel.ops import Num

__all__ = ["StepTable", "knots"]

Floats = NDArray[np.float64]

_PER_OCTAVE = 16


def knots(first: float, last: float) -> Floats:
    """Contexts to price so that ``first`` to ``last`` lie between them: part of one grid for all sweeps."""
    low = np.floor(np.log2(max(first, 1.0)) * _PER_OCTAVE)
    high = max(np.ceil(np.log2(max(last, 1.0)) * _PER_OCTAVE), low + 1)
    return np.asarray(2.0 ** (np.arange(low, high + 1) / _PER_OCTAVE))


@dataclass(frozen=True, slots=True)
class StepTable:
    """Step time ``(contexts, batch)`` on a grid.

    Attributes
    ----------
    grid
        Contexts, ascending.
    step
        Time of a step there, with its sources of error.
    """

    grid: Floats
    step: Estimate

    @classmethod
    def of(cls, grid: Floats, batches: int, price: Callable[[Floats], Estimate]) -> StepTable:
        """Price the steps at the contexts of a grid, given as ``(contexts, 1)``."""
        shape = (len(grid), batches)
        return cls(grid, price(grid[:, np.newaxis]).mapped(lambda part: np.broadcast_to(part, shape)))

    def summed(self, first: Floats, last: Floats) -> Estimate:
        """Integral of the step time from ``first`` (requests) to ``last`` (requests, outputs).

        Returns
        -------
        Estimate
            Of shape ``(requests, outputs, batch)``.
        """
        width = np.diff(self.grid)
        places = [self._place(context) for context in (first[:, np.newaxis], last)]

        def integral(part: Num) -> Num:
            time_s = np.asarray(part)
            slope = np.diff(time_s, axis=0) / width[:, np.newaxis]
            areas = (time_s[1:] + time_s[:-1]) / 2 * width[:, np.newaxis]
            below = np.concatenate([np.zeros((1, time_s.shape[1])), np.cumsum(areas, axis=0)])
            start, end = (below[cell] + beyond * (time_s[cell] + slope[cell] * (beyond / 2)) for cell, beyond in places)
            return np.asarray(end - start)

        return self.step.mapped(integral)

    def _place(self, context: Floats) -> tuple[NDArray[np.intp], Floats]:
        """Cell of the grid, and how far into it, with an axis for the batch."""
        cell = np.clip(np.searchsorted(self.grid, context, side="right") - 1, 0, len(self.grid) - 2)
        return cell, (context - self.grid[cell])[..., np.newaxis]
