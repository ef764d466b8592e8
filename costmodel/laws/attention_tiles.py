"""Tiles of attention kernels: their sizes, the time of one, and keys split over idle multiprocessors (equation 49)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from costmodel.laws.base import Parameter, Peaks, smooth_max
from costmodel.laws.cache import CACHE_PARAMETERS
from costmodel.laws.throttling import THROTTLING_PARAMETERS
from costmodel.laws.waves import RAGGED
from costmodel.ops import Num, dtype_of
from costmodel.units import MICRO

__all__ = ["TILE_PARAMETERS", "WIDE_HEAD", "TileTable", "cell_s", "shortened_by_split", "with_tiles_of_head"]

# Head size up to which a tile is used, with the queries and keys of the tile, by ascending head size.
TileTable = tuple[tuple[int, tuple[int, int]], ...]

# No kernel splits fewer tiles of keys than this.
_LEAST_SPLIT_TILES = 4.0
_NARROW_HEAD = 64

TILE_PARAMETERS = (
    Parameter("compute_efficiency", "1", start=0.75, low=0.1, high=1.0, prior_sd=0.3),
    Parameter("exponential_ratio", "1", start=0.004, low=0.0002, high=0.1, prior_sd=0.5),
    Parameter("overlap", "1", start=1.5, low=1.0, high=12.0, prior_sd=0.5),
    Parameter("block_s", "s", start=1 * MICRO, low=0.01 * MICRO, high=50 * MICRO),
    *CACHE_PARAMETERS,
    Parameter("sharpness", "1", start=2.5, low=1.0, high=12.0, prior_sd=0.5),
    RAGGED,
    *THROTTLING_PARAMETERS,
)
# Extra cost of a tile with a wide head, beyond what its FLOPs say.
WIDE_HEAD = Parameter("wide_head", "1", start=0.0, low=0.0, high=1.0, log=False, prior_sd=0.2)


def with_tiles_of_head(table: TileTable, head_dim: Num, time_of: Callable[[Num, float, float], Num]) -> Num:
    """Time with the tile that a kernel uses at each head size, never less than a narrower head takes.

    Parameters
    ----------
    head_dim
        Head size; beyond the table its last tile holds.
    time_of
        Time at a head size, with so many queries and keys in a tile.
    """
    time_s: Num = 0.0
    above = 0.0
    for index, (limit, (rows, columns)) in enumerate(table):
        wider = np.asarray(head_dim) > above
        if not wider.any():
            break
        capped = np.minimum(head_dim, limit) if index < len(table) - 1 else head_dim
        reached = time_of(capped, float(rows), float(columns))
        time_s = np.maximum(time_s, np.where(wider, reached, 0.0))
        above = float(limit)
    return time_s


def cell_s(queries: Num, keys: Num, head_dim: Num, dtype: str, coefficients: Mapping[str, float], peaks: Peaks) -> Num:
    """Time that one multiprocessor takes for one tile: products and exponentials, overlapping (equation 49)."""
    peak = peaks.flops_per_s(dtype_of(dtype).compute)
    products = 4.0 * head_dim / coefficients["compute_efficiency"]
    per_pair = smooth_max(products, 1.0 / coefficients["exponential_ratio"], coefficients["overlap"])
    wide: Num = np.where(np.asarray(head_dim) > _NARROW_HEAD, 1.0 + coefficients["wide_head"], 1.0)
    return queries * keys * per_pair * wide * peaks.multiprocessors / peak


def shortened_by_split(tiles: Num, blocks: Num, coefficients: Mapping[str, float]) -> Num:
    """Tiles of keys that a block works through when idle multiprocessors take their share (equation 49)."""
    splits = np.minimum(np.maximum(coefficients["split_gain"] / blocks, 1.0), coefficients["max_splits"])
    return np.maximum(np.minimum(tiles, _LEAST_SPLIT_TILES), tiles / splits)
