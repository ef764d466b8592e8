"""Phi-4-multimodal in the layout of transformers, without its adapters (arXiv 2503.01743)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import read_siglip
from costmodel.image_rules.phi4mm import read_phi4mm
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("phi4_multimodal",)

# Audio tower and projections of the published size (class defaults); no request of images and text runs them.
_AUDIO_PARAMETERS = 466_432_256


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Phi-4-multimodal config; the adapters of the published checkpoint are taken as merged."""
    vision = config.child("vision_config")
    tower, decoder = read_siglip(vision), read_decoder(config, kind="phi3", tied=True)
    return ModelSpec(
        name=name,
        family="phi4_multimodal",
        source=source,
        vision=tower,
        connector=ConnectorSpec(
            projections=(projection(tower.hidden_size, decoder.hidden_size, decoder.hidden_size),),
            other_parameters=2 * tower.hidden_size,
        ),
        decoder=decoder,
        image_rule=read_phi4mm(vision, image_settings),
        unused_parameters=_AUDIO_PARAMETERS,
    )
