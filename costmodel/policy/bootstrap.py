"""Intervals of accuracies and of their differences, from one set of items.

Items are drawn with replacement, all policies together (paired). Items on which the same policies are right are
interchangeable, so the draw is of how often each such pattern occurs: the same distribution, whatever the item count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.quantity import Quantity, normal_quantile

__all__ = ["PairedAccuracy", "wilson"]

_DRAWS = 4000


@dataclass(frozen=True, slots=True)
class PairedAccuracy:
    """Accuracy of several policies on the same items, and draws of it (equation 80).

    Attributes
    ----------
    values
        Of every policy.
    draws
        One row a draw, one column a policy.
    """

    values: NDArray[np.float64]
    draws: NDArray[np.float64]
    items: int

    @classmethod
    def of(cls, correct: NDArray[np.bool_], *, seed: int = 0, draws: int = _DRAWS) -> PairedAccuracy:
        """Draw from a table of correctness: one row a policy, one column an item."""
        items = correct.shape[1]
        patterns, counts = np.unique(correct, axis=1, return_counts=True)
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(items, counts / items, size=draws) / items
        return cls(correct.mean(axis=1), drawn @ patterns.T.astype(float), items)

    def accuracy(self, index: int, interval: float) -> Quantity:
        """Accuracy of one policy; where all or no answers are right, by Wilson's score, which is not a point there."""
        value = float(self.values[index])
        low, high = self._quantiles(self.draws[:, index], interval)
        if value in (0.0, 1.0):
            low, high = wilson(value, self.items, interval)
        return Quantity(value=value, low=min(low, value), high=max(high, value))

    def difference(self, first: int, second: int, interval: float) -> Quantity:
        """Accuracy of one policy minus that of another, on the same draws."""
        low, high = self._quantiles(self.draws[:, first] - self.draws[:, second], interval)
        value = float(self.values[first] - self.values[second])
        return Quantity(value=value, low=min(low, value), high=max(high, value))

    @staticmethod
    def _quantiles(draws: NDArray[np.float64], interval: float) -> tuple[float, float]:
        low, high = np.quantile(draws, [(1 - interval) / 2, (1 + interval) / 2])
        return float(low), float(high)


def wilson(share: float, count: int, interval: float) -> tuple[float, float]:
    """Score interval of a share of ``count`` (Wilson, 1927)."""
    z = normal_quantile(interval)
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * math.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return max(centre - half, 0.0), min(centre + half, 1.0)
