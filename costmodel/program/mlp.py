"""Operators of a layer's feed-forward block."""

from __future__ import annotations

from costmodel.ops import Elementwise, Gemm, MoeExperts, Op
from costmodel.program.rows import Rows
from costmodel.specs.model import AnyMlp, MlpSpec, MoeSpec

__all__ = ["mlp_ops"]


def mlp_ops(spec: AnyMlp, rows: Rows) -> list[Op]:
    """Operators from the normalised hidden state to the block's output."""
    ops = _experts(spec, rows) if isinstance(spec, MoeSpec) else _dense(spec, rows)
    return ops + rows.summed("mlp")


def _dense(spec: MlpSpec, rows: Rows, prefix: str = "") -> list[Op]:
    inner = spec.intermediate_size / rows.devices
    dense = [Gemm(f"{prefix}up", rows.count, inner * spec.ups, rows.hidden, rows.dtype)]
    ops: list[Op] = [*dense]
    if not rows.options.fused:
        ops = [Gemm(f"{prefix}up", rows.count, inner, rows.hidden, rows.dtype) for _ in range(spec.ups)]
    ops.append(rows.pass_over(f"{prefix}activation", "swiglu" if spec.gated else "gelu", inner))
    return [*ops, rows.back(f"{prefix}down", inner)]


def _experts(spec: MoeSpec, rows: Rows) -> list[Op]:
    """Router, in the activations' format, and the experts that some row chose (equation 54)."""
    dtype = rows.options.dtype
    ops: list[Op] = [Gemm("router", rows.count, spec.num_experts, rows.hidden, dtype)]
    ops.append(Elementwise("routing", rows.count * spec.num_experts, dtype))
    ops.append(_grouped(spec, rows))
    ops.append(rows.pass_over("combine", "add", spec.top_k * rows.hidden))
    if spec.shared is None:
        return ops
    if spec.shared_gate:
        ops.append(Gemm("shared_gate", rows.count, 1, rows.hidden, dtype))
    return [*ops, *_dense(spec.shared, rows, "shared_"), rows.pass_over("shared_add", "add", rows.hidden)]


def _grouped(spec: MoeSpec, rows: Rows) -> MoeExperts:
    """One device's part of the experts: a slice of each, or some of them whole, which rows choose evenly."""
    dtype, devices = rows.options.experts_dtype, rows.devices
    if rows.options.expert_parallel and devices > 1:
        experts, chosen = spec.num_experts / devices, spec.top_k / devices
        return MoeExperts("experts", rows.count, rows.hidden, spec.intermediate_size, experts, chosen, dtype)
    inner = spec.intermediate_size / devices
    return MoeExperts("experts", rows.count, rows.hidden, inner, spec.num_experts, spec.top_k, dtype)
