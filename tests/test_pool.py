"""The pool of work items on a made-up machine: a clock that moves only when something is measured."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")

from calibrate.measure import pool
from calibrate.measure.device import CpuDevice
from calibrate.measure.journal import Journal, read_journal
from calibrate.measure.pool import StoppingRule, Visit, WorkItem, run_pool

Row = dict[str, Any]
ANCHOR = {"gemm_s": 1e-3, "stream_s": 1e-2, "tiny_s": 1e-3}


class Machine:
    """A clock, the anchors, and items whose samples scatter by ``noise``."""

    def __init__(self, *, noise: float = 0.0) -> None:
        self.now, self._noise, self._rng = 0.0, noise, random.Random(8)
        self.visits: list[str] = []

    def clock(self) -> float:
        return self.now

    def measure(self) -> dict[str, float]:
        self.now += sum(ANCHOR.values())
        return dict(ANCHOR)

    def item(self, key: str, latency_s: float = 0.02, *, components: int = 1) -> WorkItem:
        def visit() -> list[Visit]:
            self.visits.append(key)
            self.now += components * latency_s
            sampled = latency_s * (1 + self._noise * self._rng.uniform(-1, 1))
            return [Visit(f"c{i}", (sampled, sampled * 1.5), {"part": i}) for i in range(components)]

        return WorkItem(key, {"op": "gemm", "m": 4}, visit)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Machine]:
    def build(**options: float) -> Machine:
        made = Machine(**options)
        clock = SimpleNamespace(monotonic=made.clock, perf_counter=made.clock, process_time=made.clock)
        monkeypatch.setattr(pool, "time", clock)
        monkeypatch.setattr(pool, "Anchors", lambda _: made)
        return made

    return build


def _run(path: Path, items: list[WorkItem], rule: StoppingRule, *, seed: int = 0) -> tuple[str, list[Row]]:
    shares: list[float] = []

    def progress(share: float, what: str) -> None:
        assert what
        shares.append(share)

    with Journal(path, {"name": "made up"}) as journal:
        reason = run_pool(items, CpuDevice(threads=1), journal, rule=rule, seed=seed, progress=progress)
    assert all(0 <= share <= 1 for share in shares)
    return reason, read_journal(path)[1]


def _samples(rows: list[Row]) -> Counter[str]:
    return Counter(row["item"] for row in rows if "item" in row)


def test_stops_when_everything_is_known(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine(noise=0.001)
    items = [made.item(f"item {i}") for i in range(7)]
    rule = StoppingRule(relative_stderr=0.01, least_samples=4, least_s=0.1, most_s=1000.0)
    reason, rows = _run(tmp_path / "j.jsonl", items, rule)
    assert reason == "confidence"
    assert set(_samples(rows).values()) == {4}
    assert rows[-1]["reason"] == "confidence"
    assert rows[-1]["elapsed_s"] < 1000.0


def test_noisy_items_get_more_samples(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine(noise=0.0)
    loud = Machine(noise=0.5)
    item = loud.item("loud")

    def visit() -> Any:
        made.now += 0.02
        return item.visit()

    items = [made.item("calm"), WorkItem("loud", item.fields, visit)]
    rule = StoppingRule(relative_stderr=0.04, least_samples=4, least_s=0.1, most_sweeps=400, most_s=1e6)
    reason, rows = _run(tmp_path / "j.jsonl", items, rule)
    assert reason == "confidence"
    assert _samples(rows)["calm"] < _samples(rows)["loud"] / 3


def test_goes_on_for_the_least_time(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine()
    rule = StoppingRule(least_samples=3, least_s=2.0, most_s=100.0)
    reason, rows = _run(tmp_path / "j.jsonl", [made.item("a"), made.item("b")], rule)
    assert reason == "confidence"
    assert 2.0 <= rows[-1]["elapsed_s"] < 3.0


def test_stops_at_the_time_limit(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine(noise=0.9)
    items = [made.item(f"item {i}") for i in range(30)]
    rule = StoppingRule(relative_stderr=1e-6, least_s=0.1, most_s=3.0)
    reason, rows = _run(tmp_path / "j.jsonl", items, rule)
    assert reason == rows[-1]["reason"] == "time"
    assert 3.0 <= rows[-1]["elapsed_s"] <= 3.1
    assert rows[-2]["op"] == "anchor", "the last samples have an anchor after them"


def test_stops_at_the_last_sweep(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine(noise=0.9)
    rule = StoppingRule(relative_stderr=1e-6, most_sweeps=6, least_s=0.1, most_s=1e6)
    reason, rows = _run(tmp_path / "j.jsonl", [made.item("a"), made.item("b")], rule)
    assert reason == rows[-1]["reason"] == "sweeps"
    assert set(_samples(rows).values()) == {6}


def _sweeps(visits: list[str], size: int) -> list[list[str]]:
    return [visits[start : start + size] for start in range(0, len(visits), size)]


def test_order_changes_from_sweep_to_sweep(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine(noise=0.9)
    names = [f"item {i}" for i in range(12)]
    rule = StoppingRule(relative_stderr=1e-6, most_sweeps=5, least_s=0.1, most_s=1e6)
    _run(tmp_path / "j.jsonl", [made.item(name) for name in names], rule)
    warm_up, *sweeps = _sweeps(made.visits, 12)
    assert warm_up == names
    assert len(sweeps) == 5
    assert all(sorted(sweep) == sorted(names) for sweep in sweeps)
    assert len({tuple(sweep) for sweep in sweeps}) == 5


def test_the_order_is_that_of_the_seed(machine: Callable[..., Machine], tmp_path: Path) -> None:
    rule = StoppingRule(relative_stderr=1e-6, most_sweeps=2, least_s=0.1, most_s=1e6)
    orders = []
    for name, seed in (("first", 1), ("again", 1), ("other", 2)):
        made = machine()
        _run(tmp_path / f"{name}.jsonl", [made.item(f"{i}") for i in range(12)], rule, seed=seed)
        orders.append(made.visits)
    assert orders[0] == orders[1] != orders[2]


def test_warm_up_visits_are_no_samples(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine()
    rule = StoppingRule(most_sweeps=1, least_s=0.1, most_s=1e6)
    _, rows = _run(tmp_path / "j.jsonl", [made.item("a"), made.item("b")], rule)
    assert Counter(made.visits) == {"a": 2, "b": 2}
    assert _samples(rows) == {"a": 1, "b": 1}


def test_rows_say_what_was_measured(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine()
    rule = StoppingRule(most_sweeps=1, least_s=0.1, most_s=1e6)
    _, rows = _run(tmp_path / "j.jsonl", [made.item("a", 0.4, components=2)], rule)
    first, second = (row for row in rows if "item" in row)
    assert (first["op"], first["m"], first["component"], first["part"]) == ("gemm", 4, "c0", 0)
    assert second["component"] == "c1"
    assert first["raw_s"] == pytest.approx([0.4, 0.6])
    assert (first["latency_s"], first["samples"]) == (pytest.approx(0.5), 2)
    assert first["cpu_share"] == pytest.approx(1.0)


def test_an_anchor_every_quarter_of_a_second(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine()
    rule = StoppingRule(most_sweeps=1, least_s=0.1, most_s=1e6)
    _, rows = _run(tmp_path / "j.jsonl", [made.item(f"{i}", 0.1) for i in range(12)], rule)
    kinds = "".join("A" if row["op"] == "anchor" else "." for row in rows if row["op"] not in ("start", "stop"))
    assert kinds == "A...A...A...A...AA"


def test_a_component_that_is_unknown_keeps_its_item_open(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine()
    steps = iter(range(1000))

    def visit() -> list[Visit]:
        made.now += 0.02
        return [Visit("calm", (0.01,), {}), Visit("loud", (0.01 * (1 + next(steps) % 2),), {})]

    rule = StoppingRule(relative_stderr=0.05, least_samples=3, most_sweeps=30, least_s=0.1, most_s=1e6)
    _, rows = _run(tmp_path / "j.jsonl", [WorkItem("both", {"op": "gemm"}, visit), made.item("one")], rule)
    assert _samples(rows)["one"] == 3
    assert _samples(rows)["both"] > 2 * 10


def test_resuming_adds_only_what_is_missing(machine: Callable[..., Machine], tmp_path: Path) -> None:
    made = machine(noise=0.001)
    rule = StoppingRule(relative_stderr=0.01, least_samples=4, least_s=0.0, most_s=1000.0)
    path = tmp_path / "j.jsonl"
    _run(path, [made.item("a"), made.item("b")], rule)
    _, again = _run(path, [made.item("a"), made.item("b")], rule)
    assert _samples(again) == {"a": 4, "b": 4}
    _, more = _run(path, [made.item("a"), made.item("b"), made.item("c")], rule)
    assert _samples(more) == {"a": 4, "b": 4, "c": 4}
