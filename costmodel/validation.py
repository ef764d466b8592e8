"""Predicted against measured: the data of a validation, and its statistics.

Measuring is the business of :mod:`calibrate`; this is what comes out of it, as plain data for tables and figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from costmodel.quantity import Quantity
from costmodel.specs.base import Frozen, Shown

__all__ = [
    "STAGES",
    "BreakEvenCheck",
    "SkippedCase",
    "StageScore",
    "Validation",
    "ValidationRow",
    "overall",
    "row_of",
    "score_stage",
]

STAGES = ("preprocess", "encode", "prefill", "decode", "ttft", "tpot", "total")


class ValidationRow(Frozen):
    """One stage of one case.

    Attributes
    ----------
    measured_s
        Mean over the undisturbed repeats.
    repeats_s
        Those repeats.
    error
        predicted / measured - 1.
    """

    case_id: str
    model: str
    stage: str
    measured_s: float
    repeats_s: tuple[float, ...]
    predicted: Quantity
    error: float


class StageScore(Frozen):
    """Errors of one stage over all cases, relative to the measured time.

    Attributes
    ----------
    noise_floor
        Mean relative distance of a repeat from the mean of the others: what a perfect prediction would score against
        single runs.
    coverage
        Share of cases inside the interval; ``mean_half_width`` is that interval's mean relative half-width.
    limit
        Largest ``mape`` that counts as passed.
    """

    stage: str
    n: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float
    coverage: float
    mean_half_width: float
    noise_floor: float
    limit: float | None


class BreakEvenCheck(Frozen):
    """Predicted and measured break-even of one request."""

    case_id: str
    large_output_tokens: int
    predicted: Quantity
    measured_output_tokens: float
    error: float


class SkippedCase(Frozen):
    """A case that could not be predicted, and why."""

    case_id: str
    reason: str


class Validation(Shown):
    """What ``costmodel validate --format json`` prints.

    Attributes
    ----------
    n, mape, median_ape, p90_ape, bias, coverage
        Of whole requests; of all stages together where no case has a total.
    share_undisturbed
        Of live runs; ``None`` for a table of cases.
    verdict
        ``unjudged`` where no limit was given.
    """

    schema_version: int = 1
    hardware: str
    engine: str
    dtype: str
    interval: float
    n: int
    mape: float | None
    median_ape: float | None
    p90_ape: float | None
    bias: float | None
    coverage: float | None
    share_undisturbed: float | None
    verdict: Literal["passed", "failed", "inconclusive", "unjudged"]
    reasons: tuple[str, ...]
    stages: tuple[StageScore, ...]
    rows: tuple[ValidationRow, ...]
    break_even: tuple[BreakEvenCheck, ...] = ()
    skipped: tuple[SkippedCase, ...] = ()


def row_of(case_id: str, model: str, stage: str, repeats_s: tuple[float, ...], predicted: Quantity) -> ValidationRow:
    """One stage of one case, from its measured repeats (seconds)."""
    measured = sum(repeats_s) / len(repeats_s)
    return ValidationRow(
        case_id=case_id,
        model=model,
        stage=stage,
        measured_s=measured,
        repeats_s=repeats_s,
        predicted=predicted,
        error=predicted.value / measured - 1,
    )


def overall(rows: Sequence[ValidationRow]) -> dict[str, float | None]:
    """The fields of a :class:`Validation` that sum it up."""
    chosen = tuple(row for row in rows if row.stage == "total") or tuple(rows)
    names = ("mape", "median_ape", "p90_ape", "bias", "coverage")
    if not chosen:
        return dict.fromkeys(names)
    score = score_stage("total", chosen, limit=None)
    return {name: getattr(score, name) for name in names}


def score_stage(stage: str, rows: tuple[ValidationRow, ...], *, limit: float | None) -> StageScore:
    """Statistics of one stage; cases where it took no time (no image: no encoder) are left out."""
    errors = np.array([row.error for row in rows])
    inside = [row.predicted.low <= row.measured_s <= row.predicted.high for row in rows]
    widths = [(row.predicted.high - row.predicted.low) / (2 * row.predicted.value) for row in rows]
    return StageScore(
        stage=stage,
        n=len(rows),
        mape=float(np.mean(np.abs(errors))),
        median_ape=float(np.median(np.abs(errors))),
        p90_ape=float(np.percentile(np.abs(errors), 90)),
        bias=float(np.mean(errors)),
        coverage=float(np.mean(inside)),
        mean_half_width=float(np.mean(widths)),
        noise_floor=_noise_floor(rows),
        limit=limit,
    )


def _noise_floor(rows: tuple[ValidationRow, ...]) -> float:
    distances = []
    for row in rows:
        repeats = np.array(row.repeats_s)
        if len(repeats) < 2:
            continue
        others = (repeats.sum() - repeats) / (len(repeats) - 1)
        distances += list(np.abs(repeats / others - 1))
    return float(np.mean(distances)) if distances else 0.0
