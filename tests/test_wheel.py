"""What users install: a wheel built from the source distribution, used outside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import REPO

pytest.importorskip("hatchling", reason="hatchling is not installed (extra: dev)")

REQUEST = [
    "predict", "--model", "Qwen/Qwen3-VL-2B-Instruct", "--hardware", "h100-sxm", "--engine", "vllm-0.7.2",
    "--image", "640x480", "--prompt-tokens", "10", "--output-tokens", "5", "--format", "json",
]  # fmt: skip
MAIN = "import costmodel, sys; print(costmodel.__file__, file=sys.stderr); from costmodel.cli import main; main()"


def _build(source: Path, kind: str, out: Path) -> Path:
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    with tarfile.open(_build(REPO, "sdist", folder / "sdist")) as archive:
        archive.extractall(folder / "source", filter="data")
    (source,) = (folder / "source").iterdir()
    return _build(source, "wheel", folder / "wheel")


def _run(where: Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(where), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", MAIN, *REQUEST], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def test_the_wheel_predicts_what_the_checkout_does(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    installed, checkout = _run(site, tmp_path), _run(REPO, tmp_path)
    assert installed.returncode == 0, installed.stderr
    assert installed.stderr.startswith(str(site))
    assert checkout.stderr.startswith(str(REPO))
    assert json.loads(installed.stdout) == json.loads(checkout.stdout)


def test_the_wheel_holds_the_packages_and_their_data_only(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"calibrate", "costmodel", "hardware_profiles"}
    for folder, ending in (
        ("costmodel/presets", ".json"),
        ("hardware_profiles/gpus", ".json"),
        ("costmodel", ".typed"),
    ):
        expected = {str(path.relative_to(REPO)) for path in (REPO / folder).glob(f"*{ending}")}
        assert expected
        assert expected <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_names_its_licence_and_its_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    assert "costmodel = costmodel.cli:main" in entry_points
    assert "[costmodel.commands]" in entry_points
