"""Llama 3.2 Vision: local and global ViT over all tiles at once, cross-attention layers (arXiv 2407.21783, 7.2)."""

from __future__ import annotations

from costmodel.errors import ConfigError
from costmodel.families.connectors import projection
from costmodel.families.decoders import Traits, layer_count, read_tied, self_attention
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.mllama import read_mllama
from costmodel.image_rules.settings import check_equal, read_patch_size, read_side
from costmodel.specs.model import (
    AttentionSpec,
    ConnectorSpec,
    CrossAttentionSpec,
    DecoderSpec,
    LayerGroup,
    MlpSpec,
    ModelSpec,
    VisionSpec,
    grouped,
)

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("mllama",)

# Entries of the token table beyond the vocabulary: the image token and its padding.
_EXTRA_TOKENS = 8


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Llama 3.2 Vision config."""
    vision, decoder = config.child("vision_config"), _decoder(config)
    features = vision.integer("vision_output_dim")
    return ModelSpec(
        name=name,
        family="mllama",
        source=source,
        vision=_vision(vision),
        connector=ConnectorSpec(projections=(projection(features, decoder.hidden_size),)),
        decoder=decoder,
        image_rule=read_mllama(vision, image_settings),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    """Two stacks of blocks, the second gated; intermediate outputs beside the last one widen the features."""
    hidden_size, heads = vision.integer("hidden_size"), vision.integer("attention_heads")
    kept = len(vision.integers("intermediate_layers_indices"))
    check_equal(vision, "vision_output_dim", hidden_size * (1 + kept), why="hidden_size for each kept output and one")
    local = LayerGroup(
        count=layer_count(vision),
        attention=AttentionSpec(
            num_heads=heads,
            num_kv_heads=heads,
            head_dim=vision.quotient("hidden_size", "attention_heads"),
            qkv_bias=False,
            output_bias=False,
            rotary=False,
        ),
        mlp=MlpSpec(intermediate_size=vision.integer("intermediate_size"), gated=False, bias=True),
        norm="layer_norm",
    )
    blocks = (
        local,
        local.model_copy(update={"count": layer_count(vision, "num_global_layers"), "other_parameters": 2}),
    )
    grid = read_side(vision, "image_size") // read_patch_size(vision)
    tiles, ratios = vision.integer("max_num_tiles"), _aspect_ratios(vision)
    embeddings = (ratios + 1) * tiles * hidden_size * (grid**2 + 1 + 2)
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("num_channels", default=3),
        patch_size=read_patch_size(vision),
        temporal_patch_size=1,
        patch_bias=False,
        position_embeddings=grid**2 + 1,
        blocks=blocks,
        # Tables of tile positions, three gates, the class token, norms before and after.
        other_parameters=embeddings + 3 + hidden_size * (1 + 2 + 2),
    )


def _aspect_ratios(vision: ConfigReader) -> int:
    """Count the arrangements of tiles that have an embedding."""
    return len(vision.pairs("supported_aspect_ratios"))


def _decoder(config: ConfigReader) -> DecoderSpec:
    text = config.child("text_config")
    count, crossing = layer_count(text), set(text.integers("cross_attention_layers"))
    if any(index >= count for index in crossing):
        path, expected = text.path_of("cross_attention_layers"), f"indexes below num_hidden_layers {count}"
        raise ConfigError(path, str(sorted(crossing))[:40], expected)
    own = self_attention(text, Traits(qkv_bias=False))
    cross = CrossAttentionSpec(
        num_heads=own.num_heads, num_kv_heads=own.num_kv_heads, head_dim=own.head_dim, qk_norm=True
    )
    mlp = MlpSpec(intermediate_size=text.integer("intermediate_size"), gated=True, bias=False)
    plain = LayerGroup(count=1, attention=own, mlp=mlp, norm="rms_norm")
    gated = LayerGroup(count=1, attention=cross, mlp=mlp, norm="rms_norm", other_parameters=2)
    hidden_size = text.integer("hidden_size")
    return DecoderSpec(
        hidden_size=hidden_size,
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=read_tied(text, config, default=False),
        final_norm="rms_norm",
        layers=grouped(gated if index in crossing else plain for index in range(count)),
        max_context_tokens=text.integer("max_position_embeddings"),
        other_parameters=_EXTRA_TOKENS * hidden_size,
    )
