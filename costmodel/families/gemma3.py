"""Gemma 3: SigLIP, pooling to 256 tokens, decoder with five sliding windows to one full layer (arXiv 2503.19786)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import read_tower
from costmodel.image_rules.gemma3 import read_gemma3
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("gemma3",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Gemma 3 config; embeddings are tied where it doesn't say otherwise."""
    vision = config.child("vision_config")
    tower, decoder = read_tower(vision), read_decoder(config.child("text_config"), whole=config)
    width = tower.hidden_size
    merger = projection(width, decoder.hidden_size, bias=False, norm="rms_norm", norm_size=width)
    return ModelSpec(
        name=name,
        family="gemma3",
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(merger,)),
        decoder=decoder,
        image_rule=read_gemma3(vision, image_settings, config),
    )
