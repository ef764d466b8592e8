"""Requests beside each other: bursts and loops, what is taken from them, and the guard of a server on this machine."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import made_profiles as made
import pytest

pytest.importorskip("httpx", reason="httpx is not installed (extra: serve)")

from calibrate.check.endpoint_guard import Guard, undisturbed
from calibrate.check.endpoint_load import (
    Batch,
    MeasuredLoop,
    design_bursts,
    design_loops,
    measured_bursts,
    measured_loops,
    run_batches,
    share_of_quiet_loops,
)
from calibrate.check.endpoint_runs import EndpointDesign, measured_cases
from calibrate.check.endpoint_verdict import Against, check_endpoint, check_loops
from calibrate.engines.protocol import Answer, Request
from calibrate.fit.endpoint import fit_endpoint
from calibrate.measure.journal import Journal, read_journal
from costmodel.errors import EndpointAuthError, EndpointError
from costmodel.load import predict_load
from costmodel.profiles import load_engine, load_hardware
from costmodel.specs.workload import Workload

DESIGN = EndpointDesign()
ANCHOR = {"op": "anchor", "gemm_s": 1.0, "stream_s": 1.0, "tiny_s": 1.0}
SLOW = {**ANCHOR, "stream_s": 3.0}
PREFILL_S, STEP_S, ROW_S = 0.02, 0.02, 0.007


class Together:
    """Answers at once, with the times of a server whose steps cost a constant and a part for each running request."""

    name = "together"

    def __init__(self, *, fail_at: int | None = None) -> None:
        self.now, self.most, self.asked, self.fail_at = 0, 0, 0, fail_at

    async def ask(self, request: Request) -> Answer:
        self.now += 1
        self.asked += 1
        self.most = max(self.most, self.now)
        place, number = self.now, self.asked
        await asyncio.sleep(0.002)
        beside = self.most
        self.now -= 1
        if number == self.fail_at:
            raise EndpointError("never mind")
        tokens, start = request.max_output_tokens, PREFILL_S * place
        step = STEP_S + ROW_S * beside
        pieces = tuple(start + step * i for i in range(tokens))
        return Answer("x", "length", pieces, pieces[-1], prompt_tokens=40, output_tokens=tokens)

    async def close(self) -> None:
        pass


def run(path: Path, batches: Sequence[Batch], engine: Together, guard: Guard | None = None) -> list[dict[str, Any]]:
    with Journal(path, {"engine": "test"}) as journal:
        asyncio.run(run_batches(engine, batches, journal, guard=guard))
    return read_journal(path)[1]


class Scripted(Guard):
    """Anchors by a list; the last one again and again."""

    def __init__(self, *anchors: dict[str, Any]) -> None:
        self.anchors = list(anchors)

    def mark(self, journal: Journal) -> None:
        journal.append(self.anchors.pop(0) if len(self.anchors) > 1 else self.anchors[0])


def test_bursts_tell_the_cost_of_a_step_of_several(tmp_path: Path) -> None:
    for size in (2, 4):
        (case,) = measured_bursts(run(tmp_path / f"{size}.jsonl", design_bursts([size], DESIGN), Together()))
        assert (case.workload.batch, case.workload.output_tokens) == (size, 20)
        assert len(case.decode_s) == 3 * size
        assert max(case.decode_s) == pytest.approx(19 * (STEP_S + size * ROW_S))


def test_a_burst_is_taken_where_all_decode_together(tmp_path: Path) -> None:
    """The first of two is fast until the second has begun, and the second after the first has ended."""
    first = [0.1, 0.11, 0.12, 0.2, 0.3, 0.4]
    second = [0.15, 0.2, 0.3, 0.4, 0.41, 0.42]
    rows: list[dict[str, Any]] = [{"op": "batch", "batch": "burst-2-0"}]
    rows += [
        {"op": "request", "outcome": "ok", "case_id": "x", "repeat": 0, "beside": 2, "piece_s": pieces,
         "ttft_s": pieces[0], "total_s": pieces[-1], "output_tokens": 6, "prompt_tokens_total": 30}
        for pieces in (first, second)
    ]  # fmt: skip
    (case,) = measured_bursts([*rows, {"op": "batch_end", "batch": "burst-2-0"}])
    assert case.decode_s == pytest.approx((5 * 0.1, 5 * 0.25 / 3))
    assert measured_bursts(rows) == [], "one that did not end says nothing"


def test_loops_keep_so_many_in_flight_and_vary_their_answers(tmp_path: Path) -> None:
    batches = design_loops([1, 3], DESIGN)
    for batch in batches:
        engine = Together()
        run(tmp_path / f"{batch.name}.jsonl", [batch], engine)
        assert engine.most == batch.beside
        lengths = [case.request.max_output_tokens for case in batch.requests]
        assert len(lengths) == 6 + 2 * batch.beside
        assert len(set(lengths)) > 3
    beginnings = {case.request.prompt[:16] for batch in batches for case in batch.requests}
    assert len(beginnings) == sum(len(batch.requests) for batch in batches)


def test_an_interrupted_batch_is_run_again_as_a_whole(tmp_path: Path) -> None:
    path, batches = tmp_path / "r.jsonl", design_loops([2], DESIGN)[:2]

    class Killed(Together):
        async def ask(self, request: Request) -> Answer:
            if self.asked == 14:
                raise EndpointAuthError("the key has run out")
            return await super().ask(request)

    with pytest.raises(EndpointAuthError):
        run(path, batches, Killed())
    assert len(measured_loops(read_journal(path)[1])) == 1
    again = Together()
    (loop,) = measured_loops(run(path, batches, again))
    assert len(loop.total_s) == 2
    assert again.asked == len(batches[0].requests) + 2, "the other one, and a warm-up"
    rest = Together()
    run(path, batches, rest)
    assert rest.asked == 0


def test_a_batch_with_a_fault_does_not_count_and_is_run_again(tmp_path: Path) -> None:
    path, batches = tmp_path / "r.jsonl", design_bursts([3], DESIGN)[:1]
    assert measured_bursts(run(path, batches, Together(fail_at=4))) == []
    assert len(measured_bursts(run(path, batches, Together()))) == 1


def test_requests_of_a_batch_are_no_single_requests(tmp_path: Path) -> None:
    rows = run(tmp_path / "r.jsonl", design_bursts([2], DESIGN), Together())
    with pytest.raises(EndpointError):
        measured_cases(rows)


def test_disturbed_loops_are_counted_and_left_out(tmp_path: Path) -> None:
    batches = design_loops([1], DESIGN)
    quiet = run(tmp_path / "q.jsonl", batches, Together(), Scripted(ANCHOR))
    assert share_of_quiet_loops(quiet) == 1.0
    once = run(tmp_path / "d.jsonl", batches, Together(), Scripted(*[ANCHOR] * 4, SLOW))
    assert share_of_quiet_loops(once) == 0.75
    assert share_of_quiet_loops(run(tmp_path / "n.jsonl", batches, Together())) is None


def row(case: str, repeat: int, outcome: str = "ok") -> dict[str, Any]:
    return {"op": "request", "case_id": case, "repeat": repeat, "outcome": outcome, "images": "",
            "prompt_tokens_total": 30, "output_tokens": 5, "ttft_s": 0.1, "decode_s": 0.2, "reason": ""}  # fmt: skip


def test_requests_beside_slow_anchors_do_not_count() -> None:
    rows = [{"op": "start"}, ANCHOR]
    for repeat in range(3):
        for case in "abcde":
            rows += [row(case, repeat), SLOW if (case, repeat) == ("b", 1) else ANCHOR]
    kept = undisturbed(rows)
    assert kept.enough
    assert len(kept.rows) == 13, "the one before the slow anchor, and the one after"
    assert kept.share == pytest.approx(13 / 15)
    assert undisturbed([each for each in rows if each.get("op") != "anchor"]).share is None


def test_where_most_is_disturbed_everything_counts_and_nothing_is_concluded() -> None:
    rows = [{"op": "start"}, ANCHOR]
    for index, case in enumerate("abcdefgh"):
        rows += [row(f"held-out-{case}", 0), SLOW if index % 2 else ANCHOR, row(f"held-out-{case}", 1), SLOW]
    kept = undisturbed(rows)
    assert not kept.enough
    assert len(kept.rows) == 16
    against = Against(
        made.text_only(), load_hardware("h100-sxm"), load_engine("llama.cpp"), "bf16",
        share_undisturbed=kept.share, enough_undisturbed=kept.enough, max_error=1e9,
    )  # fmt: skip
    check = check_endpoint(measured_cases(kept.rows), against)
    assert check.verdict == "inconclusive"
    assert "undisturbed" in check.reasons[0]


def loops_as_predicted(factor: float = 1.0) -> tuple[list[MeasuredLoop], Against]:
    against = Against(made.text_only(), load_hardware("h100-sxm"), load_engine("llama.cpp"), "bf16")
    found = []
    for clients in (1, 2, 4):
        workload = Workload(prompt_tokens=200, output_tokens=30)
        (point,) = predict_load(
            against.model, against.hardware, against.engine, workload, concurrency=[clients], slots=4
        ).points
        times = [(q.value * factor,) * 2 for q in (point.ttft_s, point.tpot_s, point.total_s)]
        found.append(MeasuredLoop(f"loop-{clients}", clients, workload, *times))
    return found, against


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, "passed"), (0.95, "passed"), (0.7, "failed"), (1.5, "failed")])
def test_loops_are_compared_with_the_steady_state(factor: float, verdict: str) -> None:
    loops, against = loops_as_predicted(factor)
    check = check_loops(loops, against, slots=4)
    assert check.verdict == verdict
    assert [score.stage for score in check.stages] == ["ttft", "tpot", "total"]
    assert all(score.n == 3 for score in check.stages)
    assert check.bias == pytest.approx(1 / factor - 1, abs=1e-6)


def test_a_limit_that_is_given_is_the_limit() -> None:
    loops, against = loops_as_predicted(0.97)
    assert check_loops(loops, dataclasses.replace(against, max_error=0.02), slots=4).verdict == "failed"


def test_steps_of_several_give_the_law_its_third_coefficient(tmp_path: Path) -> None:
    from test_fit_endpoint import simulated

    bursts = [
        case
        for size in (2, 4)
        for case in measured_bursts(run(tmp_path / f"{size}.jsonl", design_bursts([size], DESIGN), Together()))
    ]
    model, engine = made.text_only(), load_engine("llama.cpp")
    alone = fit_endpoint(simulated(), model, engine, dtype="bf16").components["decode.decoder_layer"]
    both = fit_endpoint([*simulated(), *bursts], model, engine, dtype="bf16").components["decode.decoder_layer"]
    assert "gemm_flops" not in alone.coefficients
    assert both.coefficients["gemm_flops"].value > 0
    assert both.highest["gemm_flops"] == pytest.approx(4 * alone.highest["gemm_flops"])
