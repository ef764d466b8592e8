"""Prefill and decode steps of the language model."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from costmodel.ops import AllGather, AllReduce, Elementwise, Gemm, Num, Op, dtype_of
from costmodel.program.attention import Pass, attention_ops
from costmodel.program.layers import attention_flops, group_suffix, kv_bytes, layer_ops, matrix_flops
from costmodel.program.rows import Rows, elementwise
from costmodel.program.stages import Component, Features, Options, Stage
from costmodel.specs.model import AttentionSpec, DecoderSpec, LayerGroup, ModelSpec

__all__ = ["decode_step", "head", "prefill", "prefill_chunks", "shell"]


def prefill(
    model: ModelSpec,
    *,
    new_tokens: Num,
    cached_tokens: Num,
    batch: Num,
    options: Options,
    cross_tokens: Num = 0,
    first_chunk: Num = True,
    makes_token: bool = True,
) -> Stage:
    """The decoder reads ``new_tokens`` per request on top of ``cached_tokens``, and makes the first output token.

    Parameters
    ----------
    cross_tokens
        Vision states a request, where the model reads them by cross-attention.
    first_chunk
        Whether their keys and values are made now.
    makes_token
        Whether the pass ends the prompt.
    """
    run = Pass(
        batch=batch,
        new_tokens=new_tokens,
        context_tokens=cached_tokens + new_tokens,
        cross_tokens=cross_tokens,
        new_cross_tokens=cross_tokens * first_chunk,
        generating=False,
        options=options,
    )
    rows = batch * new_tokens
    start = shell(model.decoder, rows, "prefill", {"requests": 1.0, "tokens": rows}, options)
    end = (head(model, batch, options),) if makes_token else ()
    return Stage("prefill", (start, *_layers(model.decoder, run, "prefill"), *end))


def prefill_chunks(
    model: ModelSpec, *, new_tokens: int, cached_tokens: int, batch: int, options: Options, cross_tokens: int = 0
) -> tuple[Stage, ...]:
    """Prefill in passes of at most ``options.chunk_tokens`` per request; the last one makes the output token."""
    length = options.chunk_tokens or new_tokens
    stages = [
        prefill(
            model,
            new_tokens=float(min(length, new_tokens - start)),
            cached_tokens=float(cached_tokens + start),
            batch=batch,
            options=options,
            cross_tokens=cross_tokens,
            first_chunk=start == 0,
            makes_token=start + length >= new_tokens,
        )
        for start in range(0, new_tokens, length)
    ]
    return tuple(stages)


def decode_step(model: ModelSpec, *, context_tokens: Num, batch: Num, options: Options, cross_tokens: Num = 0) -> Stage:
    """One step: one new token a request, attending to ``context_tokens`` including itself."""
    run = Pass(
        batch=batch,
        new_tokens=1.0,
        context_tokens=context_tokens,
        cross_tokens=cross_tokens,
        new_cross_tokens=0,
        generating=True,
        options=options,
    )
    features = {"requests": 1.0, "context_tokens": context_tokens}
    start = shell(model.decoder, 1.0 * batch, "decode", features, options)
    return Stage("decode", (start, *_layers(model.decoder, run, "decode"), head(model, batch, options)))


def _layers(decoder: DecoderSpec, run: Pass, phase: str) -> list[Component]:
    """A component for each group; layers of cross-attention are skipped where there is no image."""
    groups = [g for g in decoder.layers if g.attention.kind != "cross" or np.any(run.cross_tokens)]
    return [_layer(decoder, group, run, phase) for group in groups]


def _layer(decoder: DecoderSpec, group: LayerGroup, run: Pass, phase: str) -> Component:
    options = run.options
    if _last_token_suffices(group, options) and not run.generating:
        run = dataclasses.replace(run, new_tokens=1.0)
    rows = Rows(run.batch * run.new_tokens, decoder.hidden_size, options.linear_dtype, options, options.num_devices)
    ops = layer_ops(group, rows, attention_ops(group.attention, group.norm, rows, run))
    feature, of = _PHASE_FEATURES[phase]
    features = Features(layers=lambda: 1.0, gemm_flops=lambda: matrix_flops(ops), **{feature: lambda: of(ops)})
    return Component(f"{phase}.decoder_layer{group_suffix(decoder.layers, group)}", group.count, ops, features)


def _last_token_suffices(group: LayerGroup, options: Options) -> bool:
    """Layers that read the cache of earlier ones: transformers takes only the last token of a prompt through them."""
    attention = group.attention
    return isinstance(attention, AttentionSpec) and attention.kv == "earlier_layer" and not options.fused


_PHASE_FEATURES: dict[str, tuple[str, Callable[[tuple[Op, ...]], Num]]] = {
    "prefill": ("attention_flops", attention_flops),
    "decode": ("kv_bytes", kv_bytes),
}


def shell(decoder: DecoderSpec, rows: Num, phase: str, features: dict[str, Num], options: Options) -> Component:
    """Token table, and the inputs of the layers where they have their own, for ``rows`` tokens."""
    ops: list[Op] = [Elementwise("embedding", rows * decoder.hidden_size, options.dtype)]
    if options.num_devices > 1:
        size = rows * decoder.hidden_size * dtype_of(options.dtype).activation_bytes
        ops.append(AllReduce("embedding_sum", size, options.num_devices, options.dtype))
    if width := decoder.layer_input_size:
        ops.append(Elementwise("layer_input_table", rows * width, options.dtype))
        ops.append(Gemm("layer_input_map", rows, width, decoder.hidden_size, options.dtype))
    return Component(f"{phase}.shell", 1, tuple(ops), features)


def head(model: ModelSpec, batch: Num, options: Options) -> Component:
    """Final norm and the map to the vocabulary, for the last token of each request only; a tied head is read too."""
    decoder, devices = model.decoder, options.num_devices
    ops: list[Op] = [
        elementwise("final_norm", decoder.final_norm, 1.0 * batch * decoder.hidden_size, options),
        Gemm("lm_head", 1.0 * batch, decoder.vocab_size / devices, decoder.hidden_size, options.vocabulary_dtype),
    ]
    if devices > 1:
        size = batch * decoder.vocab_size * dtype_of(options.dtype).activation_bytes
        ops.append(AllGather("logits", size, devices, options.dtype))
    return Component("head", 1, tuple(ops), {"rows": 1.0 * batch})
