"""Causal attention of many new tokens: tiles of queries and keys in waves, against memory (equation 50)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from costmodel.laws.attention_tiles import (
    TILE_PARAMETERS,
    WIDE_HEAD,
    TileTable,
    cell_s,
    shortened_by_split,
    with_tiles_of_head,
)
from costmodel.laws.base import Law, Parameter, Peaks, Terms, smooth_max
from costmodel.laws.cache import seconds_per_byte
from costmodel.laws.throttling import throttled
from costmodel.laws.waves import waves
from costmodel.ops import ContextAttention, Num, Op
from costmodel.units import MICRO

__all__ = ["CONTEXT_LAWS"]


@dataclass(frozen=True, slots=True)
class _Variant:
    """Tiles of one kernel family, whether a tile holds the query heads of a KV head, and whether it splits keys."""

    tiles: TileTable
    packs_heads: bool = False
    splits_keys: bool = False


_VARIANTS = {
    "192x128": _Variant(((64, (192, 128)), (128, (128, 128)), (256, (128, 80))), splits_keys=True),
    "64x256": _Variant(((64, (64, 256)), (128, (64, 128)), (256, (64, 64)))),
    "256x128": _Variant(((128, (256, 128)), (256, (128, 128))), packs_heads=True),
    "128x128": _Variant(((256, (128, 128)),)),
}

_PARAMETERS = (
    Parameter("fixed_s", "s", start=9 * MICRO, low=1 * MICRO, high=300 * MICRO, prior_sd=0.5),
    *TILE_PARAMETERS,
    Parameter("head_packing", "1", start=0.5, low=0.0, high=1.0, log=False, prior_sd=0.3),
    Parameter("packed_block", "1", start=0.5, low=0.0, high=10.0, log=False, prior_sd=0.7),
    Parameter("balance", "1", start=3.0, low=1.0, high=20.0, prior_sd=0.5),
    Parameter("copy_passes", "1", start=2.0, low=0.2, high=20.0),
    WIDE_HEAD,
)
_SPLIT_PARAMETERS = (
    Parameter("max_splits", "1", start=8.0, low=1.0, high=64.0),
    Parameter("split_gain", "1", start=0.3, low=0.01, high=1.0),
)


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks, *, variant: _Variant) -> Terms:
    if not isinstance(op, ContextAttention):
        raise TypeError(f"a context attention law got {op.kind}")
    per_byte = seconds_per_byte(op.bytes + op.kv_written_bytes, coefficients, peaks)
    moved_s = (op.bytes - op.kv_written_bytes) * per_byte
    tiled_s = with_tiles_of_head(
        variant.tiles,
        op.head_dim,
        lambda head_dim, rows, columns: _compute_s(op, head_dim, rows, columns, coefficients, peaks, variant),
    )
    compute_s = throttled(tiled_s, coefficients)
    both_s = smooth_max(compute_s, moved_s, coefficients["sharpness"])
    # The new keys and values go to the cache in a kernel of its own.
    copied_s = coefficients["copy_passes"] * op.kv_written_bytes * per_byte
    return Terms(coefficients["fixed_s"] + both_s + copied_s, compute_s, moved_s + copied_s)


def _compute_s(
    op: ContextAttention,
    head_dim: Num,
    rows: float,
    columns: float,
    coefficients: Mapping[str, float],
    peaks: Peaks,
    variant: _Variant,
) -> Num:
    cell = cell_s(rows, columns, head_dim, op.dtype, coefficients, peaks)
    group = op.num_heads / op.num_kv_heads
    packing = coefficients["head_packing"]
    sequences = op.batch * op.num_kv_heads / peaks.multiprocessors
    query_tiles = np.ceil(op.q_len / rows)
    blocks = sequences * ((1.0 - packing) * group * query_tiles + packing * np.ceil(op.q_len * group / rows))
    # Heads that share a tile leave it few positions, so that less of it crosses the diagonal.
    positions = rows / group**packing if variant.packs_heads else rows
    shared_tiles = _mean_key_tiles(op, positions, columns)
    whole_tiles = _mean_key_tiles(op, rows, columns)
    longest_tiles = _longest_key_tiles(op, rows, columns)
    if variant.splits_keys:
        shared_tiles = shortened_by_split(shared_tiles, blocks, coefficients)
        whole_tiles = shortened_by_split(whole_tiles, blocks, coefficients)
        longest_tiles = shortened_by_split(longest_tiles, blocks, coefficients)
    quantisation, block_s = coefficients["wave_quantisation"], coefficients["block_s"]
    busy_s = waves(blocks, quantisation) * (shared_tiles * cell + block_s)
    busy_s = np.maximum(busy_s, whole_tiles * cell + block_s)
    busy_s = smooth_max(busy_s, longest_tiles * cell + block_s, coefficients["balance"])
    packed_s = coefficients["packed_block"] * block_s * waves(2.0 * sequences * query_tiles, quantisation)
    return busy_s + np.where(group > 1, packed_s, 0.0)


def _mean_key_tiles(op: ContextAttention, positions: Num, columns: float) -> Num:
    """Tiles of keys that a block sees on average; one on the diagonal is computed whole, half of it in vain."""
    key_tiles = np.ceil(op.kv_len / columns)
    diagonal = np.minimum(key_tiles, np.maximum(positions / columns, 1.0))
    return np.minimum(np.maximum(op.pairs / op.q_len / columns + diagonal / 2.0, 1.0), key_tiles)


def _longest_key_tiles(op: ContextAttention, rows: float, columns: float) -> Num:
    """Tiles of keys that the last block sees."""
    key_tiles = np.ceil(op.kv_len / columns)
    diagonal = np.minimum(key_tiles, max(rows / columns, 1.0))
    return np.minimum(key_tiles, op.longest_span / columns + diagonal)


CONTEXT_LAWS = tuple(
    Law(
        f"context_attention_{name}",
        "50",
        (*_PARAMETERS, *_SPLIT_PARAMETERS) if variant.splits_keys else _PARAMETERS,
        partial(_terms, variant=variant),
    )
    for name, variant in _VARIANTS.items()
)
