"""The smooth roofline: a fixed cost plus the smooth maximum of compute time and memory time (equation 12)."""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.ops import Op, dtype_of
from costmodel.units import MICRO

__all__ = ["ROOFLINE"]


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks) -> Terms:
    memory_s = op.bytes / (coefficients["memory_efficiency"] * peaks.memory_bytes_per_s)
    if op.kind in ("elementwise", "copy"):
        return Terms(coefficients["fixed_s"] * op.launches + memory_s, 0.0 * memory_s, memory_s)
    peak = peaks.flops_per_s(dtype_of(op.dtype).compute)
    compute_s = op.flops / (coefficients["compute_efficiency"] * peak)
    both_s = smooth_max(compute_s, memory_s, coefficients["sharpness"])
    return Terms(coefficients["fixed_s"] + both_s, compute_s, memory_s)


ROOFLINE = Law(
    name="roofline",
    equation="12",
    parameters=(
        Parameter("fixed_s", "s", start=5 * MICRO, low=0.2 * MICRO, high=500 * MICRO, prior_sd=1.5),
        Parameter("compute_efficiency", "1", start=0.6, low=0.001, high=1.05),
        Parameter("memory_efficiency", "1", start=0.7, low=0.01, high=1.05),
        Parameter("sharpness", "1", start=2.5, low=1.0, high=12.0),
    ),
    terms=_terms,
)
