"""Attention of a vision encoder, every token to every token (equation 51)."""

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
from costmodel.ops import EncoderAttention, Num, Op
from costmodel.units import MICRO

__all__ = ["ENCODER_LAWS"]

_HEAD_STEP = 16.0
_NARROW_HEAD = 64
_WARP_GROUP_ROWS = 64


@dataclass(frozen=True, slots=True)
class _Variant:
    """Tiles of one kernel family; whether empty rows of a tile are skipped and keys split over idle processors."""

    tiles: TileTable
    skips_and_splits: bool


_VARIANTS = {
    "192x192": _Variant(((64, (192, 192)), (96, (192, 144)), (256, (128, 128))), skips_and_splits=True),
    "256x128": _Variant(((128, (256, 128)), (256, (128, 128))), skips_and_splits=True),
    "128x64": _Variant(((64, (128, 128)), (256, (128, 64))), skips_and_splits=False),
}

_PARAMETERS = (
    Parameter("fixed_s", "s", start=6 * MICRO, low=1 * MICRO, high=300 * MICRO, prior_sd=0.5),
    *TILE_PARAMETERS,
    Parameter("pad_s", "s", start=1 * MICRO, low=0.001 * MICRO, high=100 * MICRO),
    Parameter("pad_passes", "1", start=0.5, low=0.01, high=10.0),
    Parameter("wide_block", "1", start=0.2, low=0.0, high=5.0, log=False, prior_sd=0.5),
    WIDE_HEAD,
)
_SPLIT_PARAMETERS = (
    Parameter("max_splits", "1", start=8.0, low=1.0, high=64.0),
    Parameter("split_gain", "1", start=0.3, low=0.01, high=1.0),
)


def _terms(op: Op, coefficients: Mapping[str, float], peaks: Peaks, *, variant: _Variant) -> Terms:
    if not isinstance(op, EncoderAttention):
        raise TypeError(f"an encoder attention law got {op.kind}")
    per_byte = seconds_per_byte(op.bytes, coefficients, peaks)
    moved_s = op.bytes * per_byte
    tiled_s = with_tiles_of_head(
        variant.tiles,
        np.ceil(op.head_dim / _HEAD_STEP) * _HEAD_STEP,
        lambda head_dim, rows, columns: _compute_s(op, head_dim, rows, columns, coefficients, peaks, variant),
    )
    compute_s = throttled(tiled_s, coefficients)
    both_s = smooth_max(compute_s, moved_s, coefficients["sharpness"])
    # Heads that are no power of two are padded; beyond 64 all are charged, so that time never falls as heads
    # grow.
    padded: Num = np.where(np.asarray(op.head_dim) > _NARROW_HEAD, 1.0, 0.0)
    padded_s = padded * (coefficients["pad_s"] + coefficients["pad_passes"] * moved_s)
    return Terms(coefficients["fixed_s"] + both_s + padded_s, compute_s, moved_s + padded_s)


def _compute_s(
    op: EncoderAttention,
    head_dim: Num,
    rows: float,
    columns: float,
    coefficients: Mapping[str, float],
    peaks: Peaks,
    variant: _Variant,
) -> Num:
    blocks = op.batch * op.num_heads * np.ceil(op.seq_len / rows) / peaks.multiprocessors
    tiles: Num = np.ceil(op.seq_len / columns)
    filled: Num = rows
    if variant.skips_and_splits:
        filled = np.minimum(rows, _WARP_GROUP_ROWS * np.ceil(op.seq_len / _WARP_GROUP_ROWS))
        tiles = shortened_by_split(tiles, blocks, coefficients)
    cell = cell_s(filled, columns, head_dim, op.dtype, coefficients, peaks)
    wide: Num = np.where(np.asarray(head_dim) > _NARROW_HEAD, 1.0 + coefficients["wide_block"], 1.0)
    return waves(blocks, coefficients["wave_quantisation"]) * (tiles * cell + coefficients["block_s"] * wide)


ENCODER_LAWS = tuple(
    Law(
        f"encoder_attention_{name}",
        "51",
        (*_PARAMETERS, *_SPLIT_PARAMETERS) if variant.skips_and_splits else _PARAMETERS,
        partial(_terms, variant=variant),
    )
    for name, variant in _VARIANTS.items()
)
