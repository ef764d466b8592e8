"""Least squares for the terms of an engine: Gauss-Newton steps whose slopes are differences of predictions.

Relative errors of the runs weigh against priors of the kernels (equation 71); host terms have none and can't be
negative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from calibrate.fit.engine_terms import HOST_TERMS, Free, LawUse, host_terms, kernel_terms, with_positions
from costmodel.cases import Case, case_forecast
from costmodel.lawbook import law_book
from costmodel.profiles import Coefficient, EngineProfile, HardwareProfile

__all__ = ["ROW_SD", "Row", "Solution", "design_rows", "errors_of", "solve"]

Vector = NDArray[np.float64]

ROW_SD = 0.02
"""What a run is off by however good its terms are: sums of kernels are met to 2 to 4 %."""

_ROUNDS = 6
_CONVERGED = 1e-4
_LOG_STEP = 0.02
# Errors beyond this count linearly, not squared, as in the fit of a law.
_ROBUST_SCALE = 0.1
# Share of a term's column that the terms taken before it must leave unexplained for it to be fitted.
_LEAST_NEW = 1e-3


@dataclass(frozen=True, slots=True)
class Row:
    """One measured stage of one run.

    Attributes
    ----------
    device_s
        Its prediction without host terms, by the kernels that the fit starts from.
    host
        What a second of each host term adds to it, in seconds.
    """

    case: Case
    hardware: HardwareProfile
    stage: str
    measured_s: float
    device_s: float
    host: Vector

    @property
    def group(self) -> str:
        """Device and scheme."""
        return f"{self.hardware.key} {self.case.quantization}"


def design_rows(case: Case, hardware: HardwareProfile, start: EngineProfile) -> list[Row]:
    """Rows of one run: a prediction is linear in the host terms, so that one a term tells all.

    Raises
    ------
    CostModelError
        If the case can't be predicted.
    """
    second = Coefficient(value=1.0, stderr=0.0, source="assumed")
    bare = _bare(start)
    engines = [bare, *(bare.model_copy(update={name: second}) for name in HOST_TERMS)]
    latencies = [case_forecast(case, hardware, engine, errors=False).latency(None) for engine in engines]
    rows = []
    for stage, measured_s in _independent_stages(case.measured_s).items():
        device_s, *with_term = (float(getattr(latency, f"{stage}_s").value) for latency in latencies)
        rows.append(Row(case, hardware, stage, measured_s, device_s, np.array(with_term) - device_s))
    return rows


def _bare(engine: EngineProfile) -> EngineProfile:
    nothing = Coefficient(value=0.0, stderr=0.0, source="assumed")
    return engine.model_copy(update=dict.fromkeys(HOST_TERMS, nothing))


def _independent_stages(measured_s: Mapping[str, float]) -> dict[str, float]:
    """Stages that took time; a total is left out where its two parts are there."""
    found = {stage: time_s for stage, time_s in measured_s.items() if time_s > 0}
    if "ttft" in found and ("tpot" in found or "decode" in found):
        found.pop("total", None)
    return found


@dataclass(frozen=True, slots=True)
class Solution:
    """Where the fit ended.

    Attributes
    ----------
    free
        All terms; ``positions`` holds their values in the scale of the fit.
    active
        Those that the runs determine.
    slopes
        Of the relative errors, a column for each active term.
    errors
        Predicted / measured - 1 at the solution.
    """

    free: tuple[Free, ...]
    positions: Vector
    active: tuple[int, ...]
    slopes: Vector
    errors: Vector

    def covariance(self) -> Vector:
        """Of the active terms, in the scale of the fit: the runs and the priors together."""
        used = max(len(self.errors) - len(self.active), 1)
        variance = float(self.errors @ self.errors) / used
        slopes, scale = _scaled(self.slopes)
        precision = slopes.T @ slopes / max(variance, np.finfo(float).tiny)
        precision += np.diag([(size / self.free[i].prior_sd) ** 2 for i, size in zip(self.active, scale, strict=True)])
        return np.asarray(np.linalg.pinv(precision) * np.outer(scale, scale))

    def without(self, left_out: NDArray[np.bool_]) -> Vector:
        """Positions of a fit without some rows, by the slopes found with them."""
        kept = ~left_out
        step = _step(self, self.slopes[kept], self.errors[kept], robust=any(term.use for term in self.free))
        return _moved(self, step)


def solve(rows: Sequence[Row], start: EngineProfile, *, kernels: bool) -> Solution:
    """Fit host terms, and with ``kernels`` how the engine's GEMMs use each device.

    Parameters
    ----------
    rows
        Stages that can be predicted.
    start
        Engine whose terms are the start; those that the rows do not determine stay.
    """
    host = host_terms(start)
    moving = kernel_terms(_uses(rows, start)) if kernels else []
    free = (*host, *moving)
    measured = np.array([row.measured_s for row in rows])
    host_slopes = np.array([row.host for row in rows]) / measured[:, None]
    known = np.array([getattr(start, term.field).stderr for term in host])
    active = (*_told_apart(host_slopes, known), *range(len(host), len(free)))
    positions = np.array([term.start for term in free])
    device_s = np.array([row.device_s for row in rows])
    for turn in range(_ROUNDS):
        slopes = np.hstack([host_slopes, _kernel_slopes(rows, start, moving, positions[len(host) :], device_s)])
        errors = device_s / measured + host_slopes @ positions[: len(host)] - 1
        solution = Solution(free, positions, active, slopes[:, list(active)], errors)
        if not active:
            return solution
        step = _step(solution, solution.slopes, solution.errors, robust=turn > 0)
        positions = _moved(solution, step)
        if not moving:
            return replace(solution, positions=positions, errors=errors + solution.slopes @ step)
        device_s = _device_s(rows, with_positions(start, moving, positions[len(host) :].tolist()))
        if float(np.max(np.abs(solution.slopes @ step))) < _CONVERGED:
            break
    errors = device_s / measured + host_slopes @ positions[: len(host)] - 1
    return replace(solution, positions=positions, errors=errors)


def errors_of(rows: Sequence[Row], engine: EngineProfile, *, kernels: bool) -> Vector:
    """Predicted / measured - 1; without ``kernels`` the engine's are those that the rows were designed with."""
    host = np.array([getattr(engine, name).value for name in HOST_TERMS])
    device_s = _device_s(rows, engine) if kernels else np.array([row.device_s for row in rows])
    host_s = np.array([row.host for row in rows]) @ host
    return np.asarray((device_s + host_s) / np.array([row.measured_s for row in rows]) - 1)


def _device_s(rows: Sequence[Row], engine: EngineProfile) -> Vector:
    """Predictions without host terms."""
    bare = _bare(engine)
    latencies = (case_forecast(row.case, row.hardware, bare, errors=False).latency(None) for row in rows)
    found = [getattr(latency, f"{row.stage}_s").value for row, latency in zip(rows, latencies, strict=True)]
    return np.array(found, dtype=np.float64)


def _uses(rows: Sequence[Row], start: EngineProfile) -> list[LawUse]:
    """Laws of GEMMs that the rows are predicted with, each once."""
    found: dict[tuple[str, str], LawUse] = {}
    for row in {(row.case.model, row.group): row for row in rows}.values():
        forecast = case_forecast(row.case, row.hardware, start, errors=False)
        book = law_book(row.hardware, start)
        components = (c for passes in forecast.passes.values() for priced in passes for c in priced.stage.components)
        for op in (op for component in components for op in component.ops if op.kind == "gemm"):
            law = book.law_of(op)
            new = LawUse(row.hardware.key, law.key, law.fit, law.tier, set())
            found.setdefault((row.hardware.key, law.key), new).groups.add(row.group)
    return list(found.values())


def _kernel_slopes(
    rows: Sequence[Row], start: EngineProfile, moving: Sequence[Free], positions: Vector, device_s: Vector
) -> Vector:
    """Change of each row's relative error with each term of a kernel; none where the kernel is not used."""
    slopes = np.zeros((len(rows), len(moving)))
    for index, term in enumerate(moving):
        moved = positions.copy()
        moved[index] += _LOG_STEP
        trial = with_positions(start, moving, moved.tolist())
        touched = [i for i, row in enumerate(rows) if term.use and term.use.serves(row.group)]
        some = [rows[i] for i in touched]
        measured = np.array([row.measured_s for row in some])
        slopes[touched, index] = (_device_s(some, trial) - device_s[touched]) / (measured * _LOG_STEP)
    return slopes


def _scaled(slopes: Vector) -> tuple[Vector, Vector]:
    scale = np.linalg.norm(slopes, axis=0)
    scale = 1 / np.where(scale > 0, scale, 1.0)
    return slopes * scale, scale


def _step(solution: Solution, slopes: Vector, errors: Vector, *, robust: bool) -> Vector:
    """One Gauss-Newton step of the active terms, within their bounds; ``robust``: outliers count linearly."""
    terms = [solution.free[index] for index in solution.active]
    here = solution.positions[list(solution.active)]
    design, scale = _scaled(slopes)
    pull = np.array([ROW_SD / term.prior_sd for term in terms])
    start = np.array([term.start for term in terms])
    weight = (1 + (errors / _ROBUST_SCALE) ** 2) ** -0.25 if robust else np.ones(len(errors))
    rows = np.vstack([design * weight[:, None], np.diag(pull * scale)])
    target = np.concatenate([-errors * weight, pull * np.where(pull > 0, start - here, 0.0)])
    low = np.array([term.low for term in terms]) - here
    high = np.array([term.high for term in terms]) - here
    result = lsq_linear(rows, target, bounds=(np.minimum(low / scale, -0.0), high / scale), method="bvls")
    return np.asarray(result.x * scale)


def _moved(solution: Solution, step: Vector) -> Vector:
    """Positions after a step; rounding does not leave a bound."""
    positions = solution.positions.copy()
    positions[list(solution.active)] += step
    low = [min(term.low, position) for term, position in zip(solution.free, solution.positions, strict=True)]
    high = [max(term.high, position) for term, position in zip(solution.free, solution.positions, strict=True)]
    return np.asarray(np.clip(positions, low, high))


def _told_apart(design: Vector, known: Vector) -> tuple[int, ...]:
    """Columns that are more than a mixture of others; where that leaves a choice, those known least so far."""
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
