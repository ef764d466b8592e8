"""Blocks of a sweep as tables of Arrow: one configuration a row."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from costmodel.sweeping.axes import AXES, Axes, Block

__all__ = ["table_of", "text_column"]

# Constants that are whole numbers; the others are texts.
_NUMBERS = ("tp", "prefill_chunk")


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
    arrays: dict[str, pa.Array] = {name: _constant(name, value, rows) for name, value in constants.items()}
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


def _constant(name: str, value: str | int | None, rows: int) -> pa.Array:
    """One value for all rows, of a type that is the column's in every table."""
    if name in _NUMBERS:
        return pa.nulls(rows, pa.int64()) if value is None else pa.array(np.full(rows, value, dtype=np.int64))
    return text_column(value if value is None else str(value), rows)


def text_column(value: str | None, rows: int) -> pa.DictionaryArray:
    """One text, or none, for all rows."""
    index = pa.nulls(rows, pa.int32()) if value is None else pa.array(np.zeros(rows, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(index, pa.array([value or ""]))
