"""Attention of one new token over a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from costmodel.ops.formats import Num, dtype_of

__all__ = ["GenerationAttention"]


@dataclass(frozen=True, slots=True)
class GenerationAttention:
    """Attention of one new token a sequence over ``kv_len`` cached ones, itself included (equations 6, 7).

    ``kv_copies`` says how many caches take their turn where it is timed, as ``weight_copies`` of a GEMM does: a model
    streams its weights between two reads of a cache (infinity), a benchmark may read the same one again.
    ``cached_per_token`` as for :class:`~costmodel.ops.context_attention.ContextAttention`; without ``writes`` the step
    adds nothing to the cache: cross-attention, and layers that read the cache of another one.
    """

    kind: ClassVar[str] = "attention_generation"
    sizes: ClassVar[tuple[str, ...]] = ("batch", "kv_len", "num_heads", "num_kv_heads", "head_dim", "window")
    name: str
    batch: Num
    kv_len: Num
    num_heads: Num
    num_kv_heads: Num
    head_dim: Num
    dtype: str
    kv_dtype: str
    window: Num | None = None
    launches: int = 1
    kv_copies: Num = np.inf
    cached_per_token: Num | None = None
    writes: bool = True

    @property
    def token_values(self) -> Num:
        """Values in the cache for one token."""
        return 2.0 * self.num_kv_heads * self.head_dim if self.cached_per_token is None else self.cached_per_token

    @property
    def pairs(self) -> Num:
        """Keys that the new token sees."""
        return self.kv_len if self.window is None else np.minimum(self.kv_len, self.window)

    @property
    def flops(self) -> Num:
        """Multiplications and additions of both products."""
        return 4.0 * self.batch * self.num_heads * self.head_dim * self.pairs

    @property
    def dense_flops(self) -> Num:
        """As :attr:`flops`: one query masks nothing."""
        return self.flops

    @property
    def kv_bytes(self) -> Num:
        """Keys and values read (KV heads, not query heads)."""
        size = dtype_of(self.kv_dtype).activation_bytes
        return size * self.token_values * self.batch * self.pairs

    @property
    def bytes(self) -> Num:
        """Cache read, one token's cache write, query and output."""
        queries = 2.0 * dtype_of(self.dtype).activation_bytes * self.batch * self.head_dim * self.num_heads
        written = dtype_of(self.kv_dtype).activation_bytes * self.batch * self.token_values if self.writes else 0.0
        return self.kv_bytes + (written + queries)
