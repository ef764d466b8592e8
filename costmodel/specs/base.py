"""The base class of every data object that is read from a file."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool, ValidationError

__all__ = ["LARGEST_SIZE", "Count", "Flag", "Frozen", "Shown", "Size", "first_problem"]

LARGEST_SIZE = 2**48
"""Larger than any product of dimensions of a published model: beyond it a file is corrupt, not large."""

Size = Annotated[int, Field(strict=True, ge=1, le=LARGEST_SIZE)]
"""A dimension: an integer, and neither true nor the text of a number."""

Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST_SIZE)]
"""A dimension that may be zero."""

Flag = StrictBool
"""True or false, never a number or a text."""


class Frozen(BaseModel):
    """Immutable, and strict: an unknown field is an error, never ignored, and so is a number that is not finite."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, defer_build=True)


class Shown(Frozen):
    """A result that a notebook shows as tables."""

    def _repr_html_(self) -> str:
        from costmodel.notebook import result_html

        return result_html(self)


def first_problem(error: ValidationError) -> tuple[str, str, str]:
    """Put the first finding of a validation on one line.

    Returns
    -------
    tuple of str
        Dotted path of the field (empty: the file as a whole), what was found, what is wrong with it.
    """
    first = error.errors(include_url=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    if not where.isprintable() or len(where) > 120:
        where = repr(where[:120])
    return where, repr(first.get("input"))[:60], first["msg"][:160]
