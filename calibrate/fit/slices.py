"""From samples of slices to coefficients per component of a model size."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.stats import t as student

from calibrate.measure.samples import Location, locate
from costmodel.errors import FitError
from costmodel.profiles import Coefficient, ComponentFit, SliceProfile
from costmodel.quantity import normal_quantile

__all__ = ["Point", "fit_component", "fit_slices"]

Vector = NDArray[np.float64]

_LEAST_QUIET = 3
_COVERED = 0.9


@dataclass(frozen=True, slots=True)
class Point:
    """One measured size: its features, and its time."""

    features: Mapping[str, float]
    location: Location


def fit_slices(rows: Sequence[Mapping[str, Any]]) -> tuple[SliceProfile, ...]:
    """Fit every component of every model size in the rows of a journal.

    Raises
    ------
    FitError
        If a component was not measured at enough sizes to tell its coefficients apart.
    """
    locations = locate(rows, least_quiet=_LEAST_QUIET)
    points: dict[tuple[str, ...], dict[str, dict[str, Point]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        if row.get("op") != "slice":
            continue
        size = (row["model"], row["fingerprint"], row["engine"], row["dtype"])
        location = locations[row["item"], row["component"]]
        points[size][row["component"]][row["item"]] = Point(row["features"], location)
    return tuple(
        SliceProfile(
            model=model,
            fingerprint=fingerprint,
            engine=engine,
            dtype=dtype,
            components={
                name: fit_component(f"{model} {name}", list(items.values())) for name, items in components.items()
            },
        )
        for (model, fingerprint, engine, dtype), components in points.items()
    )


def fit_component(label: str, points: Sequence[Point]) -> ComponentFit:
    """Fit coefficients by non-negative least squares on the relative error (equation 13).

    Features that are the same at all points (a batch of one) are told by the constant alone, and those that do not
    help the fit get a coefficient of zero; both are left out.
    """
    times = np.array([point.location.value_s for point in points])
    names = _independent_features(points)
    design = np.array([[point.features[name] for name in names] for point in points])
    if len(points) == 1 and len(points[0].features) > 1:
        raise FitError(f"{label}: measured at one size only; run the calibration again, or give it more time")
    relative = design / times[:, None]
    scale = np.abs(relative).max(axis=0)
    solution, _ = nnls(relative / scale, np.ones(len(times)))
    values = solution / scale
    active = values > 0
    spread, covariance = _spread((relative / scale)[:, active], solution[active], points)
    covariance = covariance / np.outer(scale[active], scale[active])
    used = [name for name, keep in zip(names, active, strict=True) if keep]
    return ComponentFit(
        coefficients={
            name: Coefficient(value=float(value), stderr=float(error), source="fitted")
            for name, value, error in zip(used, values[active], np.sqrt(np.diag(covariance)), strict=True)
        },
        covariance=tuple(map(tuple, covariance.tolist())),
        residual_log_sd=spread,
        rows=sum(point.location.samples for point in points),
        lowest={name: min(point.features[name] for point in points) for name in points[0].features},
        highest={name: max(point.features[name] for point in points) for name in points[0].features},
    )


def _independent_features(points: Sequence[Point]) -> list[str]:
    """The first constant feature, and every feature that is not proportional to an earlier one."""
    chosen: list[str] = []
    columns: list[Vector] = []
    for name in points[0].features:
        column = np.array([point.features[name] for point in points])
        if not column.any():
            continue
        trial = np.array([*columns, column / np.abs(column).max()])
        if np.linalg.matrix_rank(trial, tol=1e-6) == len(trial):
            chosen.append(name)
            columns.append(trial[-1])
    return chosen


def _spread(relative: Vector, values: Vector, points: Sequence[Point]) -> tuple[float, Vector]:
    """Residual spread, and covariance of the coefficients; sampling noise is the least that either can be.

    Of few degrees of freedom the misfit is hardly known: the spread is that whose normal interval is as wide as the
    one of Student's t (equation 98).
    """
    residual = relative @ values - 1
    noise = float(np.mean([(p.location.stderr_s / p.location.value_s) ** 2 for p in points]))
    freedom = len(points) - len(values)
    squared = float(residual @ residual) / freedom if freedom else 0.0
    widened = float(student.ppf(0.5 + _COVERED / 2, freedom)) / normal_quantile(_COVERED) if freedom else 1.0
    spread = math.sqrt(max(widened**2 * squared, noise))
    covariance = np.asarray(np.linalg.pinv(relative.T @ relative) * max(squared, noise), dtype=np.float64)
    return spread, covariance
