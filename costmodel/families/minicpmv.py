"""MiniCPM-V 2.6 and 4.5: SigLIP over slices, a resampler with learned queries, Qwen decoder (arXiv 2408.01800)."""

from __future__ import annotations

from costmodel.errors import ConfigError
from costmodel.families.connectors import projection
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import siglip_tower
from costmodel.image_rules.minicpmv import read_minicpmv
from costmodel.image_rules.settings import read_patch_size, read_side
from costmodel.specs.model import ConnectorSpec, LinearSpec, ModelSpec, PoolingSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("minicpmv",)

# Decoder of each published version: the config's other fields do not tell it.
_DECODERS = {2.6: "qwen2", 4.5: "qwen3"}

_HEAD_DIM = 128
"""Width of a head of the resampler."""


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a MiniCPM-V config; its version decides the decoder."""
    version, vision = config.number("version", lowest=0, highest=100), config.child("vision_config")
    if version not in _DECODERS:
        raise ConfigError(config.path_of("version"), f"{version:g}", "2.6 or 4.5")
    # The published 4.5 file and its class leave this out; the tokenizer's limit is the decoder's.
    filled = config.filled({"max_position_embeddings": 40_960}) if version == 4.5 else config
    decoder = read_decoder(filled, kind=_DECODERS[version])
    positions = (read_side(vision, "image_size") // read_patch_size(vision)) ** 2
    tower = siglip_tower(vision, position_embeddings=positions)
    rule = read_minicpmv(vision, image_settings, config)
    width = decoder.hidden_size
    config.quotient("hidden_size", "num_attention_heads")
    resampler = PoolingSpec(
        hidden_size=width,
        num_heads=max(width // _HEAD_DIM, 1),
        query_size=width,
        key_size=width,
        queries=rule.queries,
        bias=True,
        key_map=LinearSpec(in_features=tower.hidden_size, out_features=width, bias=False),
        other_parameters=width * (rule.queries + 6),
    )
    return ModelSpec(
        name=name,
        family="minicpmv",
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(projection(width, width, bias=False),), pooling=resampler),
        decoder=decoder,
        image_rule=rule,
    )
