"""Device memory of a model under a workload (equations 17 to 19)."""

from __future__ import annotations

import numpy as np

from costmodel.ops import Num, dtype_of
from costmodel.program import Options
from costmodel.specs.base import Frozen
from costmodel.specs.model import DecoderSpec, ModelSpec

__all__ = ["Memory", "memory_of", "memory_parts", "weight_bytes"]


class Memory(Frozen):
    """Bytes held on each device at the end of a request."""

    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float
    total_bytes: float
    capacity_bytes: float
    fits: bool


def weight_bytes(model: ModelSpec, options: Options) -> float:
    """Bytes of all weights on one device: layers are shared out, vision tower and connector are held by each.

    Only the decoder layers, in some engines token table and head too, take the format of a quantisation scheme; every
    expert of a mixture is held.
    """
    wide = dtype_of(options.dtype).weight_bytes
    layers = model.decoder.layer_parameters
    tables = (model.decoder.parameters - layers) * dtype_of(options.vocabulary_dtype).weight_bytes
    shared = layers * dtype_of(options.linear_dtype).weight_bytes + tables
    return shared / options.num_devices + (model.vision_parameters + model.unused_parameters) * wide


def memory_of(
    model: ModelSpec,
    *,
    context_tokens: int,
    largest_pass_tokens: int,
    patches: int,
    batch: int,
    options: Options,
    capacity_bytes: float,
    cross_tokens: int = 0,
) -> Memory:
    """Weights, KV cache at the end of the answer, and the activations; parameters as for :func:`memory_parts`."""
    parts = memory_parts(
        model,
        context_tokens=context_tokens,
        largest_pass_tokens=largest_pass_tokens,
        patches=patches,
        batch=batch,
        options=options,
        cross_tokens=cross_tokens,
    )
    weights, kv_cache, activations = map(float, parts)
    total = weights + kv_cache + activations
    return Memory(
        weights_bytes=weights,
        kv_cache_bytes=kv_cache,
        activations_bytes=activations,
        total_bytes=total,
        capacity_bytes=capacity_bytes,
        fits=total <= capacity_bytes,
    )


def memory_parts(
    model: ModelSpec,
    *,
    context_tokens: Num,
    largest_pass_tokens: Num,
    patches: Num,
    batch: Num,
    options: Options,
    cross_tokens: Num = 0,
) -> tuple[float, Num, Num]:
    """Bytes of the weights, of the KV cache at the end of the answer, and of the activations of the widest layer.

    Parameters
    ----------
    context_tokens
        Tokens per request when the answer ends.
    largest_pass_tokens
        Tokens per request in the largest forward pass of the decoder.
    patches
        Patches of all images of one request.
    cross_tokens
        Vision states per request that cross-attention reads.
    """
    kv_cache = batch * sum(
        group.count
        * group.attention.cache_bytes(
            context_tokens,
            cross_tokens=cross_tokens,
            element_bytes=dtype_of(options.kv_dtype).activation_bytes,
            devices=options.num_devices,
        )
        for group in model.decoder.layers
    )
    widest = np.maximum(
        1.0 * batch * largest_pass_tokens * _decoder_width(model.decoder, options.num_devices),
        1.0 * batch * patches * _vision_width(model),
    )
    logits = batch * model.decoder.vocab_size * 4
    return weight_bytes(model, options), kv_cache, widest * dtype_of(options.dtype).activation_bytes + logits


def _decoder_width(decoder: DecoderSpec, devices: int) -> float:
    inner = max(mlp.active_width for group in decoder.layers for mlp in group.mlps)
    return 3 * decoder.hidden_size + 2 * inner / devices


def _vision_width(model: ModelSpec) -> float:
    if model.vision is None:
        return 0
    return max(3 * model.vision.hidden_size + 2 * group.mlp.active_width for group in model.vision.blocks)
