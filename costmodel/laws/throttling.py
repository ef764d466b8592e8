"""Long kernels draw so much power that clocks fall (equation 45)."""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.laws.base import Parameter
from costmodel.ops import Num
from costmodel.units import MILLI

__all__ = ["THROTTLING_PARAMETERS", "throttled"]

THROTTLING_PARAMETERS = (
    Parameter("throttling", "1", start=0.1, low=0.0, high=1.0, log=False, prior_sd=0.3),
    Parameter("throttling_s", "s", start=2 * MILLI, low=0.1 * MILLI, high=100 * MILLI, prior_sd=1.0),
)


def throttled(compute_s: Num, coefficients: Mapping[str, float]) -> Num:
    """Compute time at the clock that the device keeps up for that long (equation 45)."""
    share = compute_s / (compute_s + coefficients["throttling_s"])
    return compute_s * (1.0 + coefficients["throttling"] * share)
