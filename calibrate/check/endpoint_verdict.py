"""Predicted against measured requests to an endpoint: held-out lengths, and closed loops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from calibrate.check.endpoint_load import MeasuredLoop
from calibrate.check.endpoint_runs import MeasuredCase
from costmodel.load import predict_load
from costmodel.predict import predict
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.model import ModelSpec
from costmodel.validation import StageScore, Validation, ValidationRow, overall, row_of, score_stage

__all__ = ["Against", "check_endpoint", "check_loops"]

Verdict = Literal["passed", "failed", "inconclusive"]

_LEAST_CASES = 5
_LEAST_LOOPS = 2
_TOTAL_LIMIT, _NOISE_FACTOR = 0.10, 1.5
# Repeats that differ by more than this show nothing.
_MOST_NOISE = 0.20
_STAGES = ("ttft", "decode", "total")
_LOOP_STAGES = ("ttft", "tpot", "total")


@dataclass(frozen=True, slots=True)
class Against:
    """What requests are compared with, and how they were disturbed.

    Attributes
    ----------
    max_error
        Largest mean error of whole requests that passes; not given: 10 %, or one and a half times the noise.
    share_undisturbed, enough_undisturbed
        As :class:`~calibrate.check.endpoint_guard.Kept` has them.
    """

    model: ModelSpec
    hardware: HardwareProfile
    engine: EngineProfile
    dtype: str
    interval: float = 0.9
    max_error: float | None = None
    share_undisturbed: float | None = None
    enough_undisturbed: bool = True

    def validation(self, rows: Sequence[ValidationRow], stages: Sequence[str], least: int, what: str) -> Validation:
        """Scores by stage and the verdict on whole requests; at least so many cases say something."""
        scores = [score_stage(stage, found, limit=None) for stage in stages if (found := _of(rows, stage))]
        whole = next((score for score in scores if score.stage == "total"), None)
        verdict, reasons, limit = self._verdict(whole, least, what)
        return Validation(
            hardware=self.hardware.key,
            engine=self.engine.key,
            dtype=self.dtype,
            interval=self.interval,
            n=whole.n if whole else 0,
            **overall(rows),
            share_undisturbed=self.share_undisturbed,
            verdict=verdict,
            reasons=reasons,
            stages=tuple(s.model_copy(update={"limit": limit}) if s.stage == "total" else s for s in scores),
            rows=tuple(rows),
        )

    def _verdict(
        self, whole: StageScore | None, least: int, what: str
    ) -> tuple[Verdict, tuple[str, ...], float | None]:
        if whole is None or whole.n < least:
            return "inconclusive", (f"{whole.n if whole else 0} {what}, expected {least} or more",), None
        limit = self.max_error
        if limit is None:
            limit = max(_TOTAL_LIMIT, _NOISE_FACTOR * whole.noise_floor)
        if not self.enough_undisturbed:
            reason = "too few runs were undisturbed: run again on a quieter machine; the figures include disturbed runs"
            return "inconclusive", (reason,), limit
        if whole.noise_floor > _MOST_NOISE:
            differ = f"repeats of one request differ by {whole.noise_floor:.0%}"
            return "inconclusive", (f"{differ}: run again on a quieter machine or with more",), limit
        if whole.mape > limit:
            return "failed", (f"total: mean error {whole.mape:.1%} is above {limit:.1%}",), limit
        return "passed", (), limit


def check_endpoint(cases: Sequence[MeasuredCase], against: Against) -> Validation:
    """Compare predictions with the requests held out; the noise of the repeats stands beside the error."""
    rows: list[ValidationRow] = []
    for case in cases:
        if not case.held_out:
            continue
        latency = predict(
            against.model,
            against.hardware,
            against.engine,
            case.workload,
            dtype=against.dtype,
            interval=against.interval,
        ).latency
        for stage in _STAGES:
            repeats = getattr(case, f"{stage}_s")
            if min(repeats) > 0:
                rows.append(row_of(case.case_id, against.model.name, stage, repeats, getattr(latency, f"{stage}_s")))
    return against.validation(rows, _STAGES, _LEAST_CASES, "requests held out")


def check_loops(loops: Sequence[MeasuredLoop], against: Against, *, slots: int | None = None) -> Validation:
    """Compare the steady state with loops of several clients.

    Parameters
    ----------
    slots
        Of the server, where not those of the engine's profile.
    """
    rows: list[ValidationRow] = []
    for loop in loops:
        (point,) = predict_load(
            against.model,
            against.hardware,
            against.engine,
            loop.workload,
            concurrency=[loop.clients],
            dtype=against.dtype,
            slots=slots,
            interval=against.interval,
        ).points
        name = f"{loop.clients} clients"
        for stage in _LOOP_STAGES:
            times_s = getattr(loop, f"{stage}_s")
            rows.append(row_of(f"{loop.name}", name, stage, times_s, getattr(point, f"{stage}_s")))
    return against.validation(rows, _LOOP_STAGES, _LEAST_LOOPS, "loops")


def _of(rows: Sequence[ValidationRow], stage: str) -> tuple[ValidationRow, ...]:
    return tuple(row for row in rows if row.stage == stage)
