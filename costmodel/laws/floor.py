"""The time that no device can beat: what its datasheet allows (equation 40)."""

from __future__ import annotations

import numpy as np

from costmodel.laws.base import Peaks
from costmodel.ops import Num, Op, dtype_of

__all__ = ["floor_s"]


def floor_s(op: Op, peaks: Peaks) -> Num:
    """Time at peak rates, the cache's content free of charge (equation 40).

    Parameters
    ----------
    op
        An operator.
    peaks
        Datasheet of the device.

    Returns
    -------
    Num
        Seconds. Collectives and launches have none here: they do not go over the memory of one device.
    """
    if op.kind in ("all_reduce", "all_gather", "launch"):
        return np.zeros_like(np.asarray(getattr(op, op.sizes[0]), dtype=float))
    memory_s = np.maximum(op.bytes - peaks.cache_bytes, 0.0) / peaks.memory_bytes_per_s
    if op.kind in ("elementwise", "copy"):
        return memory_s
    return np.maximum(op.flops / peaks.flops_per_s(dtype_of(op.dtype).compute), memory_s)
