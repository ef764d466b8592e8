"""From a :class:`~costmodel.specs.model.ModelSpec` to the transformers config of the same architecture.

The inverse of the family files in :mod:`costmodel.families`: what they read, this writes. Fields that change
neither a shape nor a run time keep the defaults of the transformers class. One function a family.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedConfig, Qwen2_5_VLConfig, Qwen2VLConfig, Qwen3VLConfig

from costmodel.errors import UnknownKeyError, UnsupportedArchitectureError
from costmodel.specs.images import SmartResize
from costmodel.specs.model import (
    AttentionSpec,
    ConnectorSpec,
    DecoderSpec,
    LayerGroup,
    MlpSpec,
    ModelSpec,
    VisionSpec,
)

__all__ = ["hf_config"]

# In a small vocabulary they take its last ids; elsewhere the class defaults stay.
_SPECIAL_TOKENS = ("vision_start_token_id", "vision_end_token_id", "video_token_id", "image_token_id")


def hf_config(
    model: ModelSpec,
    *,
    text_layers: int | None = None,
    vision_blocks: int | None = None,
    full_attention_blocks: int | None = None,
) -> PreTrainedConfig:
    """Build the transformers config that has a model's architecture.

    Parameters
    ----------
    model
        Architecture.
    text_layers
        Decoder layers to keep (``None``: all; 0 is possible).
    vision_blocks
        Vision blocks to keep (``None``: all; 0 is possible). Each deepstack merger reads a block of its
        own, so that no more of them are kept than blocks.
    full_attention_blocks
        How many of the kept vision blocks see the whole image, where the model has window attention too
        (``None``: the model's own share, rounded down); ignored by other models.

    Returns
    -------
    PreTrainedConfig
        The config of the whole model, with ``vision_config`` and ``text_config``.

    Raises
    ------
    UnsupportedArchitectureError
        If the architecture is beyond what the family's transformers class builds.
    """
    if model.family not in _WRITERS:
        raise UnknownKeyError("family", model.family, _WRITERS)
    if model.vision is None or model.connector is None or model.image_rule is None:
        expected = f"a vision tower, as family {model.family} has"
        raise UnsupportedArchitectureError("vision", "nothing", expected)
    if len(model.decoder.layers) > 1:
        got = f"{len(model.decoder.layers)} kinds of layers"
        raise UnsupportedArchitectureError("decoder.layers", got, "equal layers")
    if not isinstance(model.image_rule, SmartResize):
        raise UnsupportedArchitectureError("image_rule", model.image_rule.rule, "smart_resize")
    layer = _plain(model.decoder.layers[0], "decoder.layers.0")
    blocks = tuple(_plain(block, f"vision.blocks.{i}") for i, block in enumerate(model.vision.blocks))
    depth = model.vision.num_layers if vision_blocks is None else vision_blocks
    layers = model.decoder.num_layers if text_layers is None else text_layers
    parts = _Parts(
        model.decoder,
        model.vision,
        model.connector,
        layer,
        blocks,
        vision_fields=_vision(model.vision, blocks[0], model.connector, model.image_rule, depth),
        text_fields=_text(model.decoder, layer, layers),
    )
    config = _WRITERS[model.family](parts, full_attention_blocks)
    first_free = model.decoder.vocab_size - len(_SPECIAL_TOKENS)
    for offset, name in enumerate(_SPECIAL_TOKENS):
        setattr(config, name, min(getattr(config, name), first_free + offset))
    return config


@dataclass(frozen=True, slots=True)
class _Plain:
    """Layers of plain attention and a dense MLP."""

    count: int
    attention: AttentionSpec
    intermediate_size: int


def _plain(group: LayerGroup, path: str) -> _Plain:
    if not isinstance(group.attention, AttentionSpec):
        raise UnsupportedArchitectureError(f"{path}.attention.kind", group.attention.kind, "self")
    if not isinstance(group.mlp, MlpSpec):
        raise UnsupportedArchitectureError(f"{path}.mlp.kind", group.mlp.kind, "dense")
    return _Plain(group.count, group.attention, group.mlp.intermediate_size)


@dataclass(frozen=True, slots=True)
class _Parts:
    """Parts of a model that has them all, and the config fields that every family shares."""

    decoder: DecoderSpec
    vision: VisionSpec
    connector: ConnectorSpec
    layer: _Plain
    blocks: tuple[_Plain, ...]
    vision_fields: dict[str, Any]
    text_fields: dict[str, Any]


def _qwen3_vl(parts: _Parts, full_attention_blocks: int | None) -> PreTrainedConfig:
    vision, text = parts.vision_fields, parts.text_fields
    attention = parts.layer.attention
    mergers = sum(entry.count for entry in parts.connector.projections if entry.name == "deepstack_merger")
    vision["num_position_embeddings"] = parts.vision.position_embeddings
    vision["deepstack_visual_indexes"] = _spread(mergers, vision["depth"])
    half = attention.head_dim // 2
    text["head_dim"] = attention.head_dim
    text["attention_bias"] = attention.qkv_bias
    # Interleaved: height and width take every third frequency each, time what is left.
    text["rope_parameters"] = _rope([half - 2 * (half // 3), half // 3, half // 3], mrope_interleaved=True)
    return Qwen3VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=parts.decoder.tied_embeddings)


def _qwen2_vl(parts: _Parts, full_attention_blocks: int | None) -> PreTrainedConfig:
    vision, text = parts.vision_fields, parts.text_fields
    width, inner = vision["hidden_size"], vision.pop("intermediate_size")
    if inner % width:
        path = "vision.blocks.0.mlp.intermediate_size"
        raise UnsupportedArchitectureError(path, str(inner), f"a multiple of {width}")
    # Its vision config calls the tower's own width embed_dim, and the decoder's hidden_size.
    vision |= {"embed_dim": width, "mlp_ratio": inner // width, "hidden_size": vision.pop("out_hidden_size")}
    text["rope_parameters"] = _shared_rope(parts)
    return Qwen2VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=parts.decoder.tied_embeddings)


def _shared_rope(parts: _Parts) -> dict[str, Any]:
    """Rotations of Qwen2: a quarter of the frequencies for time; heads must fill the hidden size."""
    attention, hidden_size = parts.layer.attention, parts.decoder.hidden_size
    if attention.q_size != hidden_size:
        expected = f"num_heads · head_dim, here {attention.q_size}"
        raise UnsupportedArchitectureError("decoder.hidden_size", str(hidden_size), expected)
    half = attention.head_dim // 2
    rest = half - half // 4
    return _rope([half // 4, rest // 2, rest - rest // 2])


def _qwen2_5_vl(parts: _Parts, full_attention_blocks: int | None) -> PreTrainedConfig:
    vision, text = parts.vision_fields, parts.text_fields
    text["rope_parameters"] = _shared_rope(parts)
    sides = {group.attention.window for group in parts.blocks if group.attention.window is not None}
    depth = vision["depth"]
    full = sum(group.count for group in parts.blocks if group.attention.window is None)
    kept = full * depth // parts.vision.num_layers if full_attention_blocks is None else full_attention_blocks
    vision["fullatt_block_indexes"] = _spread(kept, depth)
    for side in sides:
        vision["window_size"] = side * parts.vision.patch_size
    return Qwen2_5_VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=parts.decoder.tied_embeddings)


def _vision(
    vision: VisionSpec, block: _Plain, connector: ConnectorSpec, image_rule: SmartResize, depth: int
) -> dict[str, Any]:
    """Fields that both vision towers have."""
    return {
        "depth": depth,
        "hidden_size": vision.hidden_size,
        "intermediate_size": block.intermediate_size,
        "num_heads": block.attention.num_heads,
        "in_channels": vision.in_channels,
        "patch_size": vision.patch_size,
        "temporal_patch_size": vision.temporal_patch_size,
        "spatial_merge_size": image_rule.merge_size,
        "out_hidden_size": connector.projections[0].linears[-1].out_features,
    }


def _text(decoder: DecoderSpec, layer: _Plain, layers: int) -> dict[str, Any]:
    """Fields that both decoders have."""
    return {
        "vocab_size": decoder.vocab_size,
        "hidden_size": decoder.hidden_size,
        "intermediate_size": layer.intermediate_size,
        "num_hidden_layers": layers,
        "num_attention_heads": layer.attention.num_heads,
        "num_key_value_heads": layer.attention.num_kv_heads,
        "max_position_embeddings": decoder.max_context_tokens,
        # Ids of text tokens may lie beyond a small vocabulary, and no run needs them.
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
    }


def _rope(sections: list[int], **extra: bool) -> dict[str, Any]:
    return {"rope_type": "default", "mrope_section": sections, **extra}


def _spread(count: int, depth: int) -> list[int]:
    """``count`` different block indexes, each the last of an equal share of the depth."""
    kept = min(count, depth)
    return [math.ceil((index + 1) * depth / kept) - 1 for index in range(kept)]


_WRITERS: dict[str, Callable[[_Parts, int | None], PreTrainedConfig]] = {
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen2_vl": _qwen2_vl,
    "qwen3_vl": _qwen3_vl,
}
