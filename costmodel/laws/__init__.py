"""Latency laws: one small file each, all behind the one interface of :mod:`costmodel.laws.base`."""

from __future__ import annotations

from costmodel.errors import UnknownKeyError
from costmodel.laws.base import Law
from costmodel.laws.roofline import ROOFLINE

__all__ = ["LAWS", "law_named"]

LAWS: dict[str, Law] = {law.name: law for law in (ROOFLINE,)}


def law_named(name: str) -> Law:
    """Look a law up by its exact name."""
    if name not in LAWS:
        raise UnknownKeyError("law", name, LAWS)
    return LAWS[name]
