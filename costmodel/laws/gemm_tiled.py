"""GEMM as tiles over multiprocessors, k split where that helps, against memory with a cache (equation 47)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.laws.cache import CACHE_PARAMETERS, memory_s, seconds_per_byte
from costmodel.laws.throttling import THROTTLING_PARAMETERS, throttled
from costmodel.laws.waves import RAGGED, waves
from costmodel.ops import Gemm, Num, Op, dtype_of
from costmodel.units import GIGA, MICRO, NANO

__all__ = ["GEMM_LAWS", "GEMM_PARAMETERS", "Tile", "gemm_memory_s", "step_s", "tile_s"]

Vector = NDArray[np.float64]
Tile = tuple[Num, Num]

# Output tiles (rows, columns) that GEMM libraries choose from. Small ones exist on every device, but not
# every library takes them: a variant of the law each.
_TILES = (
    (64, 64),
    (64, 128),
    (64, 256),
    (128, 64),
    (128, 128),
    (128, 256),
    (256, 64),
    (256, 128),
)
_SMALL_TILES = ((16, 64), (16, 128), (32, 64))
# Blocks that share an output tile along k.
_SPLITS = (1, 2, 4, 8, 16)
_FINE_SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)

GEMM_PARAMETERS = (
    Parameter("fixed_s", "s", start=2.5 * MICRO, low=0.5 * MICRO, high=100 * MICRO, prior_sd=0.5),
    Parameter("compute_efficiency", "1", start=0.75, low=0.1, high=1.0, prior_sd=0.3),
    *CACHE_PARAMETERS,
    Parameter("sharpness", "1", start=2.5, low=1.0, high=12.0, prior_sd=0.5),
    Parameter("tile_sharpness", "1", start=3.0, low=1.0, high=12.0, prior_sd=0.5),
    Parameter("tile_bytes_per_s", "B/s", start=100 * GIGA, low=10 * GIGA, high=1000 * GIGA, prior_sd=0.7),
    Parameter("step_s", "s", start=1 * NANO, low=0.01 * NANO, high=100 * NANO, prior_sd=1.0),
    Parameter("prologue_steps", "1", start=150.0, low=5.0, high=3000.0, prior_sd=0.7),
    RAGGED,
    *THROTTLING_PARAMETERS,
)
_SPLIT = Parameter("split_s", "s", start=1 * MICRO, low=0.01 * MICRO, high=10 * MICRO, prior_sd=1.0)


def gemm_memory_s(op: Gemm, coefficients: Mapping[str, float], peaks: Peaks) -> Num:
    """Time to move operands and result; only weights that take their turn can be found in the cache."""
    return memory_s(op.bytes, op.weight_copies * op.weight_bytes, coefficients, peaks)


def step_s(dtype_name: str, tile: Tile, coefficients: Mapping[str, float], peaks: Peaks) -> Num:
    """Time of one block for one step along k: its products or its loads, never less than a latency (equation 46)."""
    rows, columns = tile
    dtype = dtype_of(dtype_name)
    sharpness = coefficients["tile_sharpness"]
    rate = coefficients["compute_efficiency"] * peaks.flops_per_s(dtype.compute) / peaks.multiprocessors
    loaded = dtype.activation_bytes * rows + dtype.weight_bytes * columns
    busy_s = smooth_max(2.0 * rows * columns / rate, loaded / coefficients["tile_bytes_per_s"], sharpness)
    return smooth_max(busy_s, coefficients["step_s"], sharpness)


def tile_s(
    op: Gemm, tile: Tile, split: Num, coefficients: Mapping[str, float], peaks: Peaks, *, m: Num | None = None
) -> Num:
    """Time of all waves of one kernel (equation 46).

    Parameters
    ----------
    tile
        Rows and columns of the output tile.
    split
        Blocks that share an output tile along k.
    m
        Rows to compute, if not those of the operator.
    """
    rows, columns = tile
    blocks = np.ceil((op.m if m is None else m) / rows) * np.ceil(op.n / columns) * split
    steps = op.k / split + coefficients["prologue_steps"]
    wave_count = waves(blocks / peaks.multiprocessors, coefficients["wave_quantisation"])
    return wave_count * steps * step_s(op.dtype, tile, coefficients, peaks)


def _terms(
    op: Op,
    coefficients: Mapping[str, float],
    peaks: Peaks,
    *,
    tiles: tuple[tuple[int, int], ...],
    splits: tuple[int, ...],
) -> Terms:
    if not isinstance(op, Gemm):
        raise TypeError(f"a GEMM law got {op.kind}")
    moved_s = gemm_memory_s(op, coefficients, peaks)
    # Every tile with every split, along a last axis of their own; the library is taken to choose the fastest.
    rows, columns, split = _choices(tiles, splits)
    trial = replace(op, m=_with_axis(op.m), n=_with_axis(op.n), k=_with_axis(op.k))
    of_tile: Any = {name: _with_axis(value) for name, value in coefficients.items()}
    cached_s = seconds_per_byte(0.0, of_tile, peaks)
    # Partial results of the split are written and summed in 32 bits.
    summed_s = np.where(split > 1, 4.0 * trial.m * trial.n * split * cached_s + of_tile["split_s"], 0.0)
    tried_s = tile_s(trial, (rows, columns), split, of_tile, peaks) + summed_s
    compute_s = throttled(np.min(tried_s, axis=-1), coefficients)
    both_s = smooth_max(compute_s, moved_s, coefficients["sharpness"])
    return Terms(coefficients["fixed_s"] + both_s, compute_s, moved_s)


@cache
def _choices(tiles: tuple[tuple[int, int], ...], splits: tuple[int, ...]) -> tuple[Vector, Vector, Vector]:
    """Rows, columns and split of every combination."""
    rows, columns, split = np.array([(*tile, split) for split in splits for tile in tiles], dtype=float).T
    return rows, columns, split


def _with_axis(size: Num) -> Num:
    return size[..., np.newaxis] if isinstance(size, np.ndarray) else size


def _law(name: str, tiles: tuple[tuple[int, int], ...], splits: tuple[int, ...]) -> Law:
    return Law(name, "47", (*GEMM_PARAMETERS, _SPLIT), partial(_terms, tiles=tiles, splits=splits))


GEMM_LAWS = (
    _law("gemm_tiled", _TILES, _SPLITS),
    _law("gemm_tiled_fine_split", _TILES, _FINE_SPLITS),
    _law("gemm_tiled_small", (*_SMALL_TILES, *_TILES), _SPLITS),
)
