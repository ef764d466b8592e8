"""GEMM of fp8 operands with a scale for each block of them: the kernels of (48) behind a slow host (equation 97).

The calls that measure it quantise, transpose and pad scales from Python: 50 to 500 µs, which a short kernel hides
behind. A model replays its kernels from a graph, or pays the host through its engine profile, so that there only the
device's time counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np

from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.laws.gemm_quantised import QUANTISED_GEMM_LAWS
from costmodel.ops import Gemm, Num, Op
from costmodel.units import MICRO

__all__ = ["BLOCK_SCALED_GEMM_LAWS"]

# Fewer rows than this take a kernel of their own, with a quicker call.
_FEW_ROWS = 32
_SHARPNESS = 8.0

_PARAMETERS = (
    Parameter("call_s", "s", start=100 * MICRO, low=1 * MICRO, high=1000 * MICRO, prior_sd=1.5),
    Parameter("few_rows_share", "1", start=0.8, low=0.1, high=1.0, log=False, prior_sd=0.3),
)


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks, *, kernels: Law) -> Terms:
    device = kernels.terms(op, coefficients, peaks)
    call_s = _call_s(op, coefficients) if isinstance(op, Gemm) else 0.0
    return Terms(smooth_max(device.total_s, call_s, _SHARPNESS), device.compute_s, device.memory_s)


def _call_s(op: Gemm, coefficients: Mapping[str, float]) -> Num:
    """Time of the host's call; none in a model, whose weights do not take their turn as those of a benchmark do."""
    share = np.where(np.asarray(op.m) < _FEW_ROWS, coefficients["few_rows_share"], 1.0)
    return np.where(np.isfinite(op.weight_copies), share * coefficients["call_s"], 0.0)


BLOCK_SCALED_GEMM_LAWS = tuple(
    Law(
        law.name.replace("quantised", "block_scaled"),
        "97",
        (*law.parameters, *_PARAMETERS),
        partial(_terms, kernels=law),
    )
    for law in QUANTISED_GEMM_LAWS
)
