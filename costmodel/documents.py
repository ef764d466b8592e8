"""JSON documents of ours: profiles and results, each with a schema version, read as untrusted input."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from costmodel import strict_json
from costmodel.errors import ProfileError
from costmodel.files import read_bytes
from costmodel.specs.base import Frozen, first_problem

__all__ = ["SCHEMA_VERSION", "read_document"]

SCHEMA_VERSION = 1

_F = TypeVar("_F", bound=Frozen)


def read_document(path: Path, cls: type[_F]) -> _F:
    """Read and validate a document.

    Raises
    ------
    ProfileError
        If the file is not JSON, of a newer schema, or has a field that is missing, unknown or unusable.
    """
    raw = read_bytes(path)
    _check_schema(raw, path)
    try:
        return cls.model_validate_json(raw)
    except ValidationError as error:
        where, _, message = first_problem(error)
        raise ProfileError(f"{path.name}: field {where or 'document'}: {message}") from None


def _check_schema(raw: bytes, path: Path) -> None:
    try:
        content = strict_json.loads(raw)
    except ValueError as error:
        raise ProfileError(f"{path.name}: not a JSON file ({error})") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        got = repr(version)[:40] if version is not None else "nothing"
        raise ProfileError(f"{path.name}: schema_version: got {got}, expected an integer from 1 to {SCHEMA_VERSION}")
    if version > SCHEMA_VERSION:
        raise ProfileError(
            f"{path.name}: schema_version is {version}, this version reads up to {SCHEMA_VERSION}; upgrade costmodel"
        )
