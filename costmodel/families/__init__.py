"""Model families: one small file each, from a checkpoint's config to a ``ModelSpec``.

A family file has ``MODEL_TYPES`` (values of the config's ``model_type``) and ``read(config, …)``.
Adding a family is adding its file here and its module to ``_MODULES``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from costmodel.errors import ConfigError, UnsupportedArchitectureError
from costmodel.families import (
    gemma3,
    gemma4,
    glm4v,
    internvl,
    kimi_vl,
    llama4,
    llava,
    llava_next,
    minicpmv,
    mistral3,
    mllama,
    molmo,
    paligemma,
    phi4_multimodal,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_5,
    qwen3_vl,
    smolvlm,
    text_only,
    vipllava,
)
from costmodel.families.quantization import read_quantization
from costmodel.families.reader import ConfigReader
from costmodel.specs.base import first_problem
from costmodel.specs.model import ModelSpec

__all__ = ["read_config", "supported_model_types"]

_MODULES = (
    gemma3,
    gemma4,
    glm4v,
    internvl,
    kimi_vl,
    llama4,
    llava,
    llava_next,
    minicpmv,
    mistral3,
    mllama,
    molmo,
    paligemma,
    phi4_multimodal,
    qwen2_5_vl,
    qwen2_vl,
    qwen3_5,
    qwen3_vl,
    smolvlm,
    text_only,
    vipllava,
)
_READERS: dict[str, Callable[..., ModelSpec]] = {
    model_type: module.read for module in _MODULES for model_type in module.MODEL_TYPES
}


def supported_model_types() -> tuple[str, ...]:
    """Every ``model_type`` that some family reads."""
    return tuple(sorted(_READERS))


def read_config(
    config: Mapping[str, Any], *, name: str, image_settings: Mapping[str, Any] | None = None, source: str = ""
) -> ModelSpec:
    """Read a checkpoint's config.

    Parameters
    ----------
    config
        The content of ``config.json``.
    name
        Name to give the model.
    image_settings
        The content of ``preprocessor_config.json``, where there is one.
    source
        Where the config comes from.

    Raises
    ------
    UnsupportedArchitectureError
        If no family covers the config's ``model_type``.
    ConfigError
        If a field is missing or unusable; the message names its path.
    """
    reader = ConfigReader(config)
    model_type = reader.text("model_type")
    if model_type not in _READERS:
        supported = ", ".join(supported_model_types())
        raise UnsupportedArchitectureError("model_type", repr(model_type), f"one of {supported}")
    settings = None if image_settings is None else ConfigReader(image_settings, "preprocessor_config")
    quantization = read_quantization(reader)
    try:
        spec = _READERS[model_type](reader, settings, name=name, source=source)
    except ValidationError as error:
        where, got, message = first_problem(error)
        raise ConfigError(where or "config", got, message) from None
    return spec if quantization == "none" else spec.model_copy(update={"quantization": quantization})
