"""Latency laws: one small file each, all behind the one interface of :mod:`costmodel.laws.base`."""

from __future__ import annotations

from costmodel.errors import UnknownKeyError
from costmodel.laws.base import Law
from costmodel.laws.roofline import ROOFLINE
from costmodel.laws.streaming import LAUNCH, STREAMING

__all__ = ["LAWS", "law_named", "laws_for"]

LAWS: dict[str, Law] = {law.name: law for law in (ROOFLINE, STREAMING, LAUNCH)}


def law_named(name: str) -> Law:
    """Look a law up by its exact name."""
    if name not in LAWS:
        raise UnknownKeyError("law", name, LAWS)
    return LAWS[name]


def laws_for(kind: str, dtype: str, *, device_kind: str) -> tuple[Law, ...]:
    """Laws worth trying for an operator on a kind of device; the one that fits best is kept."""
    if kind in ("elementwise", "copy"):
        return (STREAMING, ROOFLINE)
    if kind == "launch":
        return (LAUNCH,)
    return (ROOFLINE,)
