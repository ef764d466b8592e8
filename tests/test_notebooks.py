"""The notebooks of examples/ run from top to bottom, say what their text says, and are stored without outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO

nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed (extra: dev)")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed (extra: dev)")

NOTEBOOKS = sorted((REPO / "examples").glob("*.ipynb"))


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every notebook after a run; in an empty folder, so that none finds a file of the repository by chance."""
    pytest.importorskip("ipykernel", reason="ipykernel is not installed (extra: dev)")
    done = {}
    for path in NOTEBOOKS:
        if path.stem == "calibrate":
            pytest.importorskip("aiconfigurator_core", reason="the tables are not installed (extra: tables)")
        notebook = nbformat.read(path, as_version=4)
        folder = tmp_path_factory.mktemp(path.stem)
        nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(folder)}}).execute()
        done[path.stem] = notebook
    return done


def _cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _shown(cell: Any, kind: str) -> str:
    return "".join(str(out.data.get(kind, "")) for out in cell.outputs if "data" in out)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_they_are_stored_without_outputs(path: Path) -> None:
    content = json.loads(path.read_text())
    nbformat.validate(nbformat.from_dict(content))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert path.stat().st_size < 20_000


def test_results_are_tables(executed: dict[str, Any]) -> None:
    for notebook in executed.values():
        assert sum("<table>" in _shown(cell, "text/html") for cell in _cells(notebook)) >= 2
        assert not [out for cell in _cells(notebook) for out in cell.outputs if out.output_type == "error"]


def test_a_faster_memory_helps_decoding_most(executed: dict[str, Any]) -> None:
    """What the text of the notebook claims."""
    (cell,) = [cell for cell in _cells(executed["hypothetical"]) if cell.source.startswith("gain = ")]
    gain = eval(_shown(cell, "text/plain"), {"__builtins__": {}})
    assert gain["preprocess_s"] == pytest.approx(1.0)
    assert max(gain, key=lambda stage: gain[stage]) == "decode_s"
    assert 1.2 < gain["decode_s"] < 2.0


def test_a_calibration_narrows_every_interval(executed: dict[str, Any]) -> None:
    (cell,) = [cell for cell in _cells(executed["calibrate"]) if cell.source.startswith("def half_width")]
    for before, after in eval(_shown(cell, "text/plain"), {"__builtins__": {}}).values():
        assert after < 0.7 * before
    (scores,) = [cell for cell in _cells(executed["calibrate"]) if "scores = evaluate" in cell.source]
    for score in eval(_shown(scores, "text/plain"), {"__builtins__": {}}).values():
        assert score["n"] > 1000
        assert 0.75 < score["coverage"] <= 1.0
