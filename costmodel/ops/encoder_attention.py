"""Bidirectional attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from costmodel.ops.formats import Num, dtype_of

__all__ = ["EncoderAttention"]


@dataclass(frozen=True, slots=True)
class EncoderAttention:
    """Bidirectional attention within each of ``batch`` sequences of ``seq_len`` (equations 8 and 9)."""

    kind: ClassVar[str] = "attention_encoder"
    sizes: ClassVar[tuple[str, ...]] = ("batch", "seq_len", "num_heads", "head_dim")
    name: str
    batch: Num
    seq_len: Num
    num_heads: Num
    head_dim: Num
    dtype: str
    launches: int = 1

    @property
    def flops(self) -> Num:
        """Multiplications and additions of both products."""
        return 4.0 * self.batch * self.num_heads * self.head_dim * self.seq_len**2

    @property
    def dense_flops(self) -> Num:
        """As :attr:`flops`: nothing is masked."""
        return self.flops

    @property
    def bytes(self) -> Num:
        """Queries, keys, values and output."""
        rows = self.batch * self.seq_len * self.num_heads * self.head_dim
        return 4.0 * dtype_of(self.dtype).activation_bytes * rows
