"""Attention of one new token: blocks that stream the cache, split over idle processors (equation 52)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from costmodel.laws.attention_tiles import TileTable, with_tiles_of_head
from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.laws.cache import CACHE_PARAMETERS, seconds_per_byte
from costmodel.ops import GenerationAttention, Num, Op, dtype_of
from costmodel.units import GIGA, MICRO, NANO

__all__ = ["GENERATION_LAWS"]


@dataclass(frozen=True, slots=True)
class _Variant:
    """Keys that a block takes at a time; whether only grouped heads are split, and copied to be grouped."""

    tiles: TileTable
    splits_groups_only: bool = False


_VARIANTS = {
    "128": _Variant(((256, (1, 128)),)),
    "256": _Variant(((256, (1, 256)),)),
    "256_grouped": _Variant(((64, (1, 256)), (128, (1, 128)), (256, (1, 64))), splits_groups_only=True),
}

_PARAMETERS = (
    Parameter("fixed_s", "s", start=9 * MICRO, low=1 * MICRO, high=300 * MICRO, prior_sd=0.5),
    Parameter("block_s", "s", start=2 * MICRO, low=0.01 * MICRO, high=50 * MICRO),
    Parameter("block_exponent", "1", start=0.9, low=0.4, high=1.0, log=False, prior_sd=0.2),
    Parameter("group_cost", "1", start=0.2, low=0.0, high=5.0, log=False, prior_sd=0.5),
    Parameter("multiprocessor_bytes_per_s", "B/s", start=80 * GIGA, low=5 * GIGA, high=1000 * GIGA, prior_sd=0.5),
    Parameter("block_bytes_per_s", "B/s", start=25 * GIGA, low=2 * GIGA, high=400 * GIGA),
    Parameter("query_s", "s", start=10 * NANO, low=0.01 * NANO, high=1 * MICRO, prior_sd=1.5),
    Parameter("max_splits", "1", start=32.0, low=1.0, high=256.0),
    Parameter("split_s", "s", start=1.5 * MICRO, low=0.01 * MICRO, high=50 * MICRO),
    *CACHE_PARAMETERS,
    Parameter("sharpness", "1", start=2.5, low=1.0, high=12.0, prior_sd=0.5),
)
_GROUPED_PARAMETERS = (Parameter("regroup_s", "s", start=2 * MICRO, low=0.01 * MICRO, high=50 * MICRO),)
# Query heads of one KV head that a tensor-core tile holds.
_GROUP_ROWS = 16.0


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks, *, variant: _Variant) -> Terms:
    if not isinstance(op, GenerationAttention):
        raise TypeError(f"a generation attention law got {op.kind}")
    group = op.num_heads / op.num_kv_heads
    blocks = op.batch * op.num_kv_heads / peaks.multiprocessors
    grouped = np.asarray(group > 1) if variant.splits_groups_only else np.asarray(True)
    splits = np.where(grouped, coefficients["max_splits"], 1.0)
    grid_s = coefficients["block_s"] * np.maximum(blocks, 1.0) ** coefficients["block_exponent"]
    grid_s = grid_s * (1.0 + coefficients["group_cost"] * group / _GROUP_ROWS)
    streamed_s = with_tiles_of_head(
        variant.tiles,
        op.head_dim,
        lambda head_dim, _, keys: _streamed_s(op, head_dim, keys, splits, coefficients, blocks),
    )
    tiles = with_tiles_of_head(variant.tiles, op.head_dim, lambda _head, _rows, keys: np.ceil(op.pairs / keys))
    cached = op.kv_bytes
    moved_s = cached * seconds_per_byte(op.kv_copies * cached, coefficients, peaks)
    moved_s = moved_s + (op.bytes - cached) * seconds_per_byte(0.0, coefficients, peaks)
    fixed_s = coefficients["fixed_s"] + coefficients["split_s"] * ((np.asarray(tiles) > 1) & grouped)
    if variant.splits_groups_only:
        regrouped = (group > 1) & (np.asarray(op.batch) > 1) & (np.asarray(op.num_kv_heads) > 1)
        fixed_s = fixed_s + coefficients["regroup_s"] * regrouped
    total_s = fixed_s + grid_s + smooth_max(streamed_s, moved_s, coefficients["sharpness"])
    return Terms(total_s, grid_s + streamed_s, moved_s)


def _streamed_s(
    op: GenerationAttention,
    head_dim: Num,
    keys: float,
    splits: Num,
    coefficients: Mapping[str, float],
    blocks: Num,
) -> Num:
    """Time of the busiest multiprocessor: of all its blocks together, or of its longest one."""
    tiles = np.ceil(op.pairs / keys)
    tile_bytes = 2.0 * dtype_of(op.kv_dtype).activation_bytes * head_dim * keys
    together_s = blocks * tiles / coefficients["multiprocessor_bytes_per_s"]
    longest_s = np.maximum(tiles / splits, 1.0) / coefficients["block_bytes_per_s"]
    queries = coefficients["query_s"] * op.num_heads / op.num_kv_heads
    return tile_bytes * np.maximum(together_s, longest_s) + queries * tiles * np.maximum(blocks, 1.0 / splits)


GENERATION_LAWS = tuple(
    Law(
        f"generation_attention_{name}",
        "52",
        (*_PARAMETERS, *_GROUPED_PARAMETERS) if variant.splits_groups_only else _PARAMETERS,
        partial(_terms, variant=variant),
    )
    for name, variant in _VARIANTS.items()
)
