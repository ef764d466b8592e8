"""Operators: what one kernel (or a fixed group of kernels) computes and moves; a file each.

Every FLOP and byte formula of the toolkit is in this package. Sizes may be numbers or numpy arrays that broadcast
against each other, so that one operator stands for a whole table of shapes.

Two FLOP counts exist for attention. ``flops`` counts the (query, key) pairs that the mask lets through, which is what
a kernel that skips masked tiles computes. ``dense_flops`` counts every pair, as ``torch.utils.flop_counter`` does.
"""

from __future__ import annotations

from costmodel.ops.collectives import AllGather, AllReduce
from costmodel.ops.context_attention import ContextAttention
from costmodel.ops.encoder_attention import EncoderAttention
from costmodel.ops.experts import MoeExperts
from costmodel.ops.formats import DTYPES, DType, Num, dtype_of, plain_name, with_weight_bytes
from costmodel.ops.gemm import Gemm
from costmodel.ops.generation_attention import GenerationAttention
from costmodel.ops.linear_attention import LinearAttention
from costmodel.ops.streams import Copy, Elementwise, Launch

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
    "LinearAttention",
    "MoeExperts",
    "Num",
    "Op",
    "dtype_of",
    "op_key",
    "plain_name",
    "with_weight_bytes",
]

Op = (
    Gemm
    | ContextAttention
    | GenerationAttention
    | EncoderAttention
    | LinearAttention
    | Elementwise
    | Copy
    | AllReduce
    | AllGather
    | MoeExperts
    | Launch
)


def op_key(op: Op) -> str:
    """Name of the law fit that an operator needs: ``kind/dtype``, ``kind/dtype+kv_dtype`` where the cache differs."""
    dtype = plain_name(op.dtype)
    kv_dtype = getattr(op, "kv_dtype", dtype)
    return f"{op.kind}/{dtype}" if kv_dtype == dtype else f"{op.kind}/{dtype}+{kv_dtype}"
