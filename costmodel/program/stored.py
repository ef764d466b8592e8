"""A checkpoint's own number formats in place of those that a scheme has in general."""

from __future__ import annotations

import dataclasses

from costmodel.ops import dtype_of, with_weight_bytes
from costmodel.program.stages import QUANTIZATIONS, Options, StoredFormats
from costmodel.specs.model import ModelSpec
from costmodel.specs.stored import StoredPart

__all__ = ["as_stored", "runs_as_stored"]

_LLAMA_CPP = "gguf-"


def runs_as_stored(model: ModelSpec, options: Options) -> bool:
    """Whether the weights stay as the checkpoint's files hold them: its own scheme, and the files were at hand."""
    return model.stored is not None and options.quantization == model.quantization


def as_stored(options: Options, model: ModelSpec) -> Options:
    """Give the matrices of the language model the mean bytes per weight that the checkpoint's tensors take.

    Mixed formats have no width of their own: a ``Q4_K_M`` file holds some matrices in ``q6_k``. Parts that are in 16
    bits or more, and models without files at hand, stay as they are.
    """
    stored = model.stored
    if stored is None or not runs_as_stored(model, options):
        return options
    decoder, experts = model.decoder, model.decoder.expert_parameters
    head = stored.embedding if decoder.tied_embeddings else stored.head
    of_head = decoder.embedding_parameters if decoder.tied_embeddings else decoder.head_parameters
    linear = options.linear_dtype
    layers = _format(stored.layers, decoder.layer_parameters - experts, linear, options)
    return dataclasses.replace(
        options,
        stored=StoredFormats(
            layers=layers,
            experts=_format(stored.experts, experts, linear, options) if experts else layers,
            head=_format(head, of_head, options.dtype, options),
        ),
    )


def _format(part: StoredPart, parameters: int, otherwise: str, options: Options) -> str:
    """Format of a part's matrices; ``otherwise`` where the files have no tensors of it."""
    if not part.packed_bytes or not parameters:
        return options.dtype if part.tensors else otherwise
    if options.quantization.startswith(_LLAMA_CPP):
        name = f"{_LLAMA_CPP}{part.format}"
    else:
        name = QUANTIZATIONS.get(options.quantization, options.dtype)
    return with_weight_bytes(name, part.held_bytes(dtype_of(options.dtype).weight_bytes) / parameters)
