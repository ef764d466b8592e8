"""Operators of a decoder layer's attention, one function a kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from costmodel.ops import (
    ContextAttention,
    Elementwise,
    Gemm,
    GenerationAttention,
    LinearAttention,
    Num,
    Op,
)
from costmodel.program.rows import Rows, scores, share
from costmodel.program.stages import Options
from costmodel.specs.model import (
    AnyAttention,
    AttentionSpec,
    CrossAttentionSpec,
    LatentAttentionSpec,
    LinearAttentionSpec,
)

__all__ = ["Pass", "attention_ops"]


@dataclass(frozen=True, slots=True)
class Pass:
    """One forward pass of the decoder.

    Attributes
    ----------
    new_tokens, context_tokens
        Tokens a request that pass, and those that they may see, themselves included.
    cross_tokens, new_cross_tokens
        Vision states a request beside the text, and those whose keys and values this pass makes.
    generating
        Whether it is a decode step.
    """

    batch: Num
    new_tokens: Num
    context_tokens: Num
    cross_tokens: Num
    new_cross_tokens: Num
    generating: bool
    options: Options


def attention_ops(spec: AnyAttention, norm: str, rows: Rows, run: Pass) -> list[Op]:
    """Operators from the normalised hidden state to the attention's output."""
    return _BY_KIND[spec.kind](spec, norm, rows, run)


def _self_attention(spec: AttentionSpec, norm: str, rows: Rows, run: Pass) -> list[Op]:
    heads, kv_heads = share(spec.num_heads, rows.devices), share(spec.num_kv_heads, rows.devices)
    q_size, kv_size = heads * spec.head_dim, kv_heads * spec.head_dim
    ops = rows.widen("qkv", q_size * (2 if spec.output_gate else 1), *[kv_size] * spec.kv_maps)
    new_keys = 0 if spec.kv == "earlier_layer" else kv_size
    if spec.qk_norm != "none":
        ops.append(rows.pass_over("qk_norm", norm, q_size + new_keys))
    if spec.rotary:
        ops.append(rows.pass_over("rope", "rope", q_size + new_keys))
    ops.append(_cached_attention(run, heads, kv_heads, spec.head_dim, window=spec.window, writes=new_keys > 0))
    if not run.generating:
        ops += scores("prefill", run.batch * heads, run.new_tokens, run.context_tokens, run.options)
    if spec.output_gate:
        ops.append(rows.pass_over("output_gate", "swiglu", q_size))
    return ops + rows.narrow("output", q_size)


def _cached_attention(
    run: Pass,
    heads: int,
    kv_heads: int,
    head_dim: float,
    *,
    window: int | None = None,
    cached_per_token: float | None = None,
    writes: bool = True,
) -> Op:
    options, sizes = run.options, (heads, kv_heads, head_dim)
    if run.generating:
        return GenerationAttention(
            "attention",
            run.batch,
            run.context_tokens,
            *sizes,
            options.dtype,
            options.kv_dtype,
            window,
            cached_per_token=cached_per_token,
            writes=writes,
        )
    return ContextAttention(
        "attention",
        run.batch,
        run.new_tokens,
        run.context_tokens,
        *sizes,
        options.dtype,
        options.kv_dtype,
        window,
        cached_per_token=cached_per_token,
    )


def _cross_attention(spec: CrossAttentionSpec, norm: str, rows: Rows, run: Pass) -> list[Op]:
    """Text over vision states, whose keys and values are made once (equation 23)."""
    heads, kv_heads = share(spec.num_heads, rows.devices), share(spec.num_kv_heads, rows.devices)
    q_size, kv_size = heads * spec.head_dim, kv_heads * spec.head_dim
    states = Rows(run.batch * run.new_cross_tokens, rows.hidden, rows.dtype, rows.options)
    ops = rows.widen("cross_q", q_size)
    if not run.generating:
        ops += states.widen("cross_kv", kv_size, kv_size)
    if spec.qk_norm:
        ops.append(rows.pass_over("qk_norm", norm, q_size))
    if run.generating:
        attention: Op = GenerationAttention(
            "cross_attention", run.batch, run.cross_tokens, heads, kv_heads, spec.head_dim,
            run.options.dtype, run.options.kv_dtype, writes=False,
        )  # fmt: skip
    else:
        attention = ContextAttention(
            "cross_attention", run.batch, run.new_tokens, run.cross_tokens, heads, kv_heads, spec.head_dim,
            run.options.dtype, run.options.kv_dtype, causal=False,
        )  # fmt: skip
    return [*ops, attention, *rows.narrow("output", q_size)]


def _latent_attention(spec: LatentAttentionSpec, norm: str, rows: Rows, run: Pass) -> list[Op]:
    """Over expanded keys and values, or over the latents themselves in a fused decode step (equation 22)."""
    heads, dtype = share(spec.num_heads, rows.devices), rows.dtype
    ops: list[Op] = []
    if spec.query_latent_dim is None:
        ops += rows.widen("q", heads * spec.key_dim)
    else:
        ops += rows.widen("q_down", spec.query_latent_dim)
        ops.append(rows.pass_over("q_norm", norm, spec.query_latent_dim))
        ops.append(Gemm("q_up", rows.count, heads * spec.key_dim, spec.query_latent_dim, dtype))
    ops += rows.widen("kv_down", spec.cached_per_token)
    ops.append(rows.pass_over("latent_norm", norm, spec.latent_dim))
    ops.append(rows.pass_over("rope", "rope", (heads + 1) * spec.rotary_dim))
    up_size, cached = heads * (spec.nope_dim + spec.value_dim), float(spec.cached_per_token)
    if run.generating and run.options.fused:
        # The up map is taken into queries and output instead: the same weights, once a token.
        ops.append(Gemm("absorbed", rows.count, up_size, spec.latent_dim, dtype))
        inner = (2 * spec.latent_dim + spec.rotary_dim) / 2
        ops.append(_cached_attention(run, heads, 1, inner, cached_per_token=cached))
    else:
        # Latents of the whole context are expanded, those in the cache again. With keys and values of different
        # widths, their mean gives the same products.
        ops.append(Gemm("kv_up", run.batch * run.context_tokens, up_size, spec.latent_dim, dtype))
        mean = (spec.key_dim + spec.value_dim) / 2
        ops.append(_cached_attention(run, heads, heads, mean, cached_per_token=cached))
    return ops + rows.narrow("output", heads * spec.value_dim)


def _linear_attention(spec: LinearAttentionSpec, norm: str, rows: Rows, run: Pass) -> list[Op]:
    key_heads, heads = share(spec.num_key_heads, rows.devices), share(spec.num_value_heads, rows.devices)
    mixed, values = 2 * key_heads * spec.key_dim + heads * spec.value_dim, heads * spec.value_dim
    ops = rows.widen("qkvz", mixed, values)
    ops += rows.widen("decay", heads, heads)
    ops.append(Elementwise("convolution", rows.count * mixed * (1 + spec.convolution) / 2, rows.options.dtype))
    ops.append(
        LinearAttention(
            "attention",
            run.batch,
            run.new_tokens,
            heads,
            key_heads,
            spec.key_dim,
            spec.value_dim,
            run.options.dtype,
            chunk=1 if run.generating else 64,
        )
    )
    ops.append(rows.pass_over("output_norm", norm, values))
    ops.append(rows.pass_over("output_gate", "swiglu", values))
    return ops + rows.narrow("output", values)


_BY_KIND: dict[str, Callable[[Any, str, Rows, Pass], list[Op]]] = {
    "self": _self_attention,
    "cross": _cross_attention,
    "latent": _latent_attention,
    "linear": _linear_attention,
}
