"""JSON Schemas of every file that is read or written, from the classes that read and write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from costmodel.documents import SCHEMA_VERSION
from costmodel.errors import UnknownKeyError
from costmodel.files import write_atomic
from costmodel.render import Table
from costmodel.specs.base import Frozen

__all__ = ["DocumentKind", "document_kinds", "json_schema", "schema_table", "schema_text", "write_schemas"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


@dataclass(frozen=True, slots=True)
class DocumentKind:
    """One kind of file or output.

    Attributes
    ----------
    mode
        ``serialization`` where the JSON is written otherwise than the class is built (an image as ``640x480``).
    what
        Where it is met.
    """

    cls: type[Frozen]
    mode: Literal["validation", "serialization"]
    what: str


@cache
def document_kinds() -> Mapping[str, DocumentKind]:
    """By name, in the order in which a user meets them."""
    from costmodel.breakeven import BreakEven
    from costmodel.cases import Case
    from costmodel.policy.plan import Plan
    from costmodel.policy.results import PolicyChoice
    from costmodel.policy.traces import Trace
    from costmodel.predict import Prediction
    from costmodel.profiles import EngineProfile, HardwareProfile
    from costmodel.specs.model import ModelSpec
    from costmodel.validation import Validation

    return {
        "hardware": DocumentKind(HardwareProfile, "validation", "hardware_profiles/gpus/*.json, calibrate run --out"),
        "engine": DocumentKind(EngineProfile, "validation", "hardware_profiles/engines/*.json, calibrate engine --out"),
        "model": DocumentKind(ModelSpec, "validation", "costmodel/presets/*.json, models show --format json"),
        "case": DocumentKind(Case, "validation", "a row of a table of real runs, as read"),
        "trace": DocumentKind(Trace, "serialization", "a line of a file of traces"),
        "plan": DocumentKind(Plan, "validation", "policy --policy FILE"),
        "prediction": DocumentKind(Prediction, "serialization", "predict --format json"),
        "break-even": DocumentKind(BreakEven, "serialization", "breakeven --format json"),
        "policy": DocumentKind(PolicyChoice, "serialization", "policy --format json"),
        "validation": DocumentKind(Validation, "serialization", "validate --format json"),
    }


def json_schema(name: str) -> dict[str, Any]:
    """JSON Schema (2020-12) of one kind of document.

    Raises
    ------
    UnknownKeyError
        If there is no such kind.
    """
    kinds = document_kinds()
    if name not in kinds:
        raise UnknownKeyError("schema", name, kinds)
    kind = kinds[name]
    identity = {"$schema": _DIALECT, "$id": f"urn:costmodel:schema:{name}:{SCHEMA_VERSION}"}
    return identity | kind.cls.model_json_schema(mode=kind.mode)


def schema_text(name: str) -> str:
    """The schema as a file holds it."""
    return json.dumps(json_schema(name), indent=1, ensure_ascii=False) + "\n"


def schema_table() -> Table:
    """What there is a schema of."""
    rows = tuple((name, kind.what) for name, kind in document_kinds().items())
    return Table("", ("schema", "what it describes"), rows)


def write_schemas(folder: Path) -> None:
    """Write every schema to a file of its name."""
    for name in document_kinds():
        write_atomic(folder / f"{name}.json", schema_text(name))
