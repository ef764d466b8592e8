"""Host costs of an engine from end-to-end runs: what the device's own time does not explain.

A prediction is linear in the host terms (equations 15 and 16), so that the design matrix is made of predictions: one
with all terms zero, and one more for each term. Prediction and fit thereby share one formula.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from costmodel.cases import Case, case_latency
from costmodel.errors import CostModelError, FitError
from costmodel.profiles import Coefficient, EngineProfile, load_hardware
from costmodel.specs.base import Frozen
from costmodel.validation import SkippedCase

__all__ = ["TERMS", "EngineFit", "HoldOut", "Score", "Term", "fit_engine"]

Vector = NDArray[np.float64]
HoldOut = Literal["shapes", "hardware", "model"]

TERMS = ("step_s", "megapixel_s", "image_s", "request_s")
"""Host terms that a prediction is linear in."""

# Share of a term's column that the terms taken before it must leave unexplained for it to be fitted.
_LEAST_NEW = 1e-3
_NEARLY_ONE = 0.95
_LEAST_GROUPS = 3


class Term(Frozen):
    """One host term after the fit.

    Attributes
    ----------
    fitted
        Whether the data determine it; if not, it is what it was before.
    note
        Why it was kept, or what it is hard to tell from.
    """

    name: str
    coefficient: Coefficient
    fitted: bool
    note: str = ""


class Score(Frozen):
    """Errors of runs that the terms were not fitted on, relative to the measured time."""

    group: str
    n: int
    mape: float
    median_ape: float
    worst_ape: float
    bias: float


class EngineFit(Frozen):
    """A fitted engine, and how far it can be trusted.

    Attributes
    ----------
    rows
        Measured stages that the fit used.
    mape
        Of those rows.
    held_out
        Scores of rows predicted by terms that were fitted without them: all, then by hardware and quantisation.
    """

    schema_version: int = 1
    engine: EngineProfile
    terms: tuple[Term, ...]
    rows: int
    mape: float
    hold_out: HoldOut
    held_out: tuple[Score, ...]
    skipped: tuple[SkippedCase, ...] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    case: Case
    measured_s: float
    base_s: float
    slopes: Vector

    @property
    def group(self) -> str:
        return f"{self.case.hardware} {self.case.quantization}"


def fit_engine(
    cases: Sequence[Case], start: EngineProfile, *, hardware: str | None = None, hold_out: HoldOut = "shapes"
) -> EngineFit:
    """Fit the host terms of an engine.

    Parameters
    ----------
    cases
        Runs, of one engine.
    start
        Engine whose other properties, and whose terms where the data determine none, are kept.
    hardware
        Profile to use for all cases instead of the one that each names.
    hold_out
        What is left out in turn for the check: half of the shapes, one device, or one model.

    Raises
    ------
    FitError
        If no case can be predicted, or none of the terms is determined.
    """
    rows, skipped = _design(cases, start, hardware)
    if not rows:
        reason = f": {skipped[0].reason}" if skipped else ""
        raise FitError(f"none of {len(cases)} case(s) can be predicted{reason}")
    solution = _solve(rows, start)
    if not solution.active:
        raise FitError("the runs determine none of the host terms; expected runs of several output lengths or images")
    stderr = _stderr(rows, start, solution)
    terms = tuple(_term(name, start, solution, stderr) for name in TERMS)
    engine = start.model_copy(update={term.name: term.coefficient for term in terms})
    return EngineFit(
        engine=engine,
        terms=terms,
        rows=len(rows),
        mape=float(np.mean(np.abs(_errors(rows, solution.values)))),
        hold_out=hold_out,
        held_out=_held_out(rows, start, hold_out),
        skipped=tuple(skipped),
    )


def _design(cases: Sequence[Case], start: EngineProfile, hardware: str | None) -> tuple[list[_Row], list[SkippedCase]]:
    nothing = Coefficient(value=0.0, stderr=0.0, source="assumed")
    second = nothing.model_copy(update={"value": 1.0})
    bare = start.model_copy(update=dict.fromkeys(TERMS, nothing))
    engines = [bare, *(bare.model_copy(update={name: second}) for name in TERMS)]
    rows: list[_Row] = []
    skipped: list[SkippedCase] = []
    for case in cases:
        try:
            device = load_hardware(hardware or case.hardware)
            latencies = [case_latency(case, device, engine) for engine in engines]
        except CostModelError as error:
            skipped.append(SkippedCase(case_id=case.case_id, reason=str(error)))
            continue
        for stage, measured_s in _independent_stages(case.measured_s).items():
            base, *slopes = (float(getattr(latency, f"{stage}_s").value) for latency in latencies)
            rows.append(_Row(case, measured_s, base, np.array(slopes) - base))
    return rows, skipped


def _independent_stages(measured_s: Mapping[str, float]) -> dict[str, float]:
    """Stages that took time; a total is left out where its two parts are there."""
    found = {stage: time_s for stage, time_s in measured_s.items() if time_s > 0}
    if "ttft" in found and ("tpot" in found or "decode" in found):
        found.pop("total", None)
    return found


@dataclass(frozen=True, slots=True)
class _Solution:
    """Values of all terms, which of them are fitted, and their covariance (fitted ones only)."""

    values: Vector
    active: tuple[int, ...]
    covariance: Vector


def _solve(rows: Sequence[_Row], start: EngineProfile) -> _Solution:
    """Non-negative least squares on the relative error."""
    measured = np.array([row.measured_s for row in rows])
    design = np.array([row.slopes for row in rows]) / measured[:, None]
    values = np.array([getattr(start, name).value for name in TERMS], dtype=np.float64)
    known = np.array([getattr(start, name).stderr for name in TERMS])
    active = _told_apart(design, known)
    kept = [index for index in range(len(TERMS)) if index not in active]
    target = 1 - np.array([row.base_s for row in rows]) / measured - design[:, kept] @ values[kept]
    if not active:
        return _Solution(values, (), np.zeros((0, 0)))
    chosen = design[:, list(active)]
    scale = np.linalg.norm(chosen, axis=0)
    solution, _ = nnls(chosen / scale, target)
    values[list(active)] = solution / scale
    residual = chosen @ values[list(active)] - target
    variance = float(residual @ residual) / max(len(rows) - len(active), 1)
    covariance = np.linalg.pinv((chosen / scale).T @ (chosen / scale)) * variance / np.outer(scale, scale)
    return _Solution(values, active, np.asarray(covariance, dtype=np.float64))


def _told_apart(design: Vector, known: Vector) -> tuple[int, ...]:
    """Terms whose column is more than a mixture of others; where that leaves a choice, those known least so far."""
    lengths = np.linalg.norm(design, axis=0)
    basis: list[Vector] = []
    active: list[int] = []
    for index in np.argsort(-lengths * known, kind="stable").tolist():
        column = design[:, index]
        rest = column - sum((axis * float(axis @ column) for axis in basis), start=np.zeros(len(column)))
        left = float(np.linalg.norm(rest))
        if lengths[index] > 0 and left > _LEAST_NEW * lengths[index] and len(active) < len(column):
            basis.append(rest / left)
            active.append(index)
    return tuple(active)


def _stderr(rows: Sequence[_Row], start: EngineProfile, solution: _Solution) -> Vector:
    """Standard errors: the larger of those of the residuals and of leaving out one model on one device at a time.

    The error of the kernels is shared by all runs of a model on a device: residuals alone would hide it.
    """
    plain = np.zeros(len(TERMS))
    plain[list(solution.active)] = np.sqrt(np.diag(solution.covariance))
    groups = sorted({(row.group, row.case.model) for row in rows})
    if len(groups) < _LEAST_GROUPS:
        return plain
    without = np.array(
        [_solve([row for row in rows if (row.group, row.case.model) != group], start).values for group in groups]
    )
    spread = np.sum((without - without.mean(axis=0)) ** 2, axis=0) * (len(groups) - 1) / len(groups)
    return np.asarray(np.maximum(plain, np.sqrt(spread)), dtype=np.float64)


def _term(name: str, start: EngineProfile, solution: _Solution, stderr: Vector) -> Term:
    index = TERMS.index(name)
    if index not in solution.active:
        mixed = " and ".join(TERMS[i] for i in solution.active)
        note = f"the runs can't tell it from {mixed}; kept as it was"
        return Term(name=name, coefficient=getattr(start, name), fitted=False, note=note)
    value = Coefficient(value=float(solution.values[index]), stderr=float(stderr[index]), source="fitted")
    return Term(name=name, coefficient=value, fitted=True, note=_hard_to_tell(index, solution))


def _hard_to_tell(index: int, solution: _Solution) -> str:
    position = solution.active.index(index)
    sd = np.sqrt(np.diag(solution.covariance))
    correlation = solution.covariance[position] / np.maximum(sd * sd[position], np.finfo(float).tiny)
    partners = [
        f"{TERMS[other]} ({correlation[i]:+.2f})"
        for i, other in enumerate(solution.active)
        if other != index and abs(correlation[i]) > _NEARLY_ONE
    ]
    notes = [f"hard to tell from {', '.join(partners)}"] if partners else []
    if solution.values[index] == 0:
        notes.append("at its bound: the device's time alone explains the runs")
    return "; ".join(notes)


def _errors(rows: Sequence[_Row], values: Vector) -> Vector:
    """Predicted / measured - 1."""
    return np.array([(row.base_s + float(row.slopes @ values)) / row.measured_s - 1 for row in rows])


def _held_out(rows: Sequence[_Row], start: EngineProfile, hold_out: HoldOut) -> tuple[Score, ...]:
    """Scores of every row by a fit without its part; empty where there is only one part."""
    part_of = _parts(rows, hold_out)
    parts = sorted({part_of(row) for row in rows})
    if len(parts) < 2:
        return ()
    found: list[tuple[_Row, float]] = []
    for part in parts:
        others = [row for row in rows if part_of(row) != part]
        left_out = [row for row in rows if part_of(row) == part]
        errors = _errors(left_out, _solve(others, start).values)
        found += zip(left_out, errors.tolist(), strict=True)
    groups = sorted({row.group for row, _ in found})
    scores = [_score("all", [error for _, error in found])]
    if len(groups) > 1:
        scores += [_score(group, [error for row, error in found if row.group == group]) for group in groups]
    return tuple(scores)


def _parts(rows: Sequence[_Row], hold_out: HoldOut) -> Callable[[_Row], str]:
    if hold_out == "hardware":
        return lambda row: row.case.hardware
    if hold_out == "model":
        return lambda row: row.case.model
    shapes = sorted({_shape(row.case) for row in rows})
    # In order, every other shape would have the same output length.
    random.Random(0).shuffle(shapes)
    half = {shape: str(index % 2) for index, shape in enumerate(shapes)}
    return lambda row: half[_shape(row.case)]


def _shape(case: Case) -> tuple[str, int, int, int]:
    request = case.workload
    return ";".join(map(str, request.images)), request.prompt_tokens, request.output_tokens, request.batch


def _score(group: str, errors: Sequence[float]) -> Score:
    sizes = np.abs(errors)
    return Score(
        group=group,
        n=len(sizes),
        mape=float(sizes.mean()),
        median_ape=float(np.median(sizes)),
        worst_ape=float(sizes.max()),
        bias=float(np.mean(errors)),
    )
