"""InternVL3 and InternVL3.5: InternViT, pixel shuffle, a Qwen decoder (arXiv 2504.10479, table 1)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import layer_count, read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.internvl import read_internvl, read_ratio
from costmodel.image_rules.settings import read_patch_size, read_side
from costmodel.specs.model import AttentionSpec, ConnectorSpec, LayerGroup, MlpSpec, ModelSpec, VisionSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("internvl",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read an InternVL config in the layout of transformers."""
    vision = config.child("vision_config")
    tower, decoder = _vision(vision), read_decoder(config.child("text_config"), whole=config)
    merged = tower.hidden_size * read_ratio(config, "downsample_ratio") ** 2
    return ModelSpec(
        name=name,
        family="internvl",
        source=source,
        vision=tower,
        connector=ConnectorSpec(
            projections=(projection(merged, decoder.hidden_size, decoder.hidden_size, norm_size=merged),)
        ),
        decoder=decoder,
        image_rule=read_internvl(vision, image_settings, config),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    """InternViT: a class token; the large one has RMS norms, no bias, and normalises whole queries and keys."""
    hidden_size, heads = vision.integer("hidden_size"), vision.integer("num_attention_heads")
    norm = vision.one_of("norm_type", ("layer_norm", "rms_norm"), default="layer_norm")
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=vision.quotient("hidden_size", "num_attention_heads"),
        qkv_bias=vision.boolean("attention_bias", default=False),
        output_bias=True,
        qk_norm="whole" if vision.boolean("use_qk_norm", default=False) else "none",
        rotary=False,
    )
    block = LayerGroup(
        count=layer_count(vision),
        attention=attention,
        mlp=MlpSpec(intermediate_size=vision.integer("intermediate_size"), gated=False, bias=True),
        norm="rms_norm" if norm == "rms_norm" else "layer_norm",
        other_parameters=2 * hidden_size,
    )
    positions = 0
    if vision.boolean("use_absolute_position_embeddings", default=True):
        positions = (read_side(vision, "image_size") // read_patch_size(vision)) ** 2 + 1
    last_norm = 0 if vision.boolean("use_mean_pooling", default=True) else 2 * hidden_size
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("num_channels", default=3),
        patch_size=read_patch_size(vision),
        temporal_patch_size=1,
        patch_bias=True,
        position_embeddings=positions,
        blocks=(block,),
        other_parameters=hidden_size + last_norm,
    )
