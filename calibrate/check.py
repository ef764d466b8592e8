"""Predicted against measured: scores the rows of live runs and says whether they pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from calibrate.live_runs import LEAST_QUIET_REPEATS, LiveCase
from calibrate.samples import quiet_flags, share_quiet
from costmodel.breakeven import break_even
from costmodel.predict import predict
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload
from costmodel.validation import (
    BreakEvenCheck,
    StageScore,
    Validation,
    ValidationRow,
    overall,
    row_of,
    score_stage,
)

__all__ = ["check_runs"]

Rows = Sequence[Mapping[str, Any]]

_LIVE_STAGES = ("preprocess", "encode", "prefill", "decode", "total")

# Largest mean absolute relative error that passes; the whole request may also be within the noise of the runs.
_LIMITS = {"encode": 0.12, "prefill": 0.15, "decode": 0.12}
_TOTAL_LIMIT, _NOISE_FACTOR = 0.08, 1.5
_BREAK_EVEN_LIMIT = 0.15
# Share of the cases that must have enough undisturbed repeats before anything is said.
_LEAST_SHARE_OF_CASES = 0.8
_LEAST_CASES = 5


def check_runs(
    cases: Sequence[LiveCase],
    rows: Rows,
    *,
    small: ModelSpec,
    large: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    dtype: str,
    interval: float,
) -> Validation:
    """Compare the undisturbed runs with predictions, stage by stage, and the break-even of every case."""
    quiet = [row for row, flag in zip(rows, quiet_flags(rows), strict=True) if flag and row["op"] == "run"]
    by_case: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row in quiet:
        by_case[row["case_id"], row["model"]].append(row)
    specs = {spec.name: spec for spec in (small, large)}
    wanted = len(cases) * len(specs)
    kept = {key: runs for key, runs in by_case.items() if len(runs) >= LEAST_QUIET_REPEATS}
    table: list[ValidationRow] = []
    for case in cases:
        for name, spec in specs.items():
            runs = kept.get((case.case_id, name))
            if runs:
                table += _case_rows(case, spec, runs, hardware, engine, dtype, interval)
    checks = [
        check
        for case in cases
        if (check := _break_even(case, kept, small, large, hardware, engine, dtype, interval)) is not None
    ]
    scores = tuple(_score(stage, table) for stage in _LIVE_STAGES if any(row.stage == stage for row in table))
    verdict, reasons = _verdict(scores, checks, len(kept), wanted)
    return Validation(
        hardware=hardware.key,
        engine=engine.key,
        dtype=dtype,
        interval=interval,
        n=len(kept),
        **overall(table),
        share_undisturbed=share_quiet(rows),
        verdict=verdict,
        reasons=reasons,
        stages=scores,
        rows=tuple(table),
        break_even=tuple(checks),
    )


def _request(case: LiveCase, output_tokens: int) -> Workload:
    return Workload(images=(case.image,), prompt_tokens=case.prompt_tokens, output_tokens=output_tokens)


def _case_rows(
    case: LiveCase,
    spec: ModelSpec,
    runs: Sequence[Mapping[str, Any]],
    hardware: HardwareProfile,
    engine: EngineProfile,
    dtype: str,
    interval: float,
) -> list[ValidationRow]:
    workload = _request(case, case.output_tokens[spec.name])
    latency = predict(spec, hardware, engine, workload, dtype=dtype, interval=interval).latency
    rows = []
    for stage in _LIVE_STAGES:
        repeats = tuple(float(run[f"{stage}_s"]) for run in runs)
        if sum(repeats) > 0:
            rows.append(row_of(case.case_id, spec.name, stage, repeats, getattr(latency, f"{stage}_s")))
    return rows


def _score(stage: str, table: Sequence[ValidationRow]) -> StageScore:
    rows = tuple(row for row in table if row.stage == stage)
    limit = _LIMITS.get(stage)
    score = score_stage(stage, rows, limit=limit)
    if stage == "total":
        limit = max(_TOTAL_LIMIT, _NOISE_FACTOR * score.noise_floor)
        score = score.model_copy(update={"limit": limit})
    return score


def _break_even(
    case: LiveCase,
    kept: Mapping[tuple[str, str], Sequence[Mapping[str, Any]]],
    small: ModelSpec,
    large: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    dtype: str,
    interval: float,
) -> BreakEvenCheck | None:
    """The length at which the small model's mean token times reach the large model's mean total."""
    small_runs, large_runs = kept.get((case.case_id, small.name)), kept.get((case.case_id, large.name))
    if not small_runs or not large_runs:
        return None
    tokens = case.output_tokens[large.name]
    target = float(np.mean([run["total_s"] for run in large_runs]))
    times = np.mean([run["token_s"] for run in small_runs], axis=0)
    if not times[0] < target < times[-1]:
        return None
    measured = float(np.interp(target, times, np.arange(1, len(times) + 1)))
    result = break_even(
        small,
        large,
        hardware,
        engine,
        _request(case, 1),
        large_output_tokens=tokens,
        dtype=dtype,
        interval=interval,
    )
    predicted = result.break_even_output_tokens
    if predicted is None:
        return None
    return BreakEvenCheck(
        case_id=case.case_id,
        large_output_tokens=tokens,
        predicted=predicted,
        measured_output_tokens=measured,
        error=predicted.value / measured - 1,
    )


def _verdict(
    scores: Sequence[StageScore], checks: Sequence[BreakEvenCheck], kept: int, wanted: int
) -> tuple[Literal["passed", "failed", "inconclusive"], tuple[str, ...]]:
    if kept < max(_LEAST_CASES, _LEAST_SHARE_OF_CASES * wanted):
        return "inconclusive", (
            f"{kept} of {wanted} cases had {LEAST_QUIET_REPEATS} undisturbed repeats, expected "
            f"{_LEAST_SHARE_OF_CASES:.0%}: run again on a quieter machine or with more repeats",
        )
    reasons = [
        f"{score.stage}: mean error {score.mape:.1%} is above {score.limit:.1%}"
        for score in scores
        if score.limit is not None and score.mape > score.limit
    ]
    if checks:
        error = float(np.mean([abs(check.error) for check in checks]))
        if error > _BREAK_EVEN_LIMIT:
            reasons.append(f"break-even: mean error {error:.1%} is above {_BREAK_EVEN_LIMIT:.0%}")
    return ("failed" if reasons else "passed"), tuple(reasons)
