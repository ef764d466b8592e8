"""Predicted against measured: scores the rows of live runs and says whether they pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from calibrate.check.runs import LEAST_QUIET_REPEATS, LiveCase
from calibrate.measure.samples import quiet_flags, share_quiet
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
Runs = Mapping[tuple[str, str], Sequence[Mapping[str, Any]]]

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
    """Compare the undisturbed runs with predictions, stage by stage, and the break-even of every case.

    Where too few runs were undisturbed to judge, all of them are compared, and the verdict is inconclusive.
    """
    against = _Against(small, large, hardware, engine, dtype, interval)
    wanted = len(cases) * 2
    quiet = _by_case(rows, quiet_flags(rows))
    enough = len(quiet) >= max(_LEAST_CASES, _LEAST_SHARE_OF_CASES * wanted)
    runs = quiet if enough else _by_case(rows, [True] * len(rows))
    table = [row for case in cases for row in against.rows(case, runs)]
    crossings = [against.break_even(case, runs) for case in cases]
    checks = tuple(crossing for crossing in crossings if isinstance(crossing, BreakEvenCheck))
    scores = tuple(_score(stage, table) for stage in _LIVE_STAGES if any(row.stage == stage for row in table))
    missed = crossings.count("missed")
    verdict, reasons = _verdict(scores, checks, missed) if enough else _undecided(len(quiet), wanted)
    return Validation(
        hardware=hardware.key,
        engine=engine.key,
        dtype=dtype,
        interval=interval,
        n=len(runs),
        **overall(table),
        share_undisturbed=share_quiet(rows),
        verdict=verdict,
        reasons=reasons,
        stages=scores,
        rows=tuple(table),
        break_even=checks,
    )


def _by_case(rows: Rows, flags: Sequence[bool]) -> Runs:
    """Runs that count, by case and model; those with too few repeats are left out."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for row, flag in zip(rows, flags, strict=True):
        if flag and row.get("op") == "run":
            found[row["case_id"], row["model"]].append(row)
    return {key: runs for key, runs in found.items() if len(runs) >= LEAST_QUIET_REPEATS}


@dataclass(frozen=True, slots=True)
class _Against:
    """What the runs are compared with."""

    small: ModelSpec
    large: ModelSpec
    hardware: HardwareProfile
    engine: EngineProfile
    dtype: str
    interval: float

    def rows(self, case: LiveCase, runs: Runs) -> list[ValidationRow]:
        """Stages of both models in one case."""
        found = []
        for spec in (self.small, self.large):
            repeats = runs.get((case.case_id, spec.name), ())
            if not repeats:
                continue
            workload = _request(case, case.output_tokens[spec.name])
            latency = predict(
                spec, self.hardware, self.engine, workload, dtype=self.dtype, interval=self.interval
            ).latency
            for stage in _LIVE_STAGES:
                times_s = tuple(float(run[f"{stage}_s"]) for run in repeats)
                if sum(times_s) > 0:
                    found.append(row_of(case.case_id, spec.name, stage, times_s, getattr(latency, f"{stage}_s")))
        return found

    def break_even(self, case: LiveCase, runs: Runs) -> BreakEvenCheck | Literal["missed"] | None:
        """The length at which the small model's mean token times reach the large model's mean total.

        Nothing where there is none, as predicted; ``missed`` where only one of the two, prediction or run, has one.
        """
        small_runs = runs.get((case.case_id, self.small.name), ())
        large_runs = runs.get((case.case_id, self.large.name), ())
        if not small_runs or not large_runs:
            return None
        tokens = case.output_tokens[self.large.name]
        target_s = float(np.mean([run["total_s"] for run in large_runs]))
        token_s = np.mean([run["token_s"] for run in small_runs], axis=0)
        predicted = break_even(
            self.small,
            self.large,
            self.hardware,
            self.engine,
            _request(case, 1),
            large_output_tokens=tokens,
            dtype=self.dtype,
            interval=self.interval,
        ).break_even_output_tokens
        if predicted is None:
            return None if token_s[0] >= target_s else "missed"
        if not token_s[0] < target_s < token_s[-1]:
            return "missed"
        measured = float(np.interp(target_s, token_s, np.arange(1, len(token_s) + 1)))
        return BreakEvenCheck(
            case_id=case.case_id,
            large_output_tokens=tokens,
            predicted=predicted,
            measured_output_tokens=measured,
            error=predicted.value / measured - 1,
        )


def _request(case: LiveCase, output_tokens: int) -> Workload:
    return Workload(images=(case.image,), prompt_tokens=case.prompt_tokens, output_tokens=output_tokens)


def _score(stage: str, table: Sequence[ValidationRow]) -> StageScore:
    rows = tuple(row for row in table if row.stage == stage)
    limit = _LIMITS.get(stage)
    score = score_stage(stage, rows, limit=limit)
    if stage == "total":
        limit = max(_TOTAL_LIMIT, _NOISE_FACTOR * score.noise_floor)
        score = score.model_copy(update={"limit": limit})
    return score


def _undecided(quiet: int, wanted: int) -> tuple[Literal["inconclusive"], tuple[str, ...]]:
    return "inconclusive", (
        f"{quiet} of {wanted} cases had {LEAST_QUIET_REPEATS} undisturbed repeats, expected "
        f"{_LEAST_SHARE_OF_CASES:.0%}: run again on a quieter machine; the figures include disturbed runs",
    )


def _verdict(
    scores: Sequence[StageScore], checks: Sequence[BreakEvenCheck], missed: int
) -> tuple[Literal["passed", "failed"], tuple[str, ...]]:
    reasons = [
        f"{score.stage}: mean error {score.mape:.1%} is above {score.limit:.1%}"
        for score in scores
        if score.limit is not None and score.mape > score.limit
    ]
    if checks:
        error = float(np.mean([abs(check.error) for check in checks]))
        if error > _BREAK_EVEN_LIMIT:
            reasons.append(f"break-even: mean error {error:.1%} is above {_BREAK_EVEN_LIMIT:.0%}")
    if missed > (1 - _LEAST_SHARE_OF_CASES) * (len(checks) + missed):
        reasons.append(f"break-even: {missed} of {len(checks) + missed} lie outside the small model's runs")
    return ("failed" if reasons else "passed"), tuple(reasons)
