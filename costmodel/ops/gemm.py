"""Product with a weight matrix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from costmodel.ops.formats import Num, dtype_of

__all__ = ["Gemm"]


@dataclass(frozen=True, slots=True)
class Gemm:
    """``C[m,n] = A[m,k] · B[k,n]`` with a weight matrix B (equations 1 and 2).

    ``weight_copies`` says how many copies of B take their turn where it is timed. A model has so many layers that
    nothing of B is left in the cache when it is needed again (infinity); a benchmark may reuse one.
    """

    kind: ClassVar[str] = "gemm"
    sizes: ClassVar[tuple[str, ...]] = ("m", "n", "k")
    name: str
    m: Num
    n: Num
    k: Num
    dtype: str
    launches: int = 1
    weight_copies: Num = np.inf

    @property
    def flops(self) -> Num:
        """Floating-point operations."""
        return 2.0 * self.m * self.n * self.k

    @property
    def dense_flops(self) -> Num:
        """As :attr:`flops`: nothing is masked."""
        return self.flops

    @property
    def weight_bytes(self) -> Num:
        """Bytes of the weight matrix."""
        return dtype_of(self.dtype).weight_bytes * self.n * self.k

    @property
    def bytes(self) -> Num:
        """Bytes read and written once each; the result is stored in 16 bits or wider."""
        dtype = dtype_of(self.dtype)
        out_bytes = max(dtype.activation_bytes, 2)
        return self.weight_bytes + dtype.activation_bytes * self.m * self.k + out_bytes * self.m * self.n
