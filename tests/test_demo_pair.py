"""The pair of models for a demonstration: what this machine can run, with the architecture of the published ones."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")

import torch

from calibrate.check import demo_pair
from calibrate.check.demo_pair import write_demo_pair
from calibrate.measure.device import CpuDevice, CudaDevice
from calibrate.measure.hf_config import hf_config
from costmodel.families.sources import load_model, preset_names

CPU = CpuDevice(threads=1)


def _pair(folder: Path, monkeypatch: pytest.MonkeyPatch, once_s: float) -> tuple[str, str]:
    """The pair on a machine whose GEMM and stream take this long."""
    now = [0.0]

    def clock() -> float:
        now[0] += once_s
        return now[0]

    monkeypatch.setattr(demo_pair, "time", SimpleNamespace(perf_counter=clock))
    return write_demo_pair(folder, CPU)


@pytest.mark.parametrize("once_s", [1e-4, 0.01, 0.02, 0.05, 10.0])
def test_every_pair_is_a_model_that_can_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once_s: float
) -> None:
    from transformers import AutoModelForImageTextToText

    for name in _pair(tmp_path, monkeypatch, once_s):
        spec = load_model(name)
        with torch.device("meta"):
            built = AutoModelForImageTextToText.from_config(hf_config(spec))
        assert sum(p.numel() for p in built.parameters()) == spec.parameters
        assert spec.family == "qwen3_vl"


def test_the_large_one_is_larger_in_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, large = (load_model(name) for name in _pair(tmp_path, monkeypatch, 0.02))
    assert large.decoder.hidden_size == 2 * small.decoder.hidden_size
    assert large.decoder.num_layers > small.decoder.num_layers
    assert large.vision is not None
    assert small.vision is not None
    assert large.vision.num_layers > small.vision.num_layers
    assert large.name != small.name


def test_a_slower_machine_gets_a_smaller_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    widths = [
        load_model(_pair(tmp_path / str(index), monkeypatch, once_s)[0]).decoder.hidden_size
        for index, once_s in enumerate((1e-4, 0.012, 0.021, 0.05, 10.0))
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > widths[-1]


def test_a_gpu_gets_published_models(tmp_path: Path) -> None:
    pair = write_demo_pair(tmp_path / "unused", CudaDevice(index=0))
    assert set(pair) <= set(preset_names())
    assert not (tmp_path / "unused").exists()
