"""Grouped GEMMs of a mixture of experts: tiles of every expert in use, against their weights (equation 54)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.laws.cache import memory_s
from costmodel.laws.gemm_tiled import GEMM_PARAMETERS, Tile, step_s
from costmodel.laws.throttling import throttled
from costmodel.laws.waves import waves
from costmodel.ops import MoeExperts, Num, Op
from costmodel.units import MICRO

__all__ = ["MOE"]

_TILES: tuple[Tile, ...] = ((16, 64), (32, 64), (64, 64), (64, 128), (128, 128))


def _grouped_s(
    op: MoeExperts, columns: Num, steps: Num, tile: Tile, coefficients: Mapping[str, float], peaks: Peaks
) -> Num:
    """Time of one grouped GEMM; an expert fills its last tile by half, on average."""
    active = op.active_experts
    row_tiles = np.maximum(active, active / 2.0 + op.tokens * op.top_k / tile[0])
    blocks = row_tiles * np.ceil(columns / tile[1]) / peaks.multiprocessors
    wave_count = waves(blocks, coefficients["wave_quantisation"])
    return wave_count * (steps + coefficients["prologue_steps"]) * step_s(op.dtype, tile, coefficients, peaks)


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks) -> Terms:
    if not isinstance(op, MoeExperts):
        raise TypeError(f"a mixture-of-experts law got {op.kind}")
    compute_s: Num = np.inf
    for tile in _TILES:
        up_s = _grouped_s(op, 2.0 * op.intermediate_size, op.hidden_size, tile, coefficients, peaks)
        down_s = _grouped_s(op, op.hidden_size, op.intermediate_size, tile, coefficients, peaks)
        compute_s = np.minimum(compute_s, up_s + down_s)
    compute_s = throttled(compute_s, coefficients)
    moved_s = memory_s(op.bytes, np.inf, coefficients, peaks)
    routed_s = coefficients["routed_row_s"] * op.tokens * op.top_k + coefficients["expert_s"] * op.active_experts
    both_s = smooth_max(compute_s, moved_s, coefficients["sharpness"])
    return Terms(coefficients["fixed_s"] + routed_s + both_s, compute_s, moved_s)


MOE = Law(
    name="moe_grouped",
    equation="54",
    parameters=(
        *(dataclasses.replace(p, start=20 * MICRO) if p.name == "fixed_s" else p for p in GEMM_PARAMETERS),
        Parameter("routed_row_s", "s", start=0.001 * MICRO, low=0.000001 * MICRO, high=1 * MICRO, prior_sd=1.5),
        Parameter("expert_s", "s", start=0.02 * MICRO, low=0.0001 * MICRO, high=10 * MICRO, prior_sd=1.5),
    ),
    terms=_terms,
)
