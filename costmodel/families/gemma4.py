"""Gemma 4: ViT over a fixed budget of patches, decoder of sliding and global layers of different shape."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import layer_count, read_layer_types, read_tied
from costmodel.families.gemma4_audio import audio_parameters
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.gemma4 import read_gemma4
from costmodel.specs.model import (
    AttentionSpec,
    ConnectorSpec,
    DecoderSpec,
    LayerGroup,
    MlpSpec,
    ModelSpec,
    MoeSpec,
    VisionSpec,
    grouped,
)

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("gemma4",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Gemma 4 config; an audio tower is held and never run."""
    vision, decoder = config.child("vision_config"), _decoder(config)
    width = vision.integer("hidden_size")
    return ModelSpec(
        name=name,
        family="gemma4",
        source=source,
        vision=_vision(vision),
        connector=ConnectorSpec(projections=(projection(width, decoder.hidden_size, bias=False),)),
        decoder=decoder,
        image_rule=read_gemma4(vision, image_settings),
        unused_parameters=audio_parameters(config, decoder.hidden_size),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    """Four norms a block, and norms of queries and keys; tables of positions for rows and for columns."""
    heads = vision.integer("num_attention_heads")
    vision.quotient("num_attention_heads", "num_key_value_heads")
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=vision.integer("num_key_value_heads"),
        head_dim=vision.integer("head_dim"),
        qkv_bias=vision.boolean("attention_bias", default=False),
        output_bias=vision.boolean("attention_bias", default=False),
        qk_norm="head",
    )
    mlp = MlpSpec(intermediate_size=vision.integer("intermediate_size"), gated=True, bias=False)
    return VisionSpec(
        hidden_size=vision.integer("hidden_size"),
        in_channels=3,
        patch_size=vision.integer("patch_size"),
        temporal_patch_size=1,
        patch_bias=False,
        position_embeddings=2 * vision.integer("position_embedding_size"),
        blocks=(LayerGroup(count=layer_count(vision), attention=attention, mlp=mlp, norm="rms_norm", norms=4),),
    )


def _decoder(config: ConfigReader) -> DecoderSpec:
    text = config.child("text_config")
    types = read_layer_types(text, ("sliding_attention", "full_attention"))
    shared = min(text.integer("num_kv_shared_layers", default=0, lowest=0), len(types))
    first_shared = len(types) - shared
    layer_input = text.integer("hidden_size_per_layer_input", default=0, lowest=0)
    layers = [
        _layer(
            text.of_layer(index),
            kind == "full_attention",
            shares=shared > 0 and index >= first_shared,
            layer_input=layer_input,
        )
        for index, kind in enumerate(types)
    ]
    table = text.integer("vocab_size_per_layer_input") if layer_input else 0
    return DecoderSpec(
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=read_tied(text, config, default=True),
        final_norm="rms_norm",
        layers=grouped(layers),
        max_context_tokens=text.integer("max_position_embeddings"),
        layer_input_vocab=table,
        other_parameters=layer_input,
    )


def _layer(text: ConfigReader, is_global: bool, *, shares: bool, layer_input: int) -> LayerGroup:
    """One layer: global ones have wider heads and may use keys as values; sharing ones have a wider MLP."""
    double = shares and text.boolean("use_double_wide_mlp", default=False)
    inner = text.integer("intermediate_size") * (2 if double else 1)
    mlp = MlpSpec(intermediate_size=inner, gated=True, bias=False)
    layer = LayerGroup(
        count=1,
        attention=_attention(text, is_global, shares=shares),
        mlp=mlp,
        norm="rms_norm",
        norms=5 if layer_input else 4,
        layer_input=layer_input,
    )
    if not text.boolean("enable_moe_block", default=False):
        return layer
    moe = MoeSpec(
        num_experts=text.integer("num_experts"),
        top_k=text.integer("top_k_experts"),
        intermediate_size=text.integer("moe_intermediate_size"),
    )
    # Three norms more, a scale of the router's input and one for each expert.
    scales = text.integer("hidden_size") + moe.num_experts
    return layer.model_copy(update={"more_mlps": (moe,), "norms": layer.norms + 3, "other_parameters": scales})


def _attention(text: ConfigReader, is_global: bool, *, shares: bool) -> AttentionSpec:
    kv_heads, head_dim = "num_key_value_heads", "head_dim"
    same = is_global and text.boolean("attention_k_eq_v", default=False)
    if is_global:
        head_dim = "head_dim" if text.has("per_layer_config") else "global_head_dim"
        kv_heads = "num_global_key_value_heads" if same and text.has("num_global_key_value_heads") else kv_heads
    bias = text.boolean("attention_bias", default=False)
    text.quotient("num_attention_heads", kv_heads)
    return AttentionSpec(
        num_heads=text.integer("num_attention_heads"),
        num_kv_heads=text.integer(kv_heads),
        head_dim=text.integer(head_dim),
        qkv_bias=bias,
        output_bias=bias,
        qk_norm="head",
        kv="earlier_layer" if shares else "keys_as_values" if same else "own",
        window=None if is_global else text.integer("sliding_window"),
    )
