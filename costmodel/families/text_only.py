"""Text-only decoders: Llama, Mistral, Qwen and Gemma lines, whose readers the families with vision share."""

from __future__ import annotations

from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.specs.model import ModelSpec

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "qwen3_moe")


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read the config of a decoder without vision; image settings beside it have no use."""
    del image_settings
    return ModelSpec(name=name, family=config.text("model_type"), source=source, decoder=read_decoder(config))
