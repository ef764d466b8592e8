"""Number formats, and the type of a size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import UnknownKeyError

__all__ = ["DTYPES", "DType", "Num", "dtype_of"]


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


# Blocks of llama.cpp formats: bytes of a block over the weights in it (the mixed _m types: of their largest matrices).
_GGUF_BYTES = {
    "q4_0": 18 / 32,
    "q4_k": 144 / 256,
    "q5_0": 22 / 32,
    "q5_k": 176 / 256,
    "q6_k": 210 / 256,
    "q8_0": 34 / 32,
    "iq4_xs": 136 / 256,
}

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
    **{f"gguf-{name}": DType(size, 2, "fp16") for name, size in _GGUF_BYTES.items()},
}


def dtype_of(name: str) -> DType:
    """Look a number format up by its exact name."""
    if name not in DTYPES:
        raise UnknownKeyError("dtype", name, DTYPES)
    return DTYPES[name]
