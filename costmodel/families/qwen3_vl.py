"""Qwen3-VL, dense: ViT with a position table and deepstack mergers, Qwen3 decoder (arXiv 2511.21631)."""

from __future__ import annotations

from costmodel.errors import ConfigError
from costmodel.families.qwen_images import check_equal, read_merge_size, read_smart_resize
from costmodel.families.reader import ConfigReader
from costmodel.specs.model import (
    AttentionSpec,
    ConnectorSpec,
    DecoderSpec,
    LayerGroup,
    LinearSpec,
    MlpSpec,
    ModelSpec,
    ProjectionSpec,
    VisionSpec,
)

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("qwen3_vl",)

# Area limits of the published preprocessor_config.json, in pixels.
_MIN_PIXELS, _MAX_PIXELS = 65_536, 16_777_216


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Qwen3-VL config."""
    vision, decoder = config.child("vision_config"), _decoder(config)
    check_equal(vision, "out_hidden_size", decoder.hidden_size, why="the hidden_size of the decoder")
    return ModelSpec(
        name=name,
        family="qwen3_vl",
        source=source,
        vision=_vision(vision),
        connector=_connector(vision),
        decoder=decoder,
        image_rule=read_smart_resize(vision, image_settings, min_pixels=_MIN_PIXELS, max_pixels=_MAX_PIXELS),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    hidden_size, num_heads = vision.integer("hidden_size"), vision.integer("num_heads")
    block = LayerGroup(
        count=vision.integer("depth"),
        attention=AttentionSpec(
            num_heads=num_heads,
            num_kv_heads=num_heads,
            head_dim=vision.quotient("hidden_size", "num_heads"),
            qkv_bias=True,
            output_bias=True,
        ),
        mlp=MlpSpec(intermediate_size=vision.integer("intermediate_size"), gated=False, bias=True),
        norm="layer_norm",
    )
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("in_channels", default=3),
        patch_size=vision.integer("patch_size"),
        temporal_patch_size=vision.integer("temporal_patch_size", default=2),
        patch_bias=True,
        position_embeddings=vision.integer("num_position_embeddings"),
        blocks=(block,),
    )


def _connector(vision: ConfigReader) -> ConnectorSpec:
    """Read the mergers: the final one normalises patches, each deepstack one normalises merged patches."""
    hidden_size = vision.integer("hidden_size")
    patches_per_token = read_merge_size(vision) ** 2
    merged = hidden_size * patches_per_token
    linears = (
        LinearSpec(in_features=merged, out_features=merged, bias=True),
        LinearSpec(in_features=merged, out_features=vision.integer("out_hidden_size"), bias=True),
    )
    projections = [ProjectionSpec(name="merger", count=1, norm="layer_norm", norm_size=hidden_size, linears=linears)]
    if deepstack := _deepstack_mergers(vision):
        projections.append(
            ProjectionSpec(
                name="deepstack_merger",
                count=deepstack,
                norm="layer_norm",
                norm_size=merged,
                linears=linears,
            )
        )
    return ConnectorSpec(patches_per_token=patches_per_token, projections=tuple(projections))


def _deepstack_mergers(vision: ConfigReader) -> int:
    """Count the blocks whose output a merger of its own reads."""
    indexes, depth = vision.integers("deepstack_visual_indexes"), vision.integer("depth")
    if len(set(indexes)) != len(indexes) or any(index >= depth for index in indexes):
        expected = f"different block indexes below depth {depth}"
        raise ConfigError(vision.path_of("deepstack_visual_indexes"), str(list(indexes))[:40], expected)
    return len(indexes)


def _decoder(config: ConfigReader) -> DecoderSpec:
    text = config.child("text_config")
    text.quotient("num_attention_heads", "num_key_value_heads")
    attention_bias = text.boolean("attention_bias", default=False)
    layer = LayerGroup(
        count=text.integer("num_hidden_layers"),
        attention=AttentionSpec(
            num_heads=text.integer("num_attention_heads"),
            num_kv_heads=text.integer("num_key_value_heads"),
            head_dim=text.integer("head_dim"),
            qkv_bias=attention_bias,
            output_bias=attention_bias,
            qk_norm=True,
        ),
        mlp=MlpSpec(intermediate_size=text.integer("intermediate_size"), gated=True, bias=False),
        norm="rms_norm",
    )
    return DecoderSpec(
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=config.boolean("tie_word_embeddings", default=False),
        final_norm="rms_norm",
        layers=(layer,),
        max_context_tokens=text.integer("max_position_embeddings"),
    )
