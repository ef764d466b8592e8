"""Blocks of a sweep as tables of Arrow: one configuration a row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from costmodel.sweeping.axes import AXES, Axes, Block

__all__ = ["table_of"]


def table_of(
    constants: Mapping[str, str | int | None], axes: Axes, block: Block, columns: Mapping[str, NDArray[np.generic]]
) -> pa.Table:
    """Rows of a block in row-major order.

    Parameters
    ----------
    constants
        What is the same for all rows, by column.
    columns
        Results of the block, each with all axes or of length 1 along them.
    """
    shape = tuple(part.stop - part.start for part in block)
    rows = int(np.prod(shape))
    arrays: dict[str, pa.Array] = {name: _constant(value, rows) for name, value in constants.items()}
    for place, (name, part) in enumerate(zip(AXES, block, strict=True)):
        along = tuple(-1 if i == place else 1 for i in range(len(shape)))
        index = np.broadcast_to(np.arange(part.stop - part.start, dtype=np.int32).reshape(along), shape).reshape(-1)
        if name == "images":
            texts = ["+".join(map(str, images)) or "none" for images in axes.images[part]]
            arrays[name] = pa.DictionaryArray.from_arrays(pa.array(index), pa.array(texts))
        else:
            arrays[name] = pa.array(getattr(axes, name)[part][index])
    for name, values in columns.items():
        arrays[name] = pa.array(np.broadcast_to(values, shape).reshape(-1))
    return pa.table(arrays)


def _constant(value: str | int | None, rows: int) -> pa.Array:
    if isinstance(value, str):
        return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([value]))
    return pa.array([value], type=pa.int64()).take(pa.array(np.zeros(rows, dtype=np.int64)))
