"""The whole path on tiny models: calibrate (killed once), predict, validate, resume; the loop of live runs alone."""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import TINY_CONFIGS

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")

from calibrate.check import runs as live_runs
from calibrate.check.live import LivePlan, validate_live
from calibrate.check.runs import LiveCase, run_cases
from calibrate.engines.local_transformers import RunTimes
from calibrate.measure.device import CpuDevice
from calibrate.measure.journal import Journal, read_journal
from costmodel.errors import InputError, MeasurementError
from costmodel.families.sources import load_model
from costmodel.profiles import load_hardware
from costmodel.specs.images import ImageSize
from costmodel.validation import Validation

Row = dict[str, Any]

DEVICE = CpuDevice(threads=1)
ANCHOR = {"gemm_s": 1.0, "stream_s": 1.0, "tiny_s": 1.0}
ENVIRONMENT = {"name": "made up"}
CASES = [LiveCase(f"live-{i}", ImageSize(width=60 + i, height=50), 10 + i, {"small": 9, "large": 4}) for i in range(5)]


@dataclass
class Answers:
    """A model that answers at once."""

    log: list[tuple[int, int]] = field(default_factory=list)
    device: CpuDevice = DEVICE

    def run(self, images: list[Any], *, prompt_tokens: int, output_tokens: int) -> RunTimes:
        assert len(images) == 1
        self.log.append((prompt_tokens, output_tokens))
        times = tuple(1.0 + 0.1 * i for i in range(output_tokens))
        return RunTimes(0.2, 0.3, 0.5, times[-1] - 1.0, 1.0, times[-1], 0.1, 0.01, times)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Row]]:
    """The loop of runs with models that answer at once; ``anchors`` are the answers of the anchors, in turn."""
    now = [0.0]

    def clock() -> float:
        now[0] += 0.25
        return now[0]

    monkeypatch.setattr(live_runs, "time", SimpleNamespace(monotonic=clock, perf_counter=clock, process_time=clock))

    def call(path: Path, *, slow: set[int] = frozenset(), **options: Any) -> list[Row]:  # type: ignore[assignment]
        count = [0]

        def measure() -> dict[str, float]:
            count[0] += 1
            return {**ANCHOR, "gemm_s": 2.0} if count[0] in slow else ANCHOR

        monkeypatch.setattr(live_runs, "Anchors", lambda _: SimpleNamespace(measure=measure))
        models = {"small": Answers(), "large": Answers()}
        settings = {"repeats": 3, "budget_s": 1e6, "seed": 0, **options}
        with Journal(path, ENVIRONMENT) as journal:
            run_cases(CASES, models, DEVICE, journal, progress=lambda share, what: None, **settings)  # type: ignore[arg-type]
        return [row for row in read_journal(path)[1] if row["op"] == "run"]

    return call


def _counts(rows: list[Row]) -> Counter[tuple[str, str]]:
    return Counter((row["case_id"], row["model"]) for row in rows)


def test_every_case_is_run_as_often_on_both_models(loop: Callable[..., list[Row]], tmp_path: Path) -> None:
    rows = loop(tmp_path / "runs.jsonl")
    assert set(_counts(rows)) == {(case.case_id, name) for case in CASES for name in ("small", "large")}
    assert set(_counts(rows).values()) == {3}
    assert all(row["output_tokens"] == {"small": 9, "large": 4}[row["model"]] for row in rows)


def test_repeats_are_interleaved_and_in_random_order(loop: Callable[..., list[Row]], tmp_path: Path) -> None:
    rows = loop(tmp_path / "runs.jsonl")
    order = [(row["case_id"], row["model"]) for row in rows]
    sweeps = [order[start : start + 10] for start in range(0, 30, 10)]
    assert all(len(set(sweep)) == 10 for sweep in sweeps)
    assert len({tuple(sweep) for sweep in sweeps}) == 3


def test_there_is_an_anchor_before_and_after_every_run(loop: Callable[..., list[Row]], tmp_path: Path) -> None:
    loop(tmp_path / "runs.jsonl")
    kinds = [row["op"] for row in read_journal(tmp_path / "runs.jsonl")[1]]
    assert kinds == ["start", "anchor"] + ["run", "anchor"] * 30


def test_nothing_is_added_when_all_is_done(loop: Callable[..., list[Row]], tmp_path: Path) -> None:
    first = loop(tmp_path / "runs.jsonl")
    assert loop(tmp_path / "runs.jsonl") == first
    assert len(loop(tmp_path / "runs.jsonl", repeats=4)) == len(first) + 10


def test_resuming_adds_what_is_missing(loop: Callable[..., list[Row]], tmp_path: Path) -> None:
    first = loop(tmp_path / "runs.jsonl", budget_s=2.0)
    assert 0 < len(first) < 30
    rows = loop(tmp_path / "runs.jsonl")
    assert rows[: len(first)] == first
    assert set(_counts(rows).values()) == {3}


def test_disturbed_runs_are_run_again(loop: Callable[..., list[Row]], tmp_path: Path) -> None:
    """Run ``n`` is between anchors ``n`` and ``n + 1``: here 3, 4, 5, 8 and 9 don't count, all of the first sweep."""
    rows = loop(tmp_path / "runs.jsonl", repeats=2, slow={4, 5, 9})
    first_sweep = [(row["case_id"], row["model"]) for row in rows[:10]]
    again = {first_sweep[index - 1] for index in (3, 4, 5, 8, 9)}
    assert _counts(rows) == Counter({pair: 3 if pair in again else 2 for pair in first_sweep})


# --- the real commands on tiny models ---------------------------------------------------------------------------------

PATCHES = {"patch_size": 8, "merge_size": 2, "size": {"shortest_edge": 256, "longest_edge": 65536}}


def _write_model(folder: Path, *, hidden: int, layers: int) -> Path:
    config = copy.deepcopy(TINY_CONFIGS["qwen3_vl"])
    config["architectures"] = ["Qwen3VLForConditionalGeneration"]
    text = {"hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": layers, "vocab_size": 2048}
    config["text_config"].update(text)
    config["vision_config"].update(out_hidden_size=hidden, patch_size=8, temporal_patch_size=2)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(PATCHES))
    return folder


@dataclass(frozen=True)
class Workplace:
    """A folder with two models, and the command lines that use them."""

    folder: Path

    @property
    def models(self) -> tuple[str, str]:
        return str(self.folder / "small"), str(self.folder / "large")

    @property
    def calibrate(self) -> list[str]:
        small, large = self.models
        words = [
            "calibrate",
            "run",
            "--quick",
            "--budget-s",
            "6",
            "--device",
            "cpu",
            "--model",
            small,
            "--model",
            large,
        ]
        return [*words, "--model", small, "--model", large, "--out", str(self.folder / "profile.json")]

    @property
    def validate(self) -> list[str]:
        small, large = self.models
        words = ["validate", "--small", small, "--large", large, "--hardware", str(self.folder / "profile.json")]
        words += ["--requests", "5", "--repeats", "2", "--budget-s", "8", "--no-gate", "--device", "cpu"]
        return [*words, "--runs", str(self.folder / "runs.jsonl"), "--out", str(self.folder / "v.json")]

    def start(self, words: list[str]) -> subprocess.Popen[str]:
        code = "from costmodel.cli import main; main()"
        return subprocess.Popen(
            [sys.executable, "-c", code, *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, words: list[str]) -> tuple[int, str, str]:
        with self.start(words) as process:
            out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def plan(self) -> LivePlan:
        small, large = self.models
        return LivePlan(
            small=small,
            large=large,
            hardware=str(self.folder / "profile.json"),
            engine="hf-eager",
            dtype="fp32",
            requests=5,
            repeats=2,
            budget_s=0.0,
            seed=1,
            interval=0.9,
        )


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, list[bytes]]:
    """A calibration that was killed when it had measured slices; the lines it had written."""
    place = Workplace(tmp_path_factory.mktemp("live"))
    _write_model(place.folder / "small", hidden=64, layers=2)
    _write_model(place.folder / "large", hidden=128, layers=4)
    journal = place.folder / "profile.jsonl"
    with place.start(place.calibrate) as process:
        deadline = time.monotonic() + 100
        while not any(b'"slice"' in line for line in _lines(journal)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert not (place.folder / "profile.json").exists(), "nothing half-written"
    return place, _lines(journal)


@pytest.fixture(scope="module")
def calibrated(killed: tuple[Workplace, list[bytes]]) -> Workplace:
    """The same command again, to its end."""
    place, _ = killed
    status, out, err = place.run(place.calibrate)
    assert status == 0, err
    assert out == ""
    assert "samples undisturbed" in err
    return place


@pytest.mark.slow
def test_samples_can_be_fitted_again_without_the_device(calibrated: Workplace) -> None:
    first = load_hardware(calibrated.folder / "profile.json")
    again = calibrated.folder / "again.json"
    command = ["calibrate", "fit", str(calibrated.folder / "profile.jsonl"), "--out", str(again)]
    status, _, err = calibrated.run([*command, "--hardware", str(calibrated.folder / "profile.json")])
    assert status == 0, err
    fitted = load_hardware(again)
    assert fitted.run_log_sd == pytest.approx(first.run_log_sd, rel=1e-4)
    assert [entry.model for entry in fitted.slices] == [entry.model for entry in first.slices]
    for new, old in zip(fitted.slices, first.slices, strict=True):
        for name, component in old.components.items():
            values = {key: coefficient.value for key, coefficient in component.coefficients.items()}
            refitted = {key: c.value for key, c in new.components[name].coefficients.items()}
            assert refitted == pytest.approx(values, rel=1e-4)


@pytest.fixture(scope="module")
def validated(calibrated: Workplace) -> tuple[Workplace, Validation]:
    """Predictions of that profile against live runs."""
    status, out, err = calibrated.run([*calibrated.validate, "--format", "json"])
    assert status == 0, err
    written = (calibrated.folder / "v.json").read_text()
    assert json.loads(out) == json.loads(written)
    return calibrated, Validation.model_validate_json(written)


@pytest.mark.slow
def test_a_killed_calibration_goes_on(killed: tuple[Workplace, list[bytes]], calibrated: Workplace) -> None:
    _, before = killed
    after = _lines(calibrated.folder / "profile.jsonl")
    assert len(before) > 10
    assert after[: len(before)] == before
    assert len(after) > len(before)
    stops = [row for row in read_journal(calibrated.folder / "profile.jsonl")[1] if row["op"] == "stop"]
    assert stops[-1]["reason"] in ("confidence", "time", "sweeps")


@pytest.mark.slow
def test_the_profile_has_everything_that_predictions_of_both_models_need(calibrated: Workplace) -> None:
    from costmodel.predict import predict
    from costmodel.profiles import load_engine
    from costmodel.specs.workload import Workload

    profile = load_hardware(calibrated.folder / "profile.json")
    assert profile.datasheet.kind == "cpu"
    assert profile.provenance.measured_by == "costmodel calibrate run"
    for name in calibrated.models:
        workload = Workload(images=(ImageSize(width=300, height=200),), prompt_tokens=20, output_tokens=5)
        prediction = predict(load_model(name), profile, load_engine("hf-eager"), workload, dtype="fp32")
        assert set(prediction.sources.values()) == {"slices"}
        assert 0 < prediction.latency.total_s.low < prediction.latency.total_s.value


@pytest.mark.slow
def test_stages_of_live_runs_add_up(validated: tuple[Workplace, Validation]) -> None:
    place, result = validated
    rows = [row for row in read_journal(place.folder / "runs.jsonl")[1] if row["op"] == "run"]
    assert set(_counts(rows)) == {(f"live-{i}", name) for i in range(5) for name in ("small", "large")}
    for row in rows:
        stages = [row[f"{stage}_s"] for stage in ("preprocess", "encode", "prefill", "decode")]
        assert all(stage > 0 for stage in stages)
        assert sum(stages) == pytest.approx(row["total_s"])
        assert len(row["token_s"]) == row["output_tokens"]
    assert result.n <= 10
    assert result.verdict in ("passed", "failed", "inconclusive")
    assert {score.stage for score in result.stages} <= {"preprocess", "encode", "prefill", "decode", "total"}


@pytest.mark.slow
def test_runs_of_another_design_are_refused(validated: tuple[Workplace, Validation]) -> None:
    place, _ = validated
    runs = place.folder / "runs.jsonl"
    before = runs.read_bytes()
    for other in (replace(place.plan(), seed=2), replace(place.plan(), requests=6)):
        with pytest.raises(MeasurementError, match="measured with design"):
            validate_live(other, DEVICE, runs=runs, progress=lambda share, what: None)
    assert runs.read_bytes() == before


@pytest.mark.slow
def test_validating_again_keeps_every_run(validated: tuple[Workplace, Validation]) -> None:
    place, first = validated
    runs = place.folder / "runs.jsonl"
    before = _lines(runs)
    again = validate_live(place.plan(), DEVICE, runs=runs, progress=lambda share, what: None)
    assert _lines(runs)[: len(before)] == before
    written = [[json.loads(line) for line in lines] for lines in (before, _lines(runs))]
    counts = [_counts([row for row in rows if row.get("op") == "run"]) for rows in written]
    assert counts[0] == counts[1], "no time was given for more"
    assert {row.case_id for row in again.rows} == {row.case_id for row in first.rows}


@pytest.mark.slow
def test_bad_plans_are_refused_before_anything_is_run(calibrated: Workplace, tmp_path: Path) -> None:
    runs = tmp_path / "runs.jsonl"
    small, _ = calibrated.models
    for plan in (
        replace(calibrated.plan(), interval=1.5),
        replace(calibrated.plan(), large=small),
        replace(calibrated.plan(), requests=0),
        replace(calibrated.plan(), repeats=0),
        replace(calibrated.plan(), budget_s=float("nan")),
    ):
        with pytest.raises(InputError):
            validate_live(plan, DEVICE, runs=runs, progress=lambda share, what: None)
    assert not runs.exists()
