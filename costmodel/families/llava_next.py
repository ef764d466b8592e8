"""LLaVA-NeXT and LLaVA-OneVision: tiles of several resolutions, a learned separator after each row of patches."""

from __future__ import annotations

from costmodel.families.connectors import feature_layers, projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import read_tower
from costmodel.image_rules.llava_next import read_llava_next
from costmodel.image_rules.llava_onevision import read_llava_onevision
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("llava_next", "llava_onevision")


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a LLaVA-NeXT or LLaVA-OneVision config (arXiv 2408.03326)."""
    vision, family = config.child("vision_config"), config.text("model_type")
    tower, decoder = read_tower(vision), read_decoder(config.child("text_config"), whole=config)
    width = decoder.hidden_size
    features = tower.hidden_size * feature_layers(config, tower.num_layers)
    bias = config.boolean("multimodal_projector_bias", default=True)
    read_rule = read_llava_next if family == "llava_next" else read_llava_onevision
    return ModelSpec(
        name=name,
        family=family,
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(projection(features, width, width, bias=bias),), other_parameters=width),
        decoder=decoder,
        image_rule=read_rule(vision, image_settings, config),
    )
