"""GEMM of a kernel that nobody timed alone: a shortest time, hidden by work as that grows (equation 70).

With few rows such a kernel waits for its own pipeline (unpacking 4-bit weights, summing parts of k, quantising
activations before it), however small its matrix is. Three coefficients are few enough for whole requests to tell.
"""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.ops import Op, dtype_of
from costmodel.units import MICRO

__all__ = ["LATENCY_ROOFLINE"]


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks) -> Terms:
    memory_s = op.bytes / (coefficients["memory_efficiency"] * peaks.memory_bytes_per_s)
    peak = peaks.flops_per_s(dtype_of(op.dtype).compute)
    compute_s = op.flops / (coefficients["compute_efficiency"] * peak)
    sharpness = coefficients["sharpness"]
    busy_s = smooth_max(compute_s, memory_s, sharpness)
    return Terms(smooth_max(busy_s, coefficients["latency_s"], sharpness), compute_s, memory_s)


LATENCY_ROOFLINE = Law(
    name="latency_roofline",
    equation="70",
    parameters=(
        Parameter("latency_s", "s", start=10 * MICRO, low=0.5 * MICRO, high=300 * MICRO),
        Parameter("compute_efficiency", "1", start=0.6, low=0.01, high=1.05, prior_sd=0.4),
        Parameter("memory_efficiency", "1", start=0.75, low=0.01, high=1.05, prior_sd=0.4),
        Parameter("sharpness", "1", start=2.0, low=1.0, high=12.0, prior_sd=0.5),
    ),
    terms=_terms,
)
