"""A value with an interval, and the normal quantile behind it."""

from __future__ import annotations

import math
from statistics import NormalDist

from costmodel.specs.base import Frozen

__all__ = ["Quantity", "normal_quantile"]


def normal_quantile(interval: float) -> float:
    """Half-width, in standard deviations, of the central interval that holds ``interval`` of a normal law."""
    return NormalDist().inv_cdf(0.5 + interval / 2)


class Quantity(Frozen):
    """A value and the interval it is expected in."""

    value: float
    low: float
    high: float

    @classmethod
    def from_log_sd(cls, value: float, log_sd: float, *, interval: float) -> Quantity:
        """Log-normal interval around ``value``."""
        factor = math.exp(normal_quantile(interval) * log_sd)
        return cls(value=value, low=value / factor, high=value * factor)
