"""The check against published runs, as a command."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from calibrate.accuracy.published import check_published
from calibrate.commands.validate import validate
from costmodel.errors import InputError, MeasurementError


def app() -> typer.Typer:
    found = typer.Typer()
    found.command()(validate)
    return found


def test_the_command_checks_the_tables_that_are_there(realdata: Path, tmp_path: Path) -> None:
    shutil.copy(realdata / "vit_a100.csv", tmp_path)
    out = tmp_path / "result.json"
    words = [
        "--published",
        str(tmp_path),
        "--out",
        str(out),
        "--plot",
        str(tmp_path / "parity.html"),
        "--format",
        "json",
    ]
    done = CliRunner().invoke(app(), words)
    assert done.exit_code == 0, done.output
    written = json.loads(out.read_text())
    assert json.loads(done.stdout) == written
    assert len(written["slopes"]) == 12
    assert written["scores"] == written["rows"] == []
    assert (tmp_path / "parity.html").stat().st_size > 0


@pytest.mark.parametrize(("make", "words"), [(False, "expected a folder"), (True, "no table of published runs")])
def test_a_folder_without_tables_is_refused(make: bool, words: str, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    if make:
        folder.mkdir()
    done = CliRunner().invoke(app(), ["--published", str(folder)])
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)


def test_a_table_without_its_columns_is_named(tmp_path: Path) -> None:
    (tmp_path / "vit_a100.csv").write_text("model,batch\nViT-B/16,1\n")
    with pytest.raises(MeasurementError, match=r"vit_a100.csv: missing column\(s\) precision"):
        check_published(tmp_path)


@pytest.mark.slow
def test_text_runs_of_shapes_never_seen(realdata: Path, tmp_path: Path) -> None:
    """Two of the models on one device: half of the shapes fitted, the other half within what was asked for."""
    with (realdata / "llm_single_stream.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["hardware"] == "rtx-a6000" and "Llama" not in row["model"]]
    with (tmp_path / "llm_single_stream.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    result = check_published(tmp_path, only=("text",))
    assert {score.group for score in result.scores} >= {"all bf16", "all quantised"}
    assert all(score.met for score in result.scores)
    assert len(result.rows) == len(rows)
