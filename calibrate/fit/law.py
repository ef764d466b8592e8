"""Fit of a latency law to a table: robust, bounded, on log time, with weak priors.

The residual of a row is ``log(predicted / measured)``. Coefficients move in the scale that their
:class:`~costmodel.laws.base.Parameter` names, and the covariance is in that scale. The same start always
gives the same fit: nothing here is random. A fit that its rows do not determine is refused, with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares

from calibrate.tables.operators import OperatorTable, shape_matrix
from costmodel.errors import FitError
from costmodel.laws.base import Law, Parameter
from costmodel.laws.floor import floor_s
from costmodel.laws.interval import coefficients_from_scale, coefficients_to_scale
from costmodel.profiles import Coefficient, Datasheet, LawFit
from costmodel.quantity import normal_quantile

__all__ = ["Prior", "covering_sd", "fit_law", "freedom", "plausible_rows"]

Vector = NDArray[np.float64]

# Log residuals beyond this count linearly, not squared: kernels that switch algorithm are outliers.
_ROBUST_SCALE = 0.1
# Weight of a prior against one row: a prior of one sd counts as a row that is off by 10 %.
_PRIOR_WEIGHT = 0.1
_ROWS_PER_COEFFICIENT = 2
_LEAST_ROWS = 6
_LEAST_ROWS_OF_CONSTANT = 3
# Beyond this spread a law explains nothing: predictions would be off by a factor of two.
_LARGEST_SPREAD = 0.7
_COVERED = 0.9
# No timer is better than this.
_SMALLEST_SPREAD = 0.005
# A measured rate may exceed the datasheet's by this much before the row is impossible: clocks vary.
_DATASHEET_MARGIN = 1.15
_LARGEST_IMPOSSIBLE_SHARE = 0.2
# A coefficient is determined where the rows narrow its prior down to this share; others stay assumptions.
_DETERMINED = 0.9
_LEAST_DETERMINED = 2


@dataclass(frozen=True, slots=True)
class Prior:
    """What other devices say of a coefficient: its value there, and its spread in the scale of the fit."""

    value: float
    sd: float


@dataclass(frozen=True, slots=True)
class _Start:
    """Where a fit starts, and its priors, in the scale of the fit."""

    first: Vector
    centre: Vector
    spread: Vector


def fit_law(
    table: OperatorTable,
    law: Law,
    datasheet: Datasheet,
    *,
    priors: Mapping[str, Prior] | None = None,
    start: Mapping[str, float] | None = None,
) -> LawFit:
    """Fit the coefficients of a law to a table (equation 56).

    Parameters
    ----------
    table
        Rows of one operator and number format.
    law
        The law whose coefficients are wanted.
    datasheet
        Of the device that the rows were measured on.
    priors
        Centres and spreads that replace those of the law's parameters, by coefficient name.
    start
        Where to start from (``None``: at the centres).

    Raises
    ------
    FitError
        If the rows cannot determine the coefficients, are faster than the datasheet allows, or do not follow
        the law.
    ProfileError
        If the datasheet has no peak for the table's number format.
    """
    kept = plausible_rows(table, datasheet)
    _check_enough(kept, law)
    centre, spread = _centres(law.parameters, priors or {})
    predict = _predictor(kept, law, datasheet)
    first = centre if start is None else coefficients_to_scale(law.parameters, dict(start))
    result = _solve(predict, np.log(kept.latency_s), law.parameters, _Start(first, centre, spread))
    residual = np.log(predict(result.x)) - np.log(kept.latency_s)
    sd = covering_sd(residual) * float(np.sqrt(freedom(len(residual), len(centre))))
    if sd > _LARGEST_SPREAD:
        raise FitError(
            f"{table.key}: rows do not follow the law {law.name}: residuals spread {sd:.2f} in log, "
            f"expected at most {_LARGEST_SPREAD}; are units or devices mixed?"
        )
    covariance = _covariance(np.asarray(result.jac)[: kept.rows], sd, spread)
    _check_determined(table.key, law, covariance, spread)
    return LawFit(
        law=law.name,
        coefficients=_coefficients(law.parameters, result.x, covariance, spread),
        covariance=tuple(tuple(float(value) for value in row) for row in covariance),
        residual_log_sd=sd,
        rows=kept.rows,
        fitted_on=_shapes(kept),
    )


def plausible_rows(table: OperatorTable, datasheet: Datasheet) -> OperatorTable:
    """Rows that are not faster than the datasheet allows.

    Raises
    ------
    FitError
        If so many are faster that the unit or the device must be wrong.
    """
    possible = table.latency_s * _DATASHEET_MARGIN >= floor_s(table.op, datasheet)
    impossible = int(np.sum(~possible))
    if impossible > _LARGEST_IMPOSSIBLE_SHARE * table.rows:
        raise FitError(
            f"{table.key}: {impossible} of {table.rows} rows are faster than the datasheet allows; "
            "check that latency_s is in seconds and the datasheet is this device's"
        )
    return table.take(possible) if impossible else table


def _predictor(table: OperatorTable, law: Law, datasheet: Datasheet) -> Callable[[Vector], Vector]:
    def predict(vector: Vector) -> Vector:
        return np.asarray(law.time_s(table.op, coefficients_from_scale(law.parameters, vector), datasheet), dtype=float)

    return predict


def _centres(parameters: tuple[Parameter, ...], priors: Mapping[str, Prior]) -> tuple[Vector, Vector]:
    own = {p.name: Prior(p.start, p.prior_sd) for p in parameters}
    used = {**own, **{name: prior for name, prior in priors.items() if name in own}}
    centre = coefficients_to_scale(parameters, {name: prior.value for name, prior in used.items()})
    return centre, np.array([used[p.name].sd for p in parameters])


def _solve(
    predict: Callable[[Vector], Vector],
    log_measured: Vector,
    parameters: tuple[Parameter, ...],
    start: _Start,
) -> OptimizeResult:
    low = coefficients_to_scale(parameters, {p.name: p.low for p in parameters})
    high = coefficients_to_scale(parameters, {p.name: p.high for p in parameters})
    margin = 1e-6 * (high - low)

    def residuals(vector: Vector) -> Vector:
        prior = _PRIOR_WEIGHT * (vector - start.centre) / start.spread
        return np.concatenate([np.log(predict(vector)) - log_measured, prior])

    return least_squares(
        residuals,
        np.clip(start.first, low + margin, high - margin),
        bounds=(low, high),
        loss="soft_l1",
        f_scale=_ROBUST_SCALE,
        x_scale=start.spread,
        max_nfev=200,
    )


def covering_sd(residual: Vector) -> float:
    """Spread whose normal interval covers nine tenths of the rows, and of one row more (equation 58).

    Residuals have heavy tails: their root mean square covers too much, their median deviation too little. Of few rows
    the quantile is taken a little further out, so that a new row is covered as often (split conformal prediction).
    """
    level = min(_COVERED * (len(residual) + 1) / len(residual), 1.0)
    return float(np.quantile(np.abs(residual), level, method="higher") / normal_quantile(_COVERED))


def freedom(rows: int, coefficients: int) -> float:
    """Factor on the squared residuals of a fit: rows over the degrees of freedom that are left."""
    return rows / max(rows - coefficients, 1)


def _covariance(jacobian: Vector, sd: float, spread: Vector) -> Vector:
    """Of the coefficients in the scale of the fit: what rows and priors tell (equation 57)."""
    information = jacobian.T @ jacobian / max(sd, _SMALLEST_SPREAD) ** 2 + np.diag(spread**-2.0)
    return np.asarray(np.linalg.inv(information))


def _check_enough(table: OperatorTable, law: Law) -> None:
    constant = len(law.parameters) == 1
    least = _LEAST_ROWS_OF_CONSTANT if constant else _LEAST_ROWS
    needed = max(_ROWS_PER_COEFFICIENT * len(law.parameters), least)
    if table.rows < needed:
        raise FitError(
            f"{table.key}: got {table.rows} distinct shapes, the law {law.name} needs at least {needed}; "
            "measure more shapes"
        )
    if not constant and table.latency_s.max() < 1.2 * table.latency_s.min():
        raise FitError(
            f"{table.key}: times of all {table.rows} shapes lie within 20 %, too little to tell the "
            "coefficients apart; measure larger shapes"
        )


def _check_determined(key: str, law: Law, covariance: Vector, spread: Vector) -> None:
    free = np.sqrt(np.diag(covariance)) >= _DETERMINED * spread
    if (~free).sum() < min(_LEAST_DETERMINED, len(law.parameters)):
        names = ", ".join(p.name for p, undetermined in zip(law.parameters, free, strict=True) if undetermined)
        raise FitError(f"{key}: the rows say nothing about {names}; measure shapes of more different sizes")


def _coefficients(
    parameters: tuple[Parameter, ...], vector: Vector, covariance: Vector, spread: Vector
) -> dict[str, Coefficient]:
    values = coefficients_from_scale(parameters, vector)
    sds = np.sqrt(np.diag(covariance))
    return {
        p.name: Coefficient(
            value=values[p.name],
            stderr=float(sd * values[p.name] if p.log else sd),
            source="fitted" if sd < _DETERMINED * prior_sd else "assumed",
        )
        for p, sd, prior_sd in zip(parameters, sds, spread, strict=True)
    }


def _shapes(table: OperatorTable) -> dict[str, tuple[float, ...]]:
    """Shapes of the rows, by size; 0 stands for no window."""
    matrix = np.where(np.isinf(shapes := shape_matrix(table.op)), 0.0, shapes)
    return {name: tuple(column) for name, column in zip(table.op.sizes, matrix.T.tolist(), strict=True)}
