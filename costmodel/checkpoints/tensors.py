"""Tensors of a checkpoint, sorted into the parts of a model by their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from costmodel.specs.stored import StoredPart, StoredWeights

__all__ = ["StoredTensor", "stored_weights"]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """What a header says of one tensor.

    Attributes
    ----------
    elements
        Product of the shape (of packed formats: of the words that they are packed in).
    num_bytes
        Bytes in the file.
    wide
        Whether it has 16 bits or more a value and an engine may convert it.
    """

    name: str
    format: str
    elements: int
    num_bytes: int
    wide: bool


# The first pattern that a name holds decides. Names are those of transformers, of published code beside a checkpoint
# (vpm, resampler: MiniCPM-V; image_vit, wte, ff_out: Molmo) and of llama.cpp (blk, token_embd, output, _exps).
_PARTS = tuple(
    (part, re.compile(pattern))
    for part, pattern in (
        ("not_held", r"(^|\.)mtp\.|inv_freq|^rope_freqs|^rope_factors"),
        ("other", r"audio"),
        ("connector", r"merger|multi_modal_projector|mm_projector|connector|embed_vision|image_newline|vision_adapter"),
        ("connector", r"img_projection|feature_extensor|resampler|image_projector|image_pooling|downsample|^mlp1\."),
        ("connector", r"vision_backbone\.pad_embed"),
        ("vision", r"visual|vision|img_processor|^vpm\.|image_vit"),
        ("experts", r"(?<!shared_)experts\.|_exps\."),
        ("layers", r"(^|\.)(layers|blocks|blk|h)\.\d+\."),
        ("head", r"lm_head|^output\.|transformer\.ff_out"),
        ("embedding", r"embed_tokens|wte|token_embd"),
        ("other", r""),
    )
)


def stored_weights(tensors: Iterable[StoredTensor]) -> StoredWeights:
    """Sum a checkpoint's tensors up by part."""
    groups: dict[str, list[StoredTensor]] = {}
    for tensor in tensors:
        part = next(part for part, pattern in _PARTS if pattern.search(tensor.name))
        groups.setdefault(part, []).append(tensor)
    return StoredWeights(**{part: _part(group) for part, group in groups.items()})


def _part(tensors: list[StoredTensor]) -> StoredPart:
    """Scales in 32 bits beside packed weights stay as they are: kernels read them so."""
    packed = any(not tensor.wide for tensor in tensors)
    wide_elements, packed_bytes, formats = 0, 0, Counter[str]()
    for tensor in tensors:
        formats[tensor.format] += tensor.num_bytes
        if tensor.wide and not (packed and tensor.num_bytes > 2 * tensor.elements):
            wide_elements += tensor.elements
        else:
            packed_bytes += tensor.num_bytes
    return StoredPart(
        tensors=len(tensors),
        wide_elements=wide_elements,
        packed_bytes=packed_bytes,
        format=max(formats, key=lambda name: (formats[name], name)),
    )
