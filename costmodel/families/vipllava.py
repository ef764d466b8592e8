"""ViP-LLaVA: LLaVA with the outputs of several CLIP blocks side by side, normalised (arXiv 2312.00784)."""

from __future__ import annotations

from costmodel.families.connectors import feature_layers, projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import read_tower
from costmodel.image_rules.fixed import read_llava
from costmodel.specs.model import ConnectorSpec, ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("vipllava",)

# Blocks of the published class, for configs that leave them out.
_DEFAULTS = {"vision_feature_layer": [-2, -5, -8, -11, 6]}


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a ViP-LLaVA config."""
    vision = config.child("vision_config")
    tower, decoder = read_tower(vision), read_decoder(config.child("text_config"), whole=config)
    key = "vision_feature_layers" if config.has("vision_feature_layers") else "vision_feature_layer"
    merged = tower.hidden_size * feature_layers(config.filled(_DEFAULTS), tower.num_layers, key=key)
    projector = projection(merged, decoder.hidden_size, decoder.hidden_size, norm_size=merged)
    return ModelSpec(
        name=name,
        family="vipllava",
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(projector,)),
        decoder=decoder,
        image_rule=read_llava(vision, image_settings, config),
    )
