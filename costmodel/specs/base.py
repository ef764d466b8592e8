"""The base class of every data object that is read from a file."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

__all__ = ["Frozen"]


class Frozen(BaseModel):
    """Immutable, and strict about names: an unknown field is an error, never ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)
