"""Where a model comes from: a preset, a file or folder, or a hub."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from costmodel import strict_json
from costmodel.errors import ConfigError, InputError, UnknownKeyError
from costmodel.families import read_config
from costmodel.files import existing_file, is_folder, read_bytes
from costmodel.specs.base import first_problem
from costmodel.specs.model import ModelSpec

if TYPE_CHECKING:
    # Readers of files are imported where a file is given: most models are presets.
    from costmodel.checkpoints.tensors import StoredTensor

__all__ = ["load_model", "preset_names"]

_PRESETS = Path(__file__).parent.parent / "presets"
_CONFIG, _SETTINGS = "config.json", "preprocessor_config.json"


@cache
def preset_names() -> tuple[str, ...]:
    """Hub ids (and our own demonstration models) that have a preset."""
    return tuple(sorted(path.stem.replace("--", "/") for path in _PRESETS.glob("*.json")))


def load_model(source: str | Path) -> ModelSpec:
    """Load an architecture.

    Parameters
    ----------
    source
        Name of a preset; a folder with a ``config.json``, and the headers of its safetensors files where it has them; a
        ``config.json``; a ``.gguf`` file; a spec file written by us; or the id of a model on the hub, ``owner/name`` or
        ``owner/name@revision``, of which the configs and headers are fetched and never weights.

    Raises
    ------
    UnknownKeyError
        If it is neither a file nor a preset nor looks like an id; names the nearest presets.
    CheckpointError
        If a header of a file of weights can't be used, or the hub can't be asked.
    ConfigError
        If a field is missing or unusable.
    """
    text = str(source)
    if text in preset_names():
        return _read_spec(_PRESETS / f"{text.replace('/', '--')}.json")
    path = existing_file(Path(source), inside=_CONFIG)
    if path is None:
        return _without_file(text)
    if path.suffix == ".gguf":
        from costmodel.checkpoints.gguf_model import load_gguf

        return load_gguf(path)
    from costmodel.checkpoints.safetensors import folder_tensors

    content = _read_json(path)
    if "family" in content and "decoder" in content:
        return _read_spec(path)
    settings = existing_file(path.parent / _SETTINGS)
    spec = read_config(
        content,
        name=path.resolve().parent.name if path.name == _CONFIG else path.stem,
        image_settings=None if settings is None else _read_json(settings),
        source=path.name,
    )
    return _with_weights(spec, folder_tensors(path.parent)) if path.name == _CONFIG else spec


def _without_file(text: str) -> ModelSpec:
    """A model on the hub, or a name that says nothing."""
    # Asking a hub takes longer to import than most predictions take.
    from costmodel.checkpoints import hub

    name = hub.parse_id(text)
    if name is None or is_folder(Path(text)):
        why = f"a folder without {_CONFIG}" if text and is_folder(Path(text)) else ""
        raise UnknownKeyError("model", text, preset_names(), why=why)
    files = hub.fetch(name, known=preset_names())
    settings = None if files.image_settings is None else _parse_json(files.image_settings, _SETTINGS)
    spec = read_config(
        _parse_json(files.config, _CONFIG), name=name.id, image_settings=settings, source=f"{files.endpoint}/{name.id}"
    )
    return _with_weights(spec, files.tensors)


def _with_weights(spec: ModelSpec, tensors: list[StoredTensor] | None) -> ModelSpec:
    """The model with what its files say of its tensors, where there are files."""
    from costmodel.checkpoints.tensors import stored_weights

    return spec if tensors is None else spec.model_copy(update={"stored": stored_weights(tensors)})


def _read_spec(path: Path) -> ModelSpec:
    raw = read_bytes(path)
    _parse_json(raw, path.name)
    try:
        return ModelSpec.model_validate_json(raw)
    except ValidationError as error:
        where, got, message = first_problem(error)
        raise ConfigError(where or "model", got, f"{message} (in {path.name})") from None


def _read_json(path: Path) -> Mapping[str, Any]:
    return _parse_json(read_bytes(path), path.name)


def _parse_json(text: bytes, name: str) -> Mapping[str, Any]:
    try:
        content = strict_json.loads(text)
    except ValueError as error:
        raise InputError(f"{name}: not a JSON file ({error})") from None
    if not isinstance(content, dict):
        raise InputError(f"{name}: got a JSON {type(content).__name__}, expected an object")
    return content
