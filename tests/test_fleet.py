"""Devices of a cluster without a cluster: which are calibrated, what happens when some fail, how far they differ."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_profiles import SMALL, calibrated, engine, preset, request
from typer.testing import CliRunner

from calibrate.commands.app import app
from calibrate.fleet import devices as fleet_devices
from calibrate.fleet import run as fleet_run
from calibrate.fleet.devices import chosen, find_devices
from calibrate.fleet.run import FleetPlan, calibrate_fleet
from calibrate.fleet.spread import device_spread
from calibrate.measure.run import CalibrationPlan
from costmodel.breakeven import break_even
from costmodel.errors import DeviceError, InputError
from costmodel.predict import predict
from costmodel.quantity import normal_quantile

RNG = np.random.default_rng(3)


def _timings(path: Path, effect: float, *, noise: float = 0.0, shapes: int = 40, kinds: int = 2) -> Path:
    """A table of kernels of a device that takes exp(effect) times as long as its like."""
    lines = ["op,dtype,m,n,k,bytes,latency_s"]
    for i in range(1, shapes + 1):
        slower = math.exp(effect + float(RNG.normal(0.0, noise)) if noise else effect)
        lines.append(f"gemm,bf16,{64 * i},512,512,,{1e-6 * i * slower}")
        if kinds > 1:
            lines.append(f"copy,fp32,,,,{4096 * i},{1e-7 * i * slower}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_effects_are_those_that_made_the_timings(tmp_path: Path) -> None:
    effects = [-0.03, 0.01, 0.05]
    spread = device_spread([_timings(tmp_path / f"{e}.csv", e) for e in effects], [0.0] * 3)
    assert spread.effects == pytest.approx([e - np.mean(effects) for e in effects])
    assert spread.device_log_sd == pytest.approx(np.std(effects, ddof=1))
    assert spread.shapes == 80


def test_drift_of_a_device_is_not_its_difference(tmp_path: Path) -> None:
    files = [_timings(tmp_path / f"{e}.csv", e) for e in (-0.05, 0.05)]
    between = math.sqrt(2) * 0.05
    assert device_spread(files, [0.0, 0.0]).device_log_sd == pytest.approx(between)
    assert device_spread(files, [0.03, 0.03]).device_log_sd == pytest.approx(math.sqrt(between**2 - 0.03**2))
    assert device_spread(files, [0.2, 0.2]).device_log_sd == 0.0


def test_spread_is_recovered_from_noisy_fleets(tmp_path: Path) -> None:
    """The term found, squared, is on average the one that the fleets were drawn with."""
    found = []
    for fleet in range(60):
        effects = RNG.normal(0.0, 0.04, 4)
        files = [
            _timings(tmp_path / f"{fleet}-{i}.csv", e, noise=0.02, shapes=12, kinds=1) for i, e in enumerate(effects)
        ]
        found.append(device_spread(files, [0.0] * 4).device_log_sd ** 2)
    assert math.sqrt(np.mean(found)) == pytest.approx(0.04, rel=0.2)


def test_only_shapes_that_all_have_count(tmp_path: Path) -> None:
    long, short = _timings(tmp_path / "a.csv", 0.1, shapes=50), _timings(tmp_path / "b.csv", 0.0, shapes=3)
    assert device_spread([long, short], [0.0, 0.0]).effects == pytest.approx([0.05, -0.05])
    assert device_spread([long], [0.0]).device_log_sd == 0.0


class _FakeRay:
    """Answers of a cluster: nodes, and what each task gives or raises, in turn."""

    class exceptions:  # noqa: N801
        RayError = ConnectionAbortedError

    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node_id, soft: node_id)
    )

    def __init__(self, nodes: Sequence[dict[str, Any]], answers: Callable[[str, Any], Any]) -> None:
        self._nodes, self._answers = nodes, answers
        self.options_seen: list[dict[str, Any]] = []

    def nodes(self) -> Sequence[dict[str, Any]]:
        return self._nodes

    def remote(self, function: Any = None, **_: Any) -> Any:
        if function is None:
            return lambda real: self.remote(real)

        def options(**given: Any) -> Any:
            self.options_seen.append({"task": function.__name__, **given})
            return SimpleNamespace(remote=lambda *args: (function.__name__, given["scheduling_strategy"], args))

        return SimpleNamespace(options=options)

    def wait(self, running: list[Any], num_returns: int) -> tuple[list[Any], list[Any]]:
        return running[:num_returns], running[num_returns:]

    def get(self, task: Any) -> Any:
        answer = self._answers(task[0], task[2])
        if isinstance(answer, Exception):
            raise answer
        return answer


def _node(name: str, *, gpus: int = 0, kind: str = "", alive: bool = True, label: bool = False) -> dict[str, Any]:
    resources = {"CPU": 8.0, **({"GPU": float(gpus)} if gpus else {})}
    if kind and not label:
        resources[f"accelerator_type:{kind}"] = 1.0
    labels = {"ray.io/accelerator-type": kind} if label else {}
    return {"NodeID": name * 8, "NodeManagerAddress": f"10.0.0.{name}", "Alive": alive, "Resources": resources,
            "Labels": labels}  # fmt: skip


NODES = [
    _node("1", gpus=2, kind="H100"),
    _node("2", gpus=2, kind="H100", label=True),
    _node("3", gpus=1, kind="L40S"),
    _node("4"),
    _node("5", gpus=4, kind="H100", alive=False),
]


def test_devices_are_found_by_kind_and_spread_over_nodes() -> None:
    ray = _FakeRay(NODES, lambda task, args: "Some CPU")
    by_kind = chosen(find_devices(ray), 2)
    assert {kind: len(found) for kind, found in by_kind.items()} == {"H100": 4, "L40S": 1, "Some CPU": 1}
    assert [device.node[0] for device in by_kind["H100"][:2]] == ["1", "2"]
    with pytest.raises(InputError, match="no node"):
        find_devices(_FakeRay([], lambda task, args: ""))
    with pytest.raises(InputError, match="--each is 0"):
        chosen([], 0)


def _plan(each: int = 2) -> FleetPlan:
    calibration = CalibrationPlan((), "hf-eager", "bf16", budget_s=1.0, quick=True, seed=0)
    return FleetPlan(calibration, each=each, threads=1, run="test")


def _calibration_of(tmp_path: Path, lost: Sequence[str] = ()) -> Callable[[str, Any], Any]:
    def answer(task: str, args: Any) -> Any:
        if task == fleet_devices._cpu_name.__name__:
            return "Some CPU"
        device = args[1]
        if device.address in lost:
            return ConnectionAbortedError(f"The node {device.address} died.\nIts GPU fell off the bus.")
        effect = 0.1 if device.address == "10.0.0.2" else 0.0
        profile = calibrated().model_copy(update={"key": device.accelerator.lower().replace(" ", "-")})
        return profile.model_dump_json(), _timings(tmp_path / "t.csv", effect).read_text()

    return answer


@pytest.fixture
def tables_as_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Samples of the fake devices are tables; they get a name that says so."""
    real = fleet_run.device_spread

    def spread(journals: Sequence[Path], run_log_sd: Sequence[float]) -> Any:
        return real([path.rename(path.with_suffix(".csv")) for path in journals], run_log_sd)

    monkeypatch.setattr(fleet_run, "device_spread", spread)


def test_one_profile_a_kind_says_how_far_its_devices_differ(tmp_path: Path, tables_as_samples: None) -> None:
    ray = _FakeRay(NODES, _calibration_of(tmp_path))
    found = {each.name: each for each in calibrate_fleet(ray, _plan(), tmp_path / "out", lambda share, what: None)}
    assert {name: len(each.measured) for name, each in found.items()} == {"H100": 2, "L40S": 1, "Some CPU": 1}
    written = json.loads((tmp_path / "out" / "h100.json").read_text())
    assert written["device_log_sd"] == pytest.approx(math.sqrt(2) * 0.05)
    assert "+5.0%" in written["provenance"]["notes"][-1]
    taken = [seen for seen in ray.options_seen if seen["task"] == "_calibrate_here"]
    assert [(seen.get("num_gpus"), seen["num_cpus"]) for seen in taken] == [(1, 1), (1, 1), (1, 1), (None, 8.0)]


def test_a_lost_node_is_replaced_and_named(tmp_path: Path, tables_as_samples: None) -> None:
    ray = _FakeRay(NODES, _calibration_of(tmp_path, lost=["10.0.0.2", "10.0.0.3"]))
    found = {each.name: each for each in calibrate_fleet(ray, _plan(), tmp_path / "out", lambda share, what: None)}
    assert [each.device.address for each in found["H100"].measured] == ["10.0.0.1", "10.0.0.1"]
    assert len(found["H100"].failures) == 1
    assert found["L40S"].profile is None
    assert "fell off the bus" in found["L40S"].failures[0]
    assert found["Some CPU"].profile is not None


def test_a_device_that_refuses_is_no_crash(tmp_path: Path, tables_as_samples: None) -> None:
    ray = _FakeRay(NODES[3:4], lambda task, args: "CPU" if task == "_cpu_name" else DeviceError("too busy"))
    (only,) = calibrate_fleet(ray, _plan(), tmp_path / "out", lambda share, what: None)
    assert only.profile is None
    assert only.failures[0].endswith("too busy")


def test_the_device_term_is_in_every_interval_and_cancels_in_a_ratio() -> None:
    plain, spread = calibrated(run_log_sd=0.0), calibrated(run_log_sd=0.0).model_copy(update={"device_log_sd": 0.3})
    one, other = (predict(preset(SMALL), each, engine(), request(64, 47)).latency.total_s for each in (plain, spread))
    z = normal_quantile(0.9)
    variance = (math.log(one.high / one.value) / z) ** 2 + 0.3**2
    assert math.log(other.high / other.value) / z == pytest.approx(math.sqrt(variance))
    crossings = [
        break_even(preset(SMALL), preset(SMALL), each, engine(), request(64, 47), large_output_tokens=40)
        for each in (plain, spread)
    ]
    widths = [found.break_even_output_tokens.high for found in crossings if found.break_even_output_tokens]
    assert widths[0] == pytest.approx(widths[1], rel=1e-6)


def test_the_command_is_there() -> None:
    said = CliRunner().invoke(app, ["fleet", "--help"])
    assert said.exit_code == 0
    assert "every distinct accelerator" in said.stdout
