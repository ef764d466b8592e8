"""Published JSON Schemas: current, valid by the standard's own rules, and true of real files and outputs."""

from __future__ import annotations

import copy
import json
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO
from kitchen import LARGE, REQUEST, SMALL, runs_csv

from costmodel import cli, schemas
from costmodel.cases import read_cases
from costmodel.policy.catalog import CATALOG, plan_named

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed (extra: dev)")

PUBLISHED = REPO / "docs" / "schemas"
NAMES = tuple(schemas.document_kinds())

Run = Callable[..., Any]


@cache
def checker(name: str) -> Any:
    return jsonschema.Draft202012Validator(json.loads((PUBLISHED / f"{name}.json").read_text()))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """JSON that a command prints."""

    def call(*words: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["costmodel", *words])
        with pytest.raises(SystemExit):
            cli.main()
        return json.loads(capsys.readouterr().out)

    return call


def test_published_schemas_are_current(tmp_path: Path) -> None:
    schemas.write_schemas(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    found = {path.name: path.read_text() for path in PUBLISHED.glob("*.json")}
    assert written == found, "run: costmodel schema --out docs/schemas"


@pytest.mark.parametrize("name", NAMES)
def test_they_are_schemas(name: str, run: Run) -> None:
    assert run("schema", name) == checker(name).schema
    jsonschema.Draft202012Validator.check_schema(checker(name).schema)
    assert checker(name).schema["$id"].startswith(f"urn:costmodel:schema:{name}:")


FILES = {
    "hardware": sorted((REPO / "hardware_profiles" / "gpus").glob("*.json")),
    "engine": sorted((REPO / "hardware_profiles" / "engines").glob("*.json")),
    "model": sorted((REPO / "costmodel" / "presets").glob("*.json")),
}


@pytest.mark.parametrize("name", FILES)
def test_every_file_we_ship_is_described(name: str) -> None:
    assert FILES[name]
    for path in FILES[name]:
        checker(name).validate(json.loads(path.read_text()))


def test_every_trace_is_described() -> None:
    lines = (REPO / "examples" / "synthetic_traces.jsonl").read_text().splitlines()
    for line in lines:
        checker("trace").validate(json.loads(line))


def test_every_plan_is_described() -> None:
    for name in CATALOG:
        checker("plan").validate(json.loads(plan_named(name).model_dump_json()))


def test_cases_are_described(tmp_path: Path) -> None:
    runs_csv(tmp_path / "runs.csv")
    for case in read_cases(tmp_path / "runs.csv"):
        checker("case").validate(json.loads(case.model_dump_json()))


def test_outputs_are_described(run: Run, tmp_path: Path) -> None:
    pair = ["--small", SMALL, "--large", LARGE]
    runs_csv(tmp_path / "runs.csv")
    traces = str(REPO / "examples" / "synthetic_traces.jsonl")
    printed = {
        "prediction": ["predict", "--model", SMALL, *REQUEST, "--output-tokens", "20"],
        "break-even": ["breakeven", *pair, "--large-output", "8", *REQUEST],
        "validation": ["validate", "--cases", str(tmp_path / "runs.csv")],
        "policy": ["policy", *pair, "--traces", traces, *REQUEST[:4], "--budget-s", "4"],
        "model": ["models", "show", SMALL],
        "engine": ["engines", "show", "vllm-0.7.2"],
    }
    for name, words in printed.items():
        checker(name).validate(run(*words, "--format", "json"))


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of every object in a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    here = [at] if isinstance(value, dict) else []
    return here + [path for key, each in inner for path in _paths(each, (*at, key))]


def test_a_field_of_someone_else_is_refused_wherever_there_are_no_free_names() -> None:
    document = json.loads((REPO / "hardware_profiles" / "engines" / "vllm-0.7.2.json").read_text())
    for path in _paths(document):
        if path[-1:] == ("length_scales",):
            continue  # Named after the sizes of an operator.
        changed = copy.deepcopy(document)
        place = changed
        for key in path:
            place = place[key]
        place["surprise"] = 1
        assert not checker("engine").is_valid(changed), path
    del document["step_s"]
    assert not checker("engine").is_valid(document)
