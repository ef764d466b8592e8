"""A whole transformer layer, and the sizes that its time depends on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from costmodel.ops import (
    ContextAttention,
    EncoderAttention,
    Gemm,
    GenerationAttention,
    LinearAttention,
    MoeExperts,
    Num,
    Op,
)
from costmodel.program.mlp import mlp_ops
from costmodel.program.rows import Rows
from costmodel.specs.model import LayerGroup

__all__ = ["attention_flops", "group_suffix", "kv_bytes", "layer_ops", "matrix_flops"]


def layer_ops(group: LayerGroup, rows: Rows, attention: Sequence[Op]) -> tuple[Op, ...]:
    """Operators of one layer around those of its attention."""
    hidden = rows.hidden
    ops: list[Op] = [rows.pass_over("input_norm", group.norm, hidden), *attention]
    ops.append(rows.pass_over("attention_add", "add", hidden))
    ops.append(rows.pass_over("mlp_norm", group.norm, hidden))
    for mlp in group.mlps:
        ops += mlp_ops(mlp, rows)
    ops.append(rows.pass_over("mlp_add", "add", hidden))
    if group.norms > 2:
        ops.append(rows.pass_over("other_norms", group.norm, hidden * (group.norms - 2)))
    if group.other_parameters >= hidden:
        ops.append(rows.pass_over("layer_scale", "add", hidden * (group.other_parameters // hidden)))
    if group.layer_input:
        ops.append(Gemm("layer_input_gate", rows.count, group.layer_input, hidden, rows.dtype))
        ops.append(rows.pass_over("layer_input_activation", "swiglu", group.layer_input))
        ops.append(Gemm("layer_input", rows.count, hidden, group.layer_input, rows.dtype))
        ops.append(rows.pass_over("layer_input_add", "add", hidden))
    return tuple(ops)


def matrix_flops(ops: Sequence[Op]) -> Num:
    """FLOPs of products with weights."""
    return sum((op.flops for op in ops if isinstance(op, Gemm | MoeExperts)), start=np.float64(0.0))


def attention_flops(ops: Sequence[Op]) -> Num:
    """FLOPs of attention."""
    kinds = ContextAttention | GenerationAttention | EncoderAttention | LinearAttention
    return sum((op.flops for op in ops if isinstance(op, kinds)), start=np.float64(0.0))


def kv_bytes(ops: Sequence[Op]) -> Num:
    """Bytes of the cache, or of the state in its place, that a step reads."""
    cached = (op.kv_bytes for op in ops if isinstance(op, GenerationAttention))
    states = (op.state_bytes for op in ops if isinstance(op, LinearAttention))
    return sum((*cached, *states), start=np.float64(0.0))


def group_suffix(groups: tuple[LayerGroup, ...], group: LayerGroup) -> str:
    """Nothing where all layers are equal, else the place of the group."""
    return "" if len(groups) == 1 else f"_{groups.index(group)}"
