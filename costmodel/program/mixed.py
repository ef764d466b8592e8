"""A forward pass that reads a piece of one prompt beside the next tokens of other requests (chunked prefill)."""

from __future__ import annotations

from costmodel.ops import GenerationAttention, LinearAttention, Num
from costmodel.program.attention import Pass, attention_ops
from costmodel.program.decoder import head, shell
from costmodel.program.layers import attention_flops, group_suffix, kv_bytes, layer_ops, matrix_flops
from costmodel.program.rows import Rows
from costmodel.program.stages import Component, Options, Stage
from costmodel.specs.model import DecoderSpec, LayerGroup, ModelSpec

__all__ = ["mixed_step"]


def mixed_step(
    model: ModelSpec,
    *,
    new_tokens: float,
    cached_tokens: float,
    running: int,
    context_tokens: Num,
    options: Options,
    cross_tokens: int = 0,
) -> Stage:
    """One step in which ``running`` requests get a token while ``new_tokens`` of a further prompt are read.

    The rows share every matrix, which is read once; each kind of row has an attention of its own. The attention of
    the running requests is a component beside the layers, under the name that a decode step gives them: slices price
    its cache there.

    Parameters
    ----------
    cached_tokens
        Tokens of the prompt that are in the cache already.
    context_tokens
        Tokens that a running request attends to, the new one included.
    cross_tokens
        Vision states a request, where the model reads them by cross-attention; made in the first piece.
    """
    made_now = cross_tokens if cached_tokens == 0 else 0
    reading = Pass(1, new_tokens, cached_tokens + new_tokens, cross_tokens, made_now, False, options)
    writing = Pass(running, 1.0, context_tokens, cross_tokens, 0, True, options)
    tokens = new_tokens + running
    components = [shell(model.decoder, tokens, "prefill", {"requests": 1.0, "tokens": tokens}, options)]
    for group in model.decoder.layers:
        if group.attention.kind != "cross" or cross_tokens:
            components += _layer(model.decoder, group, reading, writing)
    return Stage("prefill", (*components, head(model, running + 1, options)))


def _layer(decoder: DecoderSpec, group: LayerGroup, reading: Pass, writing: Pass) -> list[Component]:
    options, suffix = reading.options, group_suffix(decoder.layers, group)
    rows = Rows(
        reading.new_tokens + writing.batch, decoder.hidden_size, options.linear_dtype, options, options.num_devices
    )
    ops = layer_ops(group, rows, attention_ops(group.attention, group.norm, rows, reading))
    cached = tuple(
        op
        for op in attention_ops(group.attention, group.norm, rows, writing)
        if isinstance(op, GenerationAttention | LinearAttention)
    )
    features: dict[str, Num] = {
        "layers": 1.0,
        "gemm_flops": matrix_flops(ops),
        "attention_flops": attention_flops(ops),
    }
    beside: dict[str, Num] = {"layers": 0.0, "gemm_flops": 0.0, "kv_bytes": kv_bytes(cached)}
    return [
        Component(f"prefill.decoder_layer{suffix}", group.count, ops, features),
        Component(f"decode.decoder_layer{suffix}", group.count, cached, beside),
    ]
