"""An engine from end-to-end runs: host costs, and how well its kernels use each device.

What whole requests cost beyond the operators that were timed alone. Predictions themselves are the model that is fitted
(see :mod:`calibrate.fit.engine_solve`), so that prediction and fit share one formula.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibrate.fit.engine_solve import Row, Solution, design_rows, errors_of, solve
from calibrate.fit.engine_terms import HOST_TERMS, pooled, unlearned, with_coefficients, with_positions
from costmodel.cases import Case
from costmodel.errors import CostModelError, FitError
from costmodel.laws import law_named
from costmodel.profiles import Coefficient, EngineProfile, LawFit, load_hardware
from costmodel.specs.base import Frozen
from costmodel.validation import SkippedCase

__all__ = ["TERMS", "EngineFit", "HoldOut", "Score", "Term", "fit_engine", "halves_of"]

Vector = NDArray[np.float64]
HoldOut = Literal["shapes", "hardware", "model", "none"]

TERMS = HOST_TERMS

_NEARLY_ONE = 0.95
_LEAST_GROUPS = 3
# A prior is all there is to a coefficient that the runs narrow down to no less than this share.
_DETERMINED = 0.9


class Term(Frozen):
    """One number after the fit.

    Attributes
    ----------
    fitted
        Whether the runs determine it; if not, it is what it was before.
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
    terms
        Host terms, then those of kernels: values and standard errors.
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


def fit_engine(
    cases: Sequence[Case],
    start: EngineProfile,
    *,
    hardware: str | None = None,
    hold_out: HoldOut = "shapes",
    kernels: bool = False,
    relearn: bool = False,
) -> EngineFit:
    """Fit an engine.

    Parameters
    ----------
    cases
        Runs, of one engine.
    start
        Engine whose other properties, and whose terms where the data determine none, are kept.
    hardware
        Profile to use for all cases instead of the one that each names.
    hold_out
        What is left out in turn for the check: half of the shapes, one device, one model, or nothing.
    kernels
        Whether to fit, beside the host terms, how well the engine's GEMMs use each device.
    relearn
        Whether the engine's own kernels start from their laws' assumptions, not from what other devices showed.

    Raises
    ------
    FitError
        If no case can be predicted, or none of the terms is determined.
    """
    if relearn:
        start = unlearned(start)
    if kernels:
        start = _forget(start, {hardware or case.hardware for case in cases})
    found, skipped = _rows(cases, start, hardware)
    if not found:
        reason = f": {skipped[0].reason}" if skipped else ""
        raise FitError(f"none of {len(cases)} case(s) can be predicted{reason}")
    solution = solve(found, start, kernels=kernels)
    if not any(solution.free[index].use is None for index in solution.active):
        raise FitError("the runs determine none of the host terms; expected runs of several output lengths or images")
    stderr = _stderr(found, solution)
    terms = tuple(_term(index, start, solution, stderr) for index in range(len(solution.free)))
    engine = with_coefficients(start, solution.free, [term.coefficient for term in terms])
    return EngineFit(
        engine=pooled(_with_spread(engine, found, solution, stderr)),
        terms=terms,
        rows=len(found),
        mape=float(np.mean(np.abs(solution.errors))),
        hold_out=hold_out,
        held_out=_held_out(found, start, hold_out, kernels=kernels),
        skipped=tuple(skipped),
    )


def _forget(start: EngineProfile, devices: set[str]) -> EngineProfile:
    """Without what earlier runs showed of these devices: these runs may be the same."""
    kept = {key: laws for key, laws in start.device_kernels.items() if key not in devices}
    return start.model_copy(update={"device_kernels": kept})


def _rows(cases: Sequence[Case], start: EngineProfile, hardware: str | None) -> tuple[list[Row], list[SkippedCase]]:
    rows: list[Row] = []
    skipped: list[SkippedCase] = []
    for case in cases:
        try:
            rows += design_rows(case, load_hardware(hardware or case.hardware), start)
        except CostModelError as error:
            skipped.append(SkippedCase(case_id=case.case_id, reason=str(error)))
    return rows, skipped


def _stderr(rows: Sequence[Row], solution: Solution) -> Vector:
    """Standard errors: the larger of those of the residuals and of leaving out one model on one device at a time.

    The error of the kernels is shared by all runs of a model on a device: residuals alone would hide it.
    """
    plain = np.zeros(len(solution.free))
    plain[list(solution.active)] = np.sqrt(np.diag(solution.covariance()))
    label = [(row.group, row.case.model) for row in rows]
    groups = sorted(set(label))
    if len(groups) < _LEAST_GROUPS:
        return plain
    without = np.array([solution.without(np.array([each == group for each in label])) for group in groups])
    spread = np.sum((without - without.mean(axis=0)) ** 2, axis=0) * (len(groups) - 1) / len(groups)
    return np.asarray(np.maximum(plain, np.sqrt(spread)), dtype=np.float64)


def _term(index: int, start: EngineProfile, solution: Solution, stderr: Vector) -> Term:
    free = solution.free[index]
    if index not in solution.active:
        mixed = " and ".join(solution.free[i].name for i in solution.active if solution.free[i].use is None)
        note = f"the runs can't tell it from {mixed}; kept as it was"
        return Term(name=free.name, coefficient=getattr(start, free.field), fitted=False, note=note)
    position, sd = float(solution.positions[index]), float(stderr[index])
    determined = sd < _DETERMINED * free.prior_sd
    value = free.coefficient(position, min(sd, free.prior_sd), "fitted" if determined else "assumed")
    notes = _hard_to_tell(index, solution)
    if not determined:
        notes.append("the runs say no more than was assumed")
    if position <= free.low:
        notes.append("at its bound: the device's time alone explains the runs" if free.use is None else "at its bound")
    return Term(name=free.name, coefficient=value, fitted=determined, note="; ".join(notes))


def _hard_to_tell(index: int, solution: Solution) -> list[str]:
    covariance = solution.covariance()
    position = solution.active.index(index)
    sd = np.sqrt(np.diag(covariance))
    correlation = covariance[position] / np.maximum(sd * sd[position], np.finfo(float).tiny)
    partners = [
        f"{solution.free[other].name} ({correlation[i]:+.2f})"
        for i, other in enumerate(solution.active)
        if other != index and abs(correlation[i]) > _NEARLY_ONE
    ]
    return [f"hard to tell from {', '.join(partners)}"] if partners else []


def _with_spread(engine: EngineProfile, rows: Sequence[Row], solution: Solution, stderr: Vector) -> EngineProfile:
    """Laws of devices with the covariance of their coefficients and the spread of the runs around them."""
    devices = {hardware: dict(laws) for hardware, laws in engine.device_kernels.items()}
    for use in {term.use.hardware + term.use.key: term.use for term in solution.free if term.use}.values():
        moved = {term.field: i for i, term in enumerate(solution.free) if term.use == use}
        law = devices[use.hardware][use.key]
        errors = solution.errors[[row.hardware.key == use.hardware for row in rows]]
        devices[use.hardware][use.key] = law.model_copy(
            update={
                "covariance": _covariance(law, moved, stderr),
                "residual_log_sd": float(np.sqrt(np.mean(errors**2))),
                "rows": len(errors),
            }
        )
    return engine.model_copy(update={"device_kernels": devices})


def _covariance(law: LawFit, moved: Mapping[str, int], stderr: Vector) -> tuple[tuple[float, ...], ...]:
    names = [parameter.name for parameter in law_named(law.law).parameters]
    sds = [float(stderr[moved[name]]) if name in moved else 0.0 for name in names]
    return tuple(tuple(row) for row in np.diag(np.square(sds)).tolist())


def _held_out(rows: Sequence[Row], start: EngineProfile, hold_out: HoldOut, *, kernels: bool) -> tuple[Score, ...]:
    """Scores of every row by a fit without its part; empty where there is only one part."""
    if hold_out == "none":
        return ()
    part_of = _parts(rows, hold_out)
    parts = sorted({part_of(row) for row in rows})
    if len(parts) < 2:
        return ()
    found: list[tuple[Row, float]] = []
    for part in parts:
        others = [row for row in rows if part_of(row) != part]
        left_out = [row for row in rows if part_of(row) == part]
        solution = solve(others, start, kernels=kernels)
        engine = pooled(with_positions(start, solution.free, solution.positions.tolist()))
        found += zip(left_out, errors_of(left_out, engine, kernels=kernels).tolist(), strict=True)
    groups = sorted({row.group for row, _ in found})
    scores = [_score("all", [error for _, error in found])]
    if len(groups) > 1:
        scores += [_score(group, [error for row, error in found if row.group == group]) for group in groups]
    return tuple(scores)


def _parts(rows: Sequence[Row], hold_out: HoldOut) -> Callable[[Row], str]:
    if hold_out == "hardware":
        return lambda row: row.hardware.key
    if hold_out == "model":
        return lambda row: row.case.model
    half = halves_of([row.case for row in rows])
    return lambda row: half(row.case)


def halves_of(cases: Sequence[Case]) -> Callable[[Case], str]:
    """Which half of the shapes a case is in, ``0`` or ``1``."""
    half = _halves({_shape(case) for case in cases})
    return lambda case: half[_shape(case)]


_Shape = tuple[int, int, str, int]


def _shape(case: Case) -> _Shape:
    request = case.workload
    return request.output_tokens, request.prompt_tokens, ";".join(map(str, request.images)), request.batch


def _halves(shapes: set[_Shape]) -> dict[_Shape, str]:
    """Two halves by design: a chessboard over answer lengths and, within one, prompts and images in order.

    Both halves have short and long answers, prompts and images.
    """
    answers = sorted({shape[0] for shape in shapes})
    return {
        shape: str((place + turn) % 2)
        for turn, answer in enumerate(answers)
        for place, shape in enumerate(sorted(shape for shape in shapes if shape[0] == answer))
    }


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
