"""PaliGemma 2: SigLIP, one linear map, Gemma 2 decoder (arXiv 2412.03555)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import read_tower
from costmodel.image_rules.fixed import read_paligemma
from costmodel.image_rules.settings import check_equal
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("paligemma",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a PaliGemma config; the image sees all of the prompt, which changes no size."""
    vision = config.child("vision_config")
    tower, decoder = read_tower(vision), read_decoder(config.child("text_config"), whole=config)
    check_equal(vision, "projection_dim", decoder.hidden_size, why="the hidden_size of the decoder")
    return ModelSpec(
        name=name,
        family="paligemma",
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(projection(tower.hidden_size, decoder.hidden_size),)),
        decoder=decoder,
        image_rule=read_paligemma(vision, image_settings),
    )
