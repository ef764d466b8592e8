"""Qwen3-VL, dense and mixture of experts: deepstack mergers, Qwen3 decoder (arXiv 2511.21631)."""

from __future__ import annotations

from costmodel.families.decoders import read_decoder
from costmodel.families.qwen3_tower import read_mergers, read_qwen3_images, read_qwen3_tower
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.settings import check_equal
from costmodel.specs.model import ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("qwen3_vl", "qwen3_vl_moe")


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Qwen3-VL config."""
    family, vision = config.text("model_type"), config.child("vision_config")
    decoder = read_decoder(config.child("text_config"), kind=f"{family}_text", whole=config)
    check_equal(vision, "out_hidden_size", decoder.hidden_size, why="the hidden_size of the decoder")
    return ModelSpec(
        name=name,
        family=family,
        source=source,
        vision=read_qwen3_tower(vision),
        connector=read_mergers(vision),
        decoder=decoder,
        image_rule=read_qwen3_images(vision, image_settings),
    )
