"""Mistral-Small-3.1: Pixtral tower, patch merger, Mistral decoder."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import read_pixtral as read_tower
from costmodel.image_rules.pixtral import read_pixtral
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("mistral3",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Mistral 3 config.

    The published file doesn't say whether embeddings are tied; the checkpoint has a head of its own.
    """
    vision = config.child("vision_config")
    tower = read_tower(vision)
    decoder = read_decoder(config.child("text_config"), whole=config, tied=False)
    width, rule = tower.hidden_size, read_pixtral(vision, image_settings, config)
    bias = config.boolean("multimodal_projector_bias", default=False)
    merged = width * rule.merge_size**2
    merger = projection(merged, width, bias=False, norm="rms_norm", norm_size=width, name="merger")
    projector = projection(width, decoder.hidden_size, decoder.hidden_size, bias=bias)
    return ModelSpec(
        name=name,
        family="mistral3",
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(merger, projector)),
        decoder=decoder,
        image_rule=rule,
    )
