"""Device memory of a model under a workload (equations 17 to 19 and 24)."""

from __future__ import annotations

import numpy as np

from costmodel.ops import Num, dtype_of
from costmodel.program import QUANTIZATIONS, Options, runs_as_stored
from costmodel.specs.base import Frozen
from costmodel.specs.model import DecoderSpec, ModelSpec
from costmodel.units import GIB

__all__ = ["Memory", "WouldFit", "memory_of", "memory_parts", "weight_bytes", "workspace_bytes"]

_MOST_NAMED = 4

_GPU_KINDS = ("cuda", "rocm", "hpu", "xpu")

# What a process takes before it holds anything, and what communication between devices adds: 781 MB seen at the start
# of PyTorch (pytorch issue 34323), 1.79 GiB between one and two devices in the log of vLLM (vllm pull request 10511).
_CONTEXT_BYTES, _COMMUNICATION_BYTES = 0.73 * GIB, 1.79 * GIB


class Memory(Frozen):
    """Bytes held on each device at the end of a request.

    Attributes
    ----------
    workspace_bytes
        Of the process itself: context, kernels, buffers of libraries and of communication.
    missing_bytes
        By how much it does not fit.
    largest_batch
        Most requests of this kind that fit together, where it was asked for.
    largest_context_tokens
        Most tokens that each of these requests may reach, where it was asked for; at most what the model allows.
    would_fit
        What would fit instead, where this does not.
    """

    weights_bytes: float
    kv_cache_bytes: float
    activations_bytes: float
    total_bytes: float
    capacity_bytes: float
    fits: bool
    workspace_bytes: float = 0.0
    missing_bytes: float = 0.0
    largest_batch: int | None = None
    largest_context_tokens: int | None = None
    would_fit: WouldFit | None = None


class WouldFit(Frozen):
    """Single changes after which a request fits; each is nothing where it does not help.

    Attributes
    ----------
    context_tokens, batch
        As many at most.
    num_devices
        So many at least, of the same device.
    quantizations
        Schemes that the device multiplies in.
    hardware
        Keys of devices of which one is enough, the smallest first.
    """

    context_tokens: int | None = None
    batch: int | None = None
    num_devices: int | None = None
    quantizations: tuple[str, ...] = ()
    hardware: tuple[str, ...] = ()

    def __str__(self) -> str:
        found = (
            self.context_tokens and f"up to {self.context_tokens} tokens of context",
            self.batch and f"batch {self.batch}",
            self.num_devices and f"{self.num_devices} devices",
            " or ".join(self.quantizations),
            self.hardware and f"one {' or '.join(self.hardware[:_MOST_NAMED])}",
        )
        return "; ".join(text for text in found if text) or "no single change that is known here"


def workspace_bytes(kind: str, num_devices: int) -> float:
    """Bytes that an engine's process takes on one device (equation 24); none on a CPU, whose memory is shared."""
    if kind not in _GPU_KINDS:
        return 0.0
    return _CONTEXT_BYTES + (_COMMUNICATION_BYTES if num_devices > 1 else 0.0)


def weight_bytes(model: ModelSpec, options: Options) -> float:
    """Bytes of all weights on one device: layers are shared out, vision tower and connector are held by each.

    Where the checkpoint's files are at hand and its weights stay as they are, their true bytes. Else only the decoder
    layers, in some engines token table and head too, take the format of a quantisation scheme; every expert of a
    mixture is held.
    """
    wide = dtype_of(options.dtype).weight_bytes
    if model.stored is not None and runs_as_stored(model, options):
        return model.stored.shared_bytes(wide) / options.num_devices + model.stored.repeated_bytes(wide)
    layers = model.decoder.layer_parameters
    scheme = dtype_of(QUANTIZATIONS.get(options.quantization, options.dtype)).weight_bytes
    tables = (model.decoder.parameters - layers) * (scheme if options.quantised_vocabulary else wide)
    shared = layers * scheme + tables
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
    workspace_bytes: float = 0.0,
) -> Memory:
    """Weights, KV cache at the end of the answer, the activations of the widest layer, and a workspace.

    Parameters
    ----------
    model, context_tokens, largest_pass_tokens, patches, batch, options, cross_tokens
        As for :func:`memory_parts`.
    capacity_bytes
        Memory of the device.
    workspace_bytes
        Taken by the process itself, see :func:`workspace_bytes`.
    """
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
    total = weights + kv_cache + activations + workspace_bytes
    return Memory(
        weights_bytes=weights,
        kv_cache_bytes=kv_cache,
        activations_bytes=activations,
        total_bytes=total,
        capacity_bytes=capacity_bytes,
        fits=total <= capacity_bytes,
        workspace_bytes=workspace_bytes,
        missing_bytes=max(total - capacity_bytes, 0.0),
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
