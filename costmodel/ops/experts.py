"""Mixture of experts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from costmodel.ops.formats import Num, dtype_of

__all__ = ["MoeExperts"]


@dataclass(frozen=True, slots=True)
class MoeExperts:
    """Both expert GEMMs (gate and up, then down) of ``tokens`` rows sent to ``top_k`` of ``num_experts``.

    Rows are taken as spread evenly: an expert is idle with the probability that no row chose it (equation 54).
    """

    kind: ClassVar[str] = "moe"
    sizes: ClassVar[tuple[str, ...]] = ("tokens", "hidden_size", "intermediate_size", "num_experts", "top_k")
    name: str
    tokens: Num
    hidden_size: Num
    intermediate_size: Num
    num_experts: Num
    top_k: Num
    dtype: str
    launches: int = 2

    @property
    def active_experts(self) -> Num:
        """Experts expected to receive at least one row."""
        idle = (1.0 - np.minimum(self.top_k / self.num_experts, 1.0)) ** self.tokens
        return self.num_experts * (1.0 - idle)

    @property
    def flops(self) -> Num:
        """Floating-point operations of the three projections."""
        return 6.0 * self.tokens * self.top_k * self.hidden_size * self.intermediate_size

    @property
    def dense_flops(self) -> Num:
        """As :attr:`flops`: nothing is masked."""
        return self.flops

    @property
    def weight_bytes(self) -> Num:
        """Weights of the experts that are used."""
        return dtype_of(self.dtype).weight_bytes * 3.0 * self.active_experts * self.hidden_size * self.intermediate_size

    @property
    def bytes(self) -> Num:
        """Weights used, rows read and written by both GEMMs."""
        dtype = dtype_of(self.dtype)
        out_bytes = max(dtype.activation_bytes, 2)
        rows = self.tokens * self.top_k
        read = dtype.activation_bytes * rows * (self.hidden_size + self.intermediate_size)
        written = out_bytes * rows * (self.hidden_size + 2.0 * self.intermediate_size)
        return self.weight_bytes + read + written
