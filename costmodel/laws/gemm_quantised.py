"""GEMM of 8 or 4 bits whose activations are quantised by a kernel before it (equation 48)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial

import numpy as np

from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.laws.gemm_tiled import GEMM_PARAMETERS, Tile, gemm_memory_s, tile_s
from costmodel.laws.throttling import throttled
from costmodel.ops import Gemm, Num, Op
from costmodel.units import MICRO

__all__ = ["QUANTISED_GEMM_LAWS"]

# Libraries for quantised GEMMs choose the tile by m alone: up to so many rows, this tile.
_Rule = tuple[tuple[float, Tile], ...]
_BY_ROWS: _Rule = ((64, (64, 64)), (128, (64, 128)), (np.inf, (128, 128)))
_BY_ROWS_FROM_16: _Rule = (
    (16, (16, 64)),
    (32, (32, 64)),
    (64, (64, 64)),
    (128, (64, 128)),
    (256, (128, 64)),
    (np.inf, (128, 128)),
)
_LEAST: tuple[Tile, ...] = ((16, 64), (32, 64), (64, 64), (64, 128), (128, 64), (128, 128))
_QUANTISE_SHARPNESS = 2.0

_PARAMETERS = (
    *(dataclasses.replace(p, start=4.5 * MICRO, prior_sd=0.5) if p.name == "fixed_s" else p for p in GEMM_PARAMETERS),
    Parameter("quantise_passes", "B", start=4.0, low=0.3, high=40.0),
    Parameter("quantise_k", "1", start=500.0, low=5.0, high=50000.0, prior_sd=1.0),
)


def _by_rule(op: Gemm, coefficients: Mapping[str, float], peaks: Peaks, *, rule: _Rule) -> Num:
    """Tile chosen by m; never less than what fewer rows took with the tile that they get."""
    time_s: Num = 0.0
    above = 0.0
    for limit, tile in rule:
        reached = tile_s(op, tile, 1, coefficients, peaks, m=np.minimum(op.m, limit))
        time_s = np.maximum(time_s, np.where(op.m > above, reached, 0.0))
        above = limit
    return time_s


def _least(op: Gemm, coefficients: Mapping[str, float], peaks: Peaks) -> Num:
    time_s: Num = np.inf
    for tile in _LEAST:
        time_s = np.minimum(time_s, tile_s(op, tile, 1, coefficients, peaks))
    return time_s


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks, *, rule: _Rule | None) -> Terms:
    if not isinstance(op, Gemm):
        raise TypeError(f"a GEMM law got {op.kind}")
    moved_s = gemm_memory_s(op, coefficients, peaks)
    tiled_s = _least(op, coefficients, peaks) if rule is None else _by_rule(op, coefficients, peaks, rule=rule)
    compute_s = throttled(tiled_s, coefficients)
    both_s = smooth_max(compute_s, moved_s, coefficients["sharpness"])
    width = smooth_max(op.k, coefficients["quantise_k"], _QUANTISE_SHARPNESS)
    quantise_s = coefficients["quantise_passes"] * op.m * width / peaks.memory_bytes_per_s
    return Terms(coefficients["fixed_s"] + both_s + quantise_s, compute_s, moved_s + quantise_s)


QUANTISED_GEMM_LAWS = (
    Law("gemm_quantised_by_rows", "48", _PARAMETERS, partial(_terms, rule=_BY_ROWS)),
    Law("gemm_quantised_by_rows_from_16", "48", _PARAMETERS, partial(_terms, rule=_BY_ROWS_FROM_16)),
    Law("gemm_quantised_least", "48", _PARAMETERS, partial(_terms, rule=None)),
)
