"""A real Ray cluster of two nodes on this machine: sharded sweeps and a fleet calibration, with workers killed."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
from conftest import REPO
from made_profiles import SMALL
from typer.testing import CliRunner

ray = pytest.importorskip("ray", reason="ray is an extra")
pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")

from calibrate.commands.app import app as calibrate_app  # noqa: E402
from costmodel.sweeping.cli import app as sweep_app  # noqa: E402

# Ray's own modules warn of what they will change.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """Address of a cluster of two nodes of one CPU each."""
    from ray.cluster_utils import Cluster

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = os.pathsep.join([str(REPO), str(REPO / "tests")])
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    made.add_node(num_cpus=1)
    yield made.address
    made.shutdown()


def _kill_a_worker(name: str, killed: list[int], finished: Event) -> None:
    """Kill the first process that runs this task."""
    while not killed and not finished.is_set():
        for process in psutil.process_iter(["cmdline"]):
            if name in " ".join(process.info["cmdline"] or ()):
                # Inside its work, not at its beginning.
                time.sleep(0.3)
                try:
                    process.kill()
                except psutil.NoSuchProcess:
                    continue
                killed.append(process.pid)
                break
        time.sleep(0.1)


def _while_a_worker_is_killed(name: str, app: object, arguments: list[str]) -> str:
    killed: list[int] = []
    finished = Event()
    killer = Thread(target=_kill_a_worker, args=(name, killed, finished))
    killer.start()
    result = CliRunner().invoke(app, arguments)  # type: ignore[arg-type]
    finished.set()
    killer.join()
    assert killed
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def test_no_cluster_is_one_line(tmp_path: Path) -> None:
    from costmodel.cluster import connected
    from costmodel.errors import InputError

    with pytest.raises(InputError, match="no Ray cluster at 'auto'") as raised, connected("auto"):
        pass
    assert "\n" not in str(raised.value)


def test_a_sweep_survives_the_death_of_a_worker(cluster: str, tmp_path: Path) -> None:
    command = [
        "--model", SMALL, "--hardware", "h100-sxm", "--engine", "vllm-0.7.2", "--prompt-tokens", "64:1264:50",
        "--output-tokens", "1:200:4", "--batch", "1:50:1", "--interval", "0.9",
    ]  # fmt: skip
    _while_a_worker_is_killed(
        "ray::_part_file", sweep_app, [*command, "--out", str(tmp_path / "ray.parquet"), "--ray", cluster]
    )
    alone = CliRunner().invoke(sweep_app, [*command, "--out", str(tmp_path / "alone.parquet")])
    assert alone.exit_code == 0
    assert pq.read_table(tmp_path / "ray.parquet").equals(pq.read_table(tmp_path / "alone.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["alone.parquet", "ray.parquet"]


@pytest.mark.slow
def test_a_fleet_is_calibrated_and_its_spread_is_in_the_profile(cluster: str, tmp_path: Path) -> None:
    arguments = [
        "fleet", "--ray", cluster, "--each", "2", "--out", str(tmp_path), "--budget-s", "8", "--quick",
        "--run", tmp_path.name + str(os.getpid()), "--format", "json",
    ]  # fmt: skip
    said = _while_a_worker_is_killed("ray::_calibrate_here", calibrate_app, arguments)
    (accelerator,) = json.loads(said)
    assert accelerator["failures"] == []
    assert len(accelerator["devices"]) == 2
    first, second = (device["effect"] for device in accelerator["devices"])
    assert first == pytest.approx(-second, abs=1e-12)
    profile = json.loads((tmp_path / f"{accelerator['profile']}.json").read_text())
    assert profile["device_log_sd"] == accelerator["device_log_sd"]
    assert profile["provenance"]["measured_by"] == "costmodel calibrate fleet"
    journals = sorted((tmp_path / "devices").glob("*.jsonl"))
    assert len(journals) == 2
    # The journal of the killed worker has one header: what it had measured was gone on with.
    for journal in journals:
        lines = [json.loads(line) for line in journal.read_text().splitlines()]
        assert [line.get("kind") for line in lines].count("header") == 1
