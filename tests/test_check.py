"""The verdict on live runs, from hand-made runs whose errors are known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from made_profiles import LARGE, SMALL, calibrated, engine, preset

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")

from calibrate.check.live import plan_cases
from calibrate.check.runs import LiveCase, design_cases
from calibrate.check.verdict import check_runs
from costmodel.predict import predict
from costmodel.specs.workload import Workload
from costmodel.validation import Validation

Row = dict[str, Any]
Change = Callable[[Row, int], None]

HARDWARE = calibrated(run_log_sd=0.01)
STAGES = ("preprocess_s", "encode_s", "prefill_s", "decode_s")
ANCHOR = {"op": "anchor", "gemm_s": 1.0, "stream_s": 1.0, "tiny_s": 1.0}
SLOW = {**ANCHOR, "gemm_s": 2.0}


@pytest.fixture(scope="module")
def cases() -> list[LiveCase]:
    return plan_cases(preset(SMALL), preset(LARGE), HARDWARE, engine(), count=6, dtype="bf16", seed=3)


def _run(case: LiveCase, name: str) -> Row:
    """A run that takes exactly as long as predicted."""
    tokens = case.output_tokens[name]
    workload = Workload(images=(case.image,), prompt_tokens=case.prompt_tokens, output_tokens=tokens)
    latency = predict(preset(name), HARDWARE, engine(), workload).latency
    return {
        "op": "run",
        "case_id": case.case_id,
        "model": name,
        "output_tokens": tokens,
        "cpu_share": 1.0,
        **{stage: getattr(latency, stage).value for stage in STAGES},
    }


def _runs(cases: list[LiveCase], change: Change, *, repeats: int = 3) -> list[Row]:
    """Repeats in turn, each changed as told; totals and token times follow from the stages."""
    rows: list[Row] = [ANCHOR]
    for repeat in range(repeats):
        for case in cases:
            for name in (SMALL, LARGE):
                row = _run(case, name)
                change(row, repeat)
                ttft = sum(row[stage] for stage in STAGES[:3])
                row["ttft_s"], row["total_s"] = ttft, ttft + row["decode_s"]
                row["latency_s"] = row["total_s"]
                row["token_s"] = np.linspace(ttft, row["total_s"], row["output_tokens"]).tolist()
                rows += [row, row.pop("after", ANCHOR)]
    return rows


def _check(cases: list[LiveCase], rows: list[Row], *, interval: float = 0.9) -> Validation:
    return check_runs(
        cases,
        rows,
        small=preset(SMALL),
        large=preset(LARGE),
        hardware=HARDWARE,
        engine=engine(),
        dtype="bf16",
        interval=interval,
    )


def _scaled(**factors: float) -> Change:
    def change(row: Row, _: int) -> None:
        for stage, factor in factors.items():
            row[f"{stage}_s"] *= factor

    return change


def test_exact_runs_pass(cases: list[LiveCase]) -> None:
    result = _check(cases, _runs(cases, _scaled()))
    assert (result.verdict, result.reasons) == ("passed", ())
    assert result.n == 12
    assert result.share_undisturbed == 1.0
    for score in result.stages:
        assert score.mape == pytest.approx(0.0, abs=1e-9)
        assert score.noise_floor == pytest.approx(0.0, abs=1e-9)
        assert score.coverage == 1.0
    assert len(result.break_even) == 6
    for check in result.break_even:
        # Measured by interpolation between two tokens, predicted on a curve that bends slightly.
        assert check.error == pytest.approx(0.0, abs=2e-3)


@pytest.mark.parametrize(
    ("factors", "failing"),
    [
        ({"decode": 1.2}, {"decode"}),
        ({"prefill": 1.25}, {"prefill"}),
        ({"encode": 1.2}, {"encode"}),
        ({"preprocess": 1.4}, {"total"}),
    ],
)
def test_a_stage_that_is_off_fails(cases: list[LiveCase], factors: dict[str, float], failing: set[str]) -> None:
    result = _check(cases, _runs(cases, _scaled(**factors)))
    assert result.verdict == "failed"
    assert {reason.partition(":")[0] for reason in result.reasons} >= failing
    (stage, factor), *_ = factors.items()
    (score,) = (score for score in result.stages if score.stage == stage)
    assert score.mape == pytest.approx(1 - 1 / factor)
    assert score.bias == pytest.approx(1 / factor - 1)


@pytest.mark.parametrize(("factor", "verdict"), [(1.06, "passed"), (1.12, "failed")])
def test_the_whole_request_has_a_limit(cases: list[LiveCase], factor: float, verdict: str) -> None:
    result = _check(
        cases, _runs(cases, _scaled(**dict.fromkeys(("preprocess", "encode", "prefill", "decode"), factor)))
    )
    assert result.verdict == verdict
    assert [reason.partition(":")[0] for reason in result.reasons] == (["total"] if verdict == "failed" else [])


def test_noise_of_the_runs_raises_the_limit(cases: list[LiveCase]) -> None:
    """Runs that differ by a fifth from one another can't show an error of a tenth."""

    def noisy(row: Row, repeat: int) -> None:
        for stage in STAGES:
            row[stage] *= 1.1 * (0.8, 1.0, 1.2)[repeat]

    (total,) = (score for score in _check(cases, _runs(cases, noisy)).stages if score.stage == "total")
    repeats = np.array([0.8, 1.0, 1.2])
    floor = np.mean([abs(x / np.delete(repeats, i).mean() - 1) for i, x in enumerate(repeats)])
    assert total.noise_floor == pytest.approx(floor)
    assert total.limit == pytest.approx(1.5 * floor)
    assert total.mape == pytest.approx(1 - 1 / 1.1)


def test_a_model_that_is_off_moves_the_break_even(cases: list[LiveCase]) -> None:
    def change(row: Row, _: int) -> None:
        if row["model"] == SMALL:
            row["decode_s"] *= 1.5

    result = _check(cases, _runs(cases, change))
    assert len(result.break_even) == 6
    assert any(reason.startswith("break-even: mean error") for reason in result.reasons)
    assert all(check.error > 0.15 for check in result.break_even)


def test_a_break_even_beyond_the_runs_is_not_forgotten(cases: list[LiveCase]) -> None:
    """The small model is so much faster than predicted that its run ends before the large one's."""

    def change(row: Row, _: int) -> None:
        if row["model"] == SMALL:
            row["decode_s"] *= 0.7

    result = _check(cases, _runs(cases, change))
    assert result.verdict == "failed"
    assert "break-even: 6 of 6 lie outside the small model's runs" in result.reasons


def test_none_where_none_was_predicted_is_agreement(cases: list[LiveCase]) -> None:
    """Roles swapped: the "small" model is slower from its first token, in prediction and in the runs."""
    brief = [replace(case, output_tokens={SMALL: 1, LARGE: 8}) for case in cases]
    swapped = check_runs(
        brief,
        _runs(brief, _scaled()),
        small=preset(LARGE),
        large=preset(SMALL),
        hardware=HARDWARE,
        engine=engine(),
        dtype="bf16",
        interval=0.9,
    )
    assert (swapped.verdict, swapped.break_even) == ("passed", ())


def test_disturbed_runs_are_left_out(cases: list[LiveCase]) -> None:
    """Between slow anchors, or with little CPU time, a run may be off by any amount."""

    def change(row: Row, repeat: int) -> None:
        if repeat == 1:
            row["decode_s"] *= 5
            row["cpu_share"] = 0.5
        if repeat == 2 and row["case_id"] == "live-4":
            row["decode_s"] *= 3
            row["after"] = SLOW

    result = _check(cases, _runs(cases, change, repeats=5))
    assert result.verdict == "passed"
    assert all(score.mape < 1e-9 for score in result.stages)
    assert 0.6 < result.share_undisturbed < 0.8
    assert {len(row.repeats_s) for row in result.rows} <= {2, 3, 4}


def test_too_few_undisturbed_runs_are_inconclusive_never_passed(cases: list[LiveCase]) -> None:
    def change(row: Row, repeat: int) -> None:
        if row["model"] == LARGE and repeat > 0:
            row["cpu_share"] = 0.5

    result = _check(cases, _runs(cases, change))
    assert result.verdict == "inconclusive"
    assert result.n == 12, "the figures are shown all the same"
    (reason,) = result.reasons
    assert "6 of 12" in reason
    assert "quieter" in reason
    assert "include disturbed runs" in reason


@pytest.mark.parametrize("rows", [[], [ANCHOR], [ANCHOR, {"op": "stop"}, ANCHOR]], ids=["none", "one", "stop"])
def test_no_runs_are_inconclusive(cases: list[LiveCase], rows: list[Row]) -> None:
    result = _check(cases, rows)
    assert (result.verdict, result.n, result.rows) == ("inconclusive", 0, ())
    assert result.share_undisturbed == 0.0
    assert Validation.model_validate_json(result.model_dump_json()) == result


def test_few_cases_are_inconclusive_even_when_all_count(cases: list[LiveCase]) -> None:
    assert _check(cases[:2], _runs(cases[:2], _scaled())).verdict == "inconclusive"


def test_coverage_counts_what_is_inside_the_interval(cases: list[LiveCase]) -> None:
    rows = _runs(cases, _scaled(decode=1.04))
    wide, narrow = _check(cases, rows, interval=0.99), _check(cases, rows, interval=0.1)
    coverage = [next(score.coverage for score in result.stages if score.stage == "decode") for result in (wide, narrow)]
    assert coverage == [1.0, 0.0]


def test_designed_requests_are_held_out_and_spread() -> None:
    designed = design_cases(12, large_output_tokens=(6, 10), seed=1)
    assert designed == design_cases(12, large_output_tokens=(6, 10), seed=1)
    assert designed != design_cases(12, large_output_tokens=(6, 10), seed=2)
    assert len({case_id for case_id, *_ in designed}) == 12
    assert [tokens for *_, tokens in designed] == [6, 10] * 6
    widths = sorted(image.width for _, image, _, _ in designed)
    assert 200 <= widths[0] < 240
    assert 500 < widths[-1] <= 620
    prompts = sorted(prompt for _, _, prompt, _ in designed)
    assert prompts[0] < 20 < 100 < prompts[-1] <= 200


def test_the_small_model_runs_past_the_break_even(cases: list[LiveCase]) -> None:
    result = _check(cases, _runs(cases, _scaled()))
    for check, case in zip(result.break_even, cases, strict=True):
        assert case.output_tokens[SMALL] > check.predicted.value * 1.2
        assert case.output_tokens[SMALL] >= 8
