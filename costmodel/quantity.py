"""A value with an interval, and the normal quantile behind it."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from costmodel.errors import WorkloadError
from costmodel.ops.formats import Num
from costmodel.specs.base import Frozen

__all__ = ["Quantity", "normal_quantile", "widening"]

# Wider than this either way says that nothing is known; more would overflow.
_MOST_LOG_WIDTH = 100.0


def normal_quantile(interval: float) -> float:
    """Half-width, in standard deviations, of the central interval that holds ``interval`` of a normal law.

    Raises
    ------
    WorkloadError
        If ``interval`` is not a probability between 0 and 1.
    """
    if not 0.5 < 0.5 + interval / 2 < 1:
        raise WorkloadError(f"interval is {interval}, expected a probability between 0 and 1, for example 0.9")
    return NormalDist().inv_cdf(0.5 + interval / 2)


def widening(log_sd: Num, *, interval: float) -> Num:
    """Factor by which a value is divided and multiplied for the ends of its log-normal interval."""
    return np.exp(np.minimum(normal_quantile(interval) * log_sd, _MOST_LOG_WIDTH))


class Quantity(Frozen):
    """A value and the interval it is expected in."""

    value: float
    low: float
    high: float

    @classmethod
    def exactly(cls, value: float) -> Quantity:
        """A value alone."""
        return cls(value=value, low=value, high=value)

    @classmethod
    def from_log_sd(cls, value: float, log_sd: float, *, interval: float) -> Quantity:
        """Log-normal interval around ``value``."""
        factor = float(widening(log_sd, interval=interval))
        return cls(value=value, low=value / factor, high=value * factor)
