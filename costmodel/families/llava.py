"""LLaVA-1.5 and Pixtral-12B: a CLIP, SigLIP or Pixtral tower, two linear maps, any decoder (arXiv 2310.03744)."""

from __future__ import annotations

from costmodel.families.connectors import feature_layers, projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import read_tower
from costmodel.image_rules.fixed import read_llava
from costmodel.image_rules.pixtral import read_pixtral
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("llava",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a LLaVA config; the tower decides the image rule."""
    vision = config.child("vision_config")
    tower, decoder = read_tower(vision), read_decoder(config.child("text_config"), whole=config)
    features = tower.hidden_size * feature_layers(config, tower.num_layers)
    bias = config.boolean("multimodal_projector_bias", default=True)
    read_rule = read_pixtral if vision.text("model_type") == "pixtral" else read_llava
    return ModelSpec(
        name=name,
        family="llava",
        source=source,
        vision=tower,
        connector=ConnectorSpec(
            projections=(projection(features, decoder.hidden_size, decoder.hidden_size, bias=bias),)
        ),
        decoder=decoder,
        image_rule=read_rule(vision, image_settings, config),
    )
