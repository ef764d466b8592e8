"""Gated delta rule: attention with a state of constant size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from costmodel.ops.formats import Num, dtype_of

__all__ = ["LinearAttention"]

_STATE_BYTES = 4
"""The state is kept in fp32."""


@dataclass(frozen=True, slots=True)
class LinearAttention:
    """Gated delta rule over ``q_len`` new tokens, ``chunk`` of them at a time (arXiv 2412.06464; equation 21).

    A chunk takes products of its keys, queries and values among themselves (quadratic in ``chunk``), a triangular
    solve, and three products with the state of each head. A decode step is a chunk of one token.
    """

    kind: ClassVar[str] = "linear_attention"
    sizes: ClassVar[tuple[str, ...]] = ("batch", "q_len", "num_heads", "num_key_heads", "key_dim", "value_dim")
    name: str
    batch: Num
    q_len: Num
    num_heads: Num
    num_key_heads: Num
    key_dim: Num
    value_dim: Num
    dtype: str
    chunk: int = 64
    launches: int = 1

    def _products(self, tokens: Num) -> Num:
        within = self.chunk * (4.0 * self.key_dim + 2.0 * self.value_dim)
        return self.batch * tokens * self.num_heads * (within + 6.0 * self.key_dim * self.value_dim)

    @property
    def state_elements(self) -> Num:
        """Values in the states of all heads and requests."""
        return self.batch * self.num_heads * self.key_dim * self.value_dim

    @property
    def flops(self) -> Num:
        """Products and the triangular solve."""
        solve = self.batch * self.q_len * self.num_heads * self.chunk * (self.key_dim + self.value_dim)
        return self._products(self.q_len) + solve

    @property
    def dense_flops(self) -> Num:
        """Products alone, over whole chunks: what ``torch.utils.flop_counter`` sees of the chunked form."""
        return self._products(np.ceil(self.q_len / self.chunk) * self.chunk)

    @property
    def state_bytes(self) -> Num:
        """States read and written once a chunk."""
        return 2.0 * _STATE_BYTES * np.maximum(self.q_len / self.chunk, 1.0) * self.state_elements

    @property
    def bytes(self) -> Num:
        """Queries, keys, values, output and the states."""
        widths = 2.0 * (self.num_key_heads * self.key_dim + self.num_heads * self.value_dim)
        return self.state_bytes + dtype_of(self.dtype).activation_bytes * self.batch * self.q_len * widths
