"""Qwen2.5-VL: ViT with window attention in most blocks, Qwen2.5 decoder (arXiv 2502.13923, table 1)."""

from __future__ import annotations

from costmodel.errors import ConfigError
from costmodel.families.decoders import layer_count, read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.settings import check_equal
from costmodel.image_rules.smart_resize import read_merge_size, read_smart_resize
from costmodel.specs.model import (
    AttentionSpec,
    ConnectorSpec,
    LayerGroup,
    LinearSpec,
    MlpSpec,
    ModelSpec,
    ProjectionSpec,
    VisionSpec,
)

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("qwen2_5_vl",)

# Area limits of the published preprocessor_config.json, in pixels (the processor class has others).
_MIN_PIXELS, _MAX_PIXELS = 3_136, 12_845_056


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Qwen2.5-VL config: decoder fields at the top (older) or under ``text_config`` (newer files)."""
    vision = config.child("vision_config")
    decoder = read_decoder(config.child_or_self("text_config"), kind="qwen2_vl_text", whole=config)
    check_equal(vision, "out_hidden_size", decoder.hidden_size, why="the hidden_size of the decoder")
    return ModelSpec(
        name=name,
        family="qwen2_5_vl",
        source=source,
        vision=_vision(vision),
        connector=_connector(vision),
        decoder=decoder,
        image_rule=read_smart_resize(vision, image_settings, min_pixels=_MIN_PIXELS, max_pixels=_MAX_PIXELS),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    hidden_size, num_heads = vision.integer("hidden_size"), vision.integer("num_heads")
    head_dim = vision.quotient("hidden_size", "num_heads")
    depth, patch_size = layer_count(vision, "depth"), vision.integer("patch_size")
    token_size = patch_size * read_merge_size(vision)
    full = {index for index in vision.integers("fullatt_block_indexes") if index < depth}
    window_size = vision.integer("window_size")
    if window_size % token_size:
        expected = f"a multiple of patch_size · spatial_merge_size {token_size}"
        raise ConfigError(vision.path_of("window_size"), str(window_size), expected)

    def blocks(count: int, window: int | None) -> LayerGroup:
        return LayerGroup(
            count=count,
            attention=AttentionSpec(
                num_heads=num_heads,
                num_kv_heads=num_heads,
                head_dim=head_dim,
                qkv_bias=True,
                output_bias=True,
                window=window,
            ),
            mlp=MlpSpec(intermediate_size=vision.integer("intermediate_size"), gated=True, bias=True),
            norm="rms_norm",
        )

    counts = ((depth - len(full), window_size // patch_size), (len(full), None))
    in_channels = vision.integer("in_channels" if vision.has("in_channels") else "in_chans", default=3)
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=in_channels,
        patch_size=patch_size,
        temporal_patch_size=vision.integer("temporal_patch_size", default=2),
        patch_bias=False,
        position_embeddings=0,
        blocks=tuple(blocks(count, window) for count, window in counts if count),
    )


def _connector(vision: ConfigReader) -> ConnectorSpec:
    hidden_size = vision.integer("hidden_size")
    merged = hidden_size * read_merge_size(vision) ** 2
    merger = ProjectionSpec(
        name="merger",
        count=1,
        norm="rms_norm",
        norm_size=hidden_size,
        linears=(
            LinearSpec(in_features=merged, out_features=merged, bias=True),
            LinearSpec(in_features=merged, out_features=vision.integer("out_hidden_size"), bias=True),
        ),
    )
    return ConnectorSpec(projections=(merger,))
