"""Shapes that transformer layers use: the ones that laws are fitted on and scored on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrate.tables.operators import OperatorTable, TableSet
from costmodel.ops import AllGather, AllReduce, ContextAttention, EncoderAttention, Gemm, GenerationAttention, Op

__all__ = ["Selected", "in_domain", "select_domain"]

_LEAST_WIDTH = 256
_MOST_ROWS = 16384
_WIDEST_HEAD = 128
_MOST_DEVICES = 8


def in_domain(op: Op) -> NDArray[np.bool_]:
    """Shapes of transformer layers.

    GEMMs with n and k of at least 256 and m of at most 16384; attention of heads up to 128 wide over the whole
    context; collectives of up to 8 devices. Wider heads, sliding windows and collectives between nodes run other
    kernels in the same table.
    """
    shape = np.broadcast(*(np.asarray(getattr(op, name)) for name in op.sizes if getattr(op, name) is not None)).shape
    inside = np.ones(shape, dtype=bool)
    if isinstance(op, Gemm):
        inside &= (np.asarray(op.n) >= _LEAST_WIDTH) & (np.asarray(op.k) >= _LEAST_WIDTH)
        inside &= np.asarray(op.m) <= _MOST_ROWS
    if isinstance(op, ContextAttention | GenerationAttention | EncoderAttention):
        inside &= np.asarray(op.head_dim) <= _WIDEST_HEAD
    if isinstance(op, AllReduce | AllGather):
        inside &= np.asarray(op.num_devices) <= _MOST_DEVICES
    window = getattr(op, "window", None)
    if window is not None:
        inside &= ~np.isfinite(window)
    return inside


@dataclass(frozen=True, slots=True)
class Selected:
    """Tables within the domain, and how many rows of each table lie outside."""

    tables: dict[str, OperatorTable]
    outside: dict[str, int]


def select_domain(tables: TableSet) -> Selected:
    """Keep the rows of each table that lie within the domain."""
    kept, outside = {}, {}
    for key, table in tables.tables.items():
        inside = in_domain(table.op)
        outside[key] = int(np.sum(~inside))
        if inside.any():
            kept[key] = table.take(inside)
    return Selected(kept, outside)
