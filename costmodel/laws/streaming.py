"""Kernels that only move memory, and empty ones (equations 42 and 43)."""

from __future__ import annotations

from collections.abc import Mapping

from costmodel.laws.base import Law, Parameter, Peaks, Terms
from costmodel.laws.cache import CACHE_PARAMETERS, memory_s
from costmodel.ops import Op
from costmodel.units import MICRO

__all__ = ["LAUNCH", "STREAMING"]

_FIXED = Parameter("fixed_s", "s", start=3 * MICRO, low=0.2 * MICRO, high=500 * MICRO, prior_sd=1.0)


def _streaming(op: Op, coefficients: Mapping[str, float], peaks: Peaks) -> Terms:
    moved_s = memory_s(op.bytes, op.bytes, coefficients, peaks)
    return Terms(coefficients["fixed_s"] * op.launches + moved_s, 0.0 * moved_s, moved_s)


def _launch(op: Op, coefficients: Mapping[str, float], peaks: Peaks) -> Terms:
    del peaks
    none = 0.0 * getattr(op, op.sizes[0])
    return Terms(coefficients["fixed_s"] * op.launches + none, none, none)


STREAMING = Law(name="streaming", equation="42", parameters=(_FIXED, *CACHE_PARAMETERS), terms=_streaming)
LAUNCH = Law(name="launch", equation="43", parameters=(_FIXED,), terms=_launch)
