"""Qwen2-VL: ViT with rotary positions and full attention, Qwen2 decoder (arXiv 2409.12191, table 1)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import layer_count, read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.settings import check_equal
from costmodel.image_rules.smart_resize import read_merge_size, read_smart_resize
from costmodel.specs.model import AttentionSpec, ConnectorSpec, LayerGroup, MlpSpec, ModelSpec, VisionSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("qwen2_vl",)

# Area limits of the published preprocessor_config.json, in pixels (the processor class has others).
_MIN_PIXELS, _MAX_PIXELS = 3_136, 12_845_056


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Qwen2-VL config: decoder fields at the top (older) or under ``text_config`` (newer files)."""
    vision = config.child("vision_config")
    decoder = read_decoder(config.child_or_self("text_config"), kind="qwen2_vl_text", whole=config)
    # The vision config's hidden_size is the decoder's; the tower's own width is embed_dim.
    check_equal(vision, "hidden_size", decoder.hidden_size, why="the hidden_size of the decoder")
    width = vision.integer("embed_dim")
    merged = width * read_merge_size(vision) ** 2
    merger = projection(merged, merged, decoder.hidden_size, norm_size=width, name="merger")
    return ModelSpec(
        name=name,
        family="qwen2_vl",
        source=source,
        vision=_vision(vision),
        connector=ConnectorSpec(projections=(merger,)),
        decoder=decoder,
        image_rule=read_smart_resize(vision, image_settings, min_pixels=_MIN_PIXELS, max_pixels=_MAX_PIXELS),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    width, heads = vision.integer("embed_dim"), vision.integer("num_heads")
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=vision.quotient("embed_dim", "num_heads"),
        qkv_bias=True,
        output_bias=True,
    )
    inner = round(width * vision.number("mlp_ratio", lowest=1 / 64, highest=64))
    block = LayerGroup(
        count=layer_count(vision, "depth"),
        attention=attention,
        mlp=MlpSpec(intermediate_size=max(inner, 1), gated=False, bias=True),
        norm="layer_norm",
    )
    return VisionSpec(
        hidden_size=width,
        in_channels=vision.integer("in_channels" if vision.has("in_channels") else "in_chans", default=3),
        patch_size=vision.integer("patch_size"),
        temporal_patch_size=vision.integer("temporal_patch_size", default=2),
        patch_bias=False,
        position_embeddings=0,
        blocks=(block,),
    )
