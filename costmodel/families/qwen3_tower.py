"""Vision tower and mergers of Qwen3-VL and Qwen3.5: position table, rotary positions, optional deepstack mergers."""

from __future__ import annotations

from costmodel.errors import ConfigError
from costmodel.families.connectors import projection
from costmodel.families.decoders import layer_count
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.smart_resize import SmartResize, read_merge_size, read_smart_resize
from costmodel.specs.model import AttentionSpec, ConnectorSpec, LayerGroup, MlpSpec, VisionSpec

__all__ = ["read_mergers", "read_qwen3_images", "read_qwen3_tower"]

# Area limits of the published preprocessor_config.json, in pixels.
_MIN_PIXELS, _MAX_PIXELS = 65_536, 16_777_216
# Those of the published video_preprocessor_config.json, in pixels times frames.
_VIDEO_LIMITS = (4_096, 25_165_824)


def read_qwen3_tower(vision: ConfigReader) -> VisionSpec:
    """Read the tower."""
    hidden_size, num_heads = vision.integer("hidden_size"), vision.integer("num_heads")
    block = LayerGroup(
        count=layer_count(vision, "depth"),
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


def read_mergers(vision: ConfigReader) -> ConnectorSpec:
    """Read the mergers: the final one normalises patches, each deepstack one normalises merged patches."""
    hidden_size, out_size = vision.integer("hidden_size"), vision.integer("out_hidden_size")
    merged = hidden_size * read_merge_size(vision) ** 2
    projections = [projection(merged, merged, out_size, norm_size=hidden_size, name="merger")]
    if deepstack := _deepstack_mergers(vision):
        merger = projection(merged, merged, out_size, norm_size=merged, name="deepstack_merger")
        projections.append(merger.model_copy(update={"count": deepstack}))
    return ConnectorSpec(projections=tuple(projections))


def _deepstack_mergers(vision: ConfigReader) -> int:
    """Count the blocks whose output a merger of its own reads."""
    indexes, depth = vision.integers("deepstack_visual_indexes"), vision.integer("depth")
    if len(set(indexes)) != len(indexes) or any(index >= depth for index in indexes):
        expected = f"different block indexes below depth {depth}"
        raise ConfigError(vision.path_of("deepstack_visual_indexes"), str(list(indexes))[:40], expected)
    return len(indexes)


def read_qwen3_images(vision: ConfigReader, image_settings: ConfigReader | None) -> SmartResize:
    """Read the image rule."""
    return read_smart_resize(
        vision, image_settings, min_pixels=_MIN_PIXELS, max_pixels=_MAX_PIXELS, video_limits=_VIDEO_LIMITS
    )
