"""Number formats, and the type of a size."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import UnknownKeyError
from costmodel.ops.ggml import GGML_TYPES, GgmlType

__all__ = ["DTYPES", "DType", "Num", "dtype_of", "plain_name", "with_weight_bytes"]


Num = float | NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class DType:
    """Operand widths of a number format.

    Attributes
    ----------
    weight_bytes, activation_bytes
        Bytes per element.
    compute
        The format whose peak rate bounds the multiplications.
    """

    weight_bytes: float
    activation_bytes: float
    compute: str


_WIDTH = ":"

# Types of llama.cpp that hold activations, indexes or tables, and never the weights of a model.
_NO_WEIGHTS = ("q8_1", "q8_k", "i8", "i16", "i32", "i64", "f64")


def _llama_cpp(kind: GgmlType) -> DType:
    """Quantised weights are multiplied with 16-bit activations, others as they are."""
    if kind.name == "f32":
        return DType(4, 4, "fp32")
    return DType(kind.weight_bytes, 2, "bf16" if kind.name == "bf16" else "fp16")


# w4a16 carries one fp16 scale for 128 weights, nvfp4 one fp8 scale for 16 values, fp8-block one fp32 scale for a square
# of 128 by 128 weights and for 128 activations.
DTYPES = {
    "fp32": DType(4, 4, "fp32"),
    "bf16": DType(2, 2, "bf16"),
    "fp16": DType(2, 2, "fp16"),
    "fp8": DType(1, 1, "fp8"),
    "fp8-block": DType(1 + 4 / 128**2, 1 + 4 / 128, "fp8"),
    "int8": DType(1, 1, "int8"),
    "w8a16": DType(1, 2, "bf16"),
    "w4a16": DType(0.5 + 2 / 128, 2, "bf16"),
    "nvfp4": DType(0.5 + 1 / 16, 0.5 + 1 / 16, "nvfp4"),
    **{f"gguf-{kind.name}": _llama_cpp(kind) for kind in GGML_TYPES.values() if kind.name not in _NO_WEIGHTS},
}


@cache
def dtype_of(name: str) -> DType:
    """Look a number format up by its exact name, or by a name that :func:`with_weight_bytes` gave.

    Raises
    ------
    UnknownKeyError
        If there is no such format.
    """
    plain, _, width = name.partition(_WIDTH)
    if plain not in DTYPES or (width and not _is_width(width)):
        raise UnknownKeyError("dtype", name, DTYPES)
    return replace(DTYPES[plain], weight_bytes=float(width)) if width else DTYPES[plain]


def with_weight_bytes(name: str, weight_bytes: float) -> str:
    """Name of a format whose weights take another size, as those of a real checkpoint do on average.

    Examples
    --------
    >>> dtype_of(with_weight_bytes("gguf-q4_k", 0.6)).weight_bytes
    0.6
    """
    return f"{plain_name(name)}{_WIDTH}{weight_bytes:.9g}"


def plain_name(name: str) -> str:
    """Name of the format in the table, under which its law is kept."""
    return name.partition(_WIDTH)[0]


def _is_width(text: str) -> bool:
    try:
        return 0 < float(text) < math.inf
    except ValueError:
        return False
