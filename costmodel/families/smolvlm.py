"""Idefics3 and SmolVLM2: SigLIP tiles, pixel shuffle, one linear map, Llama decoder (arXiv 2504.05299)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import siglip_tower
from costmodel.image_rules.settings import read_patch_size, read_side
from costmodel.image_rules.smolvlm import read_smolvlm
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("idefics3", "smolvlm")

# Values of the published classes for fields that the smaller checkpoints leave out.
_TOWER_DEFAULTS = {"intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 16}


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read an Idefics3 or SmolVLM config."""
    vision = config.child("vision_config").filled(_TOWER_DEFAULTS)
    positions = (read_side(vision, "image_size") // read_patch_size(vision)) ** 2
    tower = siglip_tower(vision, position_embeddings=positions)
    decoder = read_decoder(config.child("text_config"), whole=config)
    merged = tower.hidden_size * config.integer("scale_factor", default=2, highest=64) ** 2
    return ModelSpec(
        name=name,
        family=config.text("model_type"),
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(projection(merged, decoder.hidden_size, bias=False),)),
        decoder=decoder,
        image_rule=read_smolvlm(vision, image_settings, config),
    )
