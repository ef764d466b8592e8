"""The scripts of examples/ run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO

SCRIPTS: dict[str, list[str]] = {
    "quickstart": [],
    "policy_traces": ["traces.jsonl"],
}
ELSEWHERE = {
    "engine_profiles": "needs tables of published runs; refits shipped profiles",
    "explore_speed": "a benchmark of the page",
    "families": "docs/families.md holds what it prints",
    "live_llama": "minutes; tests/test_real_servers.py does the same on fewer requests",
    "policy_benchmark": "a benchmark",
    "screenshots": "needs a browser; tests/test_explore_browser.py looks at the same page",
    "text_experiment": "minutes; needs two servers; tests/test_policy_run.py runs policies on servers",
    "policy": "tests/test_policy_commands.py",
    "explain": "below, without kaleido's browser",
    "figures": "needs the results of a demonstration",
}


def test_every_script_is_looked_at() -> None:
    assert {path.stem for path in (REPO / "examples").glob("*.py")} == SCRIPTS.keys() | ELSEWHERE.keys()


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_run(name: str, tmp_path: Path) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra: plot)")
    done = subprocess.run(
        [sys.executable, str(REPO / "examples" / f"{name}.py"), *SCRIPTS[name]],
        cwd=tmp_path, capture_output=True, text=True, timeout=300, env={"PYTHONPATH": str(REPO)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout or list(tmp_path.iterdir())


def test_figures_of_the_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each figure that the page shows is drawn, and has data."""
    pytest.importorskip("plotly", reason="plotly is not installed (extra: plot)")
    monkeypatch.syspath_prepend(str(REPO / "examples"))
    import explain

    shown = {path.stem.removeprefix("explained-") for path in (REPO / "docs" / "images").glob("explained-*.svg")}
    assert shown == set(explain.FIGURES)
    page = (REPO / "docs" / "model.md").read_text()
    for name, draw in explain.FIGURES.items():
        assert f"images/explained-{name}.svg" in page
        assert all(len(trace.y) for trace in draw().data)
