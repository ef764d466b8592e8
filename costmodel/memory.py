"""Device memory of a model under a workload (equations 17 to 19)."""

from __future__ import annotations

from costmodel.ops import dtype_of
from costmodel.program import Options
from costmodel.specs.base import Frozen
from costmodel.specs.model import ModelSpec

__all__ = ["Memory", "memory_of"]


class Memory(Frozen):
    """Bytes held on the device at the end of a request."""

    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float
    total_bytes: float
    capacity_bytes: float
    fits: bool


def memory_of(
    model: ModelSpec,
    *,
    context_tokens: int,
    largest_pass_tokens: int,
    patches: int,
    batch: int,
    options: Options,
    capacity_bytes: float,
) -> Memory:
    """Weights, KV cache at the end of the answer, and the activations of the widest layer.

    Parameters
    ----------
    context_tokens
        Tokens per request when the answer ends.
    largest_pass_tokens
        Tokens per request in the largest forward pass of the decoder.
    patches
        Patches of all images of one request.
    """
    dtype = dtype_of(options.dtype)
    weights = model.parameters * dtype.weight_bytes
    per_token = 2 * dtype_of(options.kv_dtype).activation_bytes
    kv_cache = sum(
        batch
        * per_token
        * group.attention.kv_size
        * group.count
        * min(context_tokens, group.attention.window or context_tokens)
        for group in model.decoder.layers
    )
    decoder_rows = batch * largest_pass_tokens
    decoder_width = max(
        3 * model.decoder.hidden_size + 2 * group.mlp.intermediate_size for group in model.decoder.layers
    )
    vision_width = (
        max(3 * model.vision.hidden_size + 2 * g.mlp.intermediate_size for g in model.vision.blocks)
        if model.vision
        else 0
    )
    widest = max(decoder_rows * decoder_width, batch * patches * vision_width)
    logits = batch * model.decoder.vocab_size * 4
    activations = widest * dtype.activation_bytes + logits
    total = weights + kv_cache + activations
    return Memory(
        weights_bytes=weights,
        kv_cache_bytes=kv_cache,
        activations_bytes=activations,
        total_bytes=total,
        capacity_bytes=capacity_bytes,
        fits=total <= capacity_bytes,
    )
