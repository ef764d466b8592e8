"""Where a model's config comes from: a preset, a folder, or a ``config.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from costmodel.errors import ConfigError, InputError, UnknownKeyError
from costmodel.families import read_config
from costmodel.files import existing_file, read_bytes
from costmodel.specs.base import first_problem
from costmodel.specs.model import ModelSpec

__all__ = ["load_model", "preset_names"]

_PRESETS = Path(__file__).parent.parent / "presets"


@cache
def preset_names() -> tuple[str, ...]:
    """Hub ids (and our own demonstration models) that have a preset."""
    return tuple(sorted(path.stem.replace("--", "/") for path in _PRESETS.glob("*.json")))


def load_model(source: str | Path) -> ModelSpec:
    """Load an architecture.

    Parameters
    ----------
    source
        Name of a preset, a folder with a ``config.json``, a ``config.json``, or a spec file written by us.

    Raises
    ------
    UnknownKeyError
        If it is neither a file nor a preset; names the nearest presets.
    ConfigError
        If a field is missing or unusable.
    """
    text = str(source)
    if text in preset_names():
        return _read_spec(_PRESETS / f"{text.replace('/', '--')}.json")
    path = existing_file(Path(source), inside="config.json")
    if path is None:
        raise UnknownKeyError("model", text, preset_names())
    content = _read_json(path)
    if "family" in content and "decoder" in content:
        return _read_spec(path)
    settings = existing_file(path.parent / "preprocessor_config.json")
    return read_config(
        content,
        name=path.resolve().parent.name if path.name == "config.json" else path.stem,
        image_settings=None if settings is None else _read_json(settings),
        source=path.name,
    )


def _read_spec(path: Path) -> ModelSpec:
    try:
        return ModelSpec.model_validate_json(read_bytes(path))
    except ValidationError as error:
        where, got, message = first_problem(error)
        raise ConfigError(where or "model", got, f"{message} (in {path.name})") from None


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{path.name}: got a JSON {type(content).__name__}, expected an object")
    return content
