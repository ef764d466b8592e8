"""Causal attention of new tokens over a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from costmodel.ops.formats import Num, dtype_of

__all__ = ["ContextAttention"]


def _triangle(x: Num) -> Num:
    """Sum of 1…x, zero for x < 0."""
    positive: Num = np.maximum(x, 0)
    return positive * (positive + 1) / 2


@dataclass(frozen=True, slots=True)
class ContextAttention:
    """Causal attention of ``q_len`` new tokens over ``kv_len`` (equations 3 to 5), with the cache write.

    ``window`` limits how far back a token sees, itself included (``None`` or infinity: to the beginning). Without
    ``causal`` every query sees every key, and nothing is written: cross-attention. ``cached_per_token`` is the number
    of values that a token keeps where that isn't a key and a value per KV head (multi-head latent attention).
    """

    kind: ClassVar[str] = "attention_context"
    sizes: ClassVar[tuple[str, ...]] = (
        "batch",
        "q_len",
        "kv_len",
        "num_heads",
        "num_kv_heads",
        "head_dim",
        "window",
    )
    name: str
    batch: Num
    q_len: Num
    kv_len: Num
    num_heads: Num
    num_kv_heads: Num
    head_dim: Num
    dtype: str
    kv_dtype: str
    window: Num | None = None
    launches: int = 1
    causal: bool = True
    cached_per_token: Num | None = None

    @property
    def token_values(self) -> Num:
        """Values in the cache for one token."""
        return 2.0 * self.num_kv_heads * self.head_dim if self.cached_per_token is None else self.cached_per_token

    @property
    def pairs(self) -> Num:
        """(query, key) pairs of one sequence and head that the mask lets through."""
        if not self.causal:
            return self.q_len * self.kv_len
        past = self.kv_len - self.q_len
        pairs = self.q_len * past + _triangle(self.q_len)
        if self.window is None:
            return pairs
        return pairs - (_triangle(self.kv_len - self.window) - _triangle(past - self.window))

    @property
    def flops(self) -> Num:
        """Multiplications and additions of both products, unmasked pairs only."""
        return 4.0 * self.batch * self.num_heads * self.head_dim * self.pairs

    @property
    def dense_flops(self) -> Num:
        """The same over all pairs."""
        return 4.0 * self.batch * self.num_heads * self.head_dim * self.q_len * self.kv_len

    @property
    def kv_bytes(self) -> Num:
        """Keys and values read (KV heads, not query heads)."""
        seen = self.kv_len if self.window is None else np.minimum(self.kv_len, self.q_len + self.window - 1)
        size = dtype_of(self.kv_dtype).activation_bytes
        return size * self.batch * seen * self.token_values

    @property
    def longest_span(self) -> Num:
        """Keys that the last token sees."""
        return self.kv_len if self.window is None else np.minimum(self.kv_len, self.window)

    @property
    def kv_written_bytes(self) -> Num:
        """New keys and values written to the cache."""
        if not self.causal:
            return np.float64(0.0)
        return dtype_of(self.kv_dtype).activation_bytes * self.batch * self.q_len * self.token_values

    @property
    def bytes(self) -> Num:
        """Queries and output, keys and values read, new keys and values written."""
        rows = self.batch * self.q_len * self.head_dim
        queries = 2.0 * dtype_of(self.dtype).activation_bytes * rows * self.num_heads
        return queries + self.kv_bytes + self.kv_written_bytes
