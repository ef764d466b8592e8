"""Operators: what one kernel (or a fixed group of kernels) computes and moves.

Every FLOP and byte formula of the toolkit is in this file and, for experts, in :mod:`costmodel.experts`. Sizes may be
numbers or numpy arrays that broadcast against each other, so that one operator stands for a whole table of shapes.

Two FLOP counts exist for attention. ``flops`` counts the (query, key) pairs that the mask lets through, which is what
a kernel that skips masked tiles computes. ``dense_flops`` counts every pair, as ``torch.utils.flop_counter`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from costmodel.dtypes import DTYPES, DType, Num, dtype_of
from costmodel.experts import MoeExperts

__all__ = [
    "DTYPES",
    "AllGather",
    "AllReduce",
    "ContextAttention",
    "Copy",
    "DType",
    "Elementwise",
    "EncoderAttention",
    "Gemm",
    "GenerationAttention",
    "Launch",
    "MoeExperts",
    "Num",
    "Op",
    "dtype_of",
    "op_key",
]


def _triangle(x: Num) -> Num:
    """Sum of 1…x, zero for x < 0."""
    positive: Num = np.maximum(x, 0)
    return positive * (positive + 1) / 2


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


@dataclass(frozen=True, slots=True)
class ContextAttention:
    """Causal attention of ``q_len`` new tokens over ``kv_len`` (equations 3 to 5), with the cache write.

    ``window`` limits how far back a token sees, itself included (``None`` or infinity: to the beginning).
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

    @property
    def pairs(self) -> Num:
        """(query, key) pairs of one sequence and head that the mask lets through."""
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
        return 2.0 * size * self.batch * seen * self.num_kv_heads * self.head_dim

    @property
    def longest_span(self) -> Num:
        """Keys that the last token sees."""
        return self.kv_len if self.window is None else np.minimum(self.kv_len, self.window)

    @property
    def kv_written_bytes(self) -> Num:
        """New keys and values written to the cache."""
        rows = self.batch * self.q_len * self.head_dim
        return 2.0 * dtype_of(self.kv_dtype).activation_bytes * rows * self.num_kv_heads

    @property
    def bytes(self) -> Num:
        """Queries and output, keys and values read, new keys and values written."""
        rows = self.batch * self.q_len * self.head_dim
        queries = 2.0 * dtype_of(self.dtype).activation_bytes * rows * self.num_heads
        return queries + self.kv_bytes + self.kv_written_bytes


@dataclass(frozen=True, slots=True)
class GenerationAttention:
    """Attention of one new token a sequence over ``kv_len`` cached ones, itself included (equations 6, 7).

    ``kv_copies`` says how many caches take their turn where it is timed, as ``weight_copies`` of a GEMM does: a model
    streams its weights between two reads of a cache (infinity), a benchmark may read the same one again.
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
        return 2.0 * size * self.batch * self.pairs * self.num_kv_heads * self.head_dim

    @property
    def bytes(self) -> Num:
        """Cache read, one token's cache write, query and output."""
        row = self.batch * self.head_dim
        written = 2.0 * dtype_of(self.kv_dtype).activation_bytes * row * self.num_kv_heads
        return self.kv_bytes + written + 2.0 * dtype_of(self.dtype).activation_bytes * row * self.num_heads


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


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Norm, activation, rotation or addition over ``elements`` values, in ``passes`` passes over memory."""

    kind: ClassVar[str] = "elementwise"
    sizes: ClassVar[tuple[str, ...]] = ("elements",)
    name: str
    elements: Num
    dtype: str
    passes: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def launches(self) -> int:
        """One kernel a pass."""
        return self.passes

    @property
    def bytes(self) -> Num:
        """One read and one write a pass."""
        return 2.0 * self.passes * dtype_of(self.dtype).activation_bytes * self.elements


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy of ``num_bytes`` within the device: one read, one write."""

    kind: ClassVar[str] = "copy"
    sizes: ClassVar[tuple[str, ...]] = ("num_bytes",)
    name: str
    num_bytes: Num
    dtype: str = "fp32"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def bytes(self) -> Num:
        """Read and written."""
        return 2.0 * self.num_bytes


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Sum of ``num_bytes`` over ``num_devices`` devices; ``bytes`` is what a ring moves per device (equation 10)."""

    kind: ClassVar[str] = "all_reduce"
    sizes: ClassVar[tuple[str, ...]] = ("num_bytes", "num_devices")
    name: str
    num_bytes: Num
    num_devices: Num
    dtype: str = "bf16"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def bytes(self) -> Num:
        """Bytes sent and received by one device."""
        return 2.0 * self.num_bytes * (self.num_devices - 1) / self.num_devices


@dataclass(frozen=True, slots=True)
class AllGather:
    """Every one of ``num_devices`` devices ends with all ``num_bytes``, of which it held its share."""

    kind: ClassVar[str] = "all_gather"
    sizes: ClassVar[tuple[str, ...]] = ("num_bytes", "num_devices")
    name: str
    num_bytes: Num
    num_devices: Num
    dtype: str = "bf16"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def bytes(self) -> Num:
        """Bytes received by one device: all but its own share."""
        return self.num_bytes * (self.num_devices - 1) / self.num_devices


@dataclass(frozen=True, slots=True)
class Launch:
    """``count`` empty kernels: what starting one costs."""

    kind: ClassVar[str] = "launch"
    sizes: ClassVar[tuple[str, ...]] = ("count",)
    name: str
    count: Num = 1.0
    dtype: str = "fp32"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0
    bytes: ClassVar[float] = 0.0


Op = (
    Gemm
    | ContextAttention
    | GenerationAttention
    | EncoderAttention
    | Elementwise
    | Copy
    | AllReduce
    | AllGather
    | MoeExperts
    | Launch
)


def op_key(op: Op) -> str:
    """Name of the law fit that an operator needs: ``kind/dtype``, ``kind/dtype+kv_dtype`` where the cache differs."""
    kv_dtype = getattr(op, "kv_dtype", op.dtype)
    return f"{op.kind}/{op.dtype}" if kv_dtype == op.dtype else f"{op.kind}/{op.dtype}+{kv_dtype}"
