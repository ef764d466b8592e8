"""Spread of a predicted time: what the coefficients leave open, and what the law does not explain (equation 55)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel.laws.base import Law, Parameter, Peaks
from costmodel.ops import Num, Op
from costmodel.profiles import LawFit

__all__ = ["Slopes", "coefficient_log_sd", "coefficients_from_scale", "coefficients_to_scale", "prediction_log_sd"]

Vector = NDArray[np.float64]

# Slopes are taken over this many standard deviations either way: time steps with some coefficients, and a tangent would
# see a step as a cliff or not at all.
_STEP = 0.5

# Most times of one operator that are worked out at once: a table of kernels has many rows.
_MOST_AT_ONCE = 16_384


def coefficients_to_scale(parameters: tuple[Parameter, ...], values: dict[str, float]) -> Vector:
    """Coefficients in the scale that a fit moves them in."""
    return np.array([np.log(values[p.name]) if p.log else values[p.name] for p in parameters])


def coefficients_from_scale(parameters: tuple[Parameter, ...], vector: Vector) -> dict[str, float]:
    """Coefficients from the scale that a fit moves them in."""
    return {p.name: float(np.exp(v) if p.log else v) for p, v in zip(parameters, vector, strict=True)}


@dataclass(frozen=True, slots=True)
class Slopes:
    """What the slopes of log time need of a fit, whatever the operator.

    Attributes
    ----------
    names
        Of the coefficients.
    moved
        Coefficients, one row each, in columns of which every one moves one coefficient: down, then up.
    distance
        Between the two, in the scale of the fit; infinite for a coefficient that is known exactly.
    covariance
        Of the coefficients in that scale; empty where nothing is known of it.
    """

    names: tuple[str, ...]
    moved: Vector
    distance: Vector
    covariance: Vector

    @classmethod
    def of(cls, law: Law, fit: LawFit) -> Slopes:
        """Coefficients half a standard deviation either way, within their bounds."""
        names = tuple(parameter.name for parameter in law.parameters)
        covariance = np.asarray(fit.covariance, dtype=float)
        if covariance.size == 0:
            return cls(names, np.empty((len(names), 0)), np.empty(0), covariance)
        centre = coefficients_to_scale(law.parameters, fit.values)
        step = _STEP * np.sqrt(np.diag(covariance))
        low, high = (coefficients_to_scale(law.parameters, bounds) for bounds in _bounds(law.parameters))
        ends = np.maximum(centre - step, low), np.minimum(centre + step, high)
        columns = []
        for end in ends:
            moved = np.tile(centre[:, np.newaxis], len(names))
            np.fill_diagonal(moved, end)
            columns.append(moved)
        vectors = np.concatenate(columns, axis=1)
        log = np.array([parameter.log for parameter in law.parameters])
        vectors[log] = np.exp(vectors[log])
        distance = np.where(ends[1] > ends[0], ends[1] - ends[0], np.inf)
        return cls(names, vectors, distance, covariance)

    def log_sd(self, law: Law, op: Op, peaks: Peaks) -> Num:
        """Standard deviation of log time that the coefficients' covariance causes."""
        shape = np.broadcast_shapes(*(np.shape(getattr(op, size)) for size in op.sizes))
        if self.covariance.size == 0:
            return np.zeros(shape)
        logs = self._log_times(law, op, peaks, shape)
        count = len(self.names)
        slope = (logs[count:] - logs[:count]) / self.distance[:, np.newaxis]
        variance = np.sum(slope * (self.covariance @ slope), axis=0)
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)).reshape(shape))

    def _log_times(self, law: Law, op: Op, peaks: Peaks, shape: tuple[int, ...]) -> Vector:
        """Log time by column of ``moved``, in as few calls of the law as memory allows."""
        at_once = max(_MOST_AT_ONCE // max(int(np.prod(shape)), 1), 1)
        found = []
        for start in range(0, self.moved.shape[1], at_once):
            part = self.moved[:, start : start + at_once]
            rows: Any = part.reshape(len(self.names), -1, *(1,) * len(shape))
            time_s = law.time_s(op, dict(zip(self.names, rows, strict=True)), peaks)
            found.append(np.broadcast_to(time_s, (part.shape[1], *shape)).reshape(part.shape[1], -1))
        return np.asarray(np.log(np.concatenate(found)))


def _bounds(parameters: tuple[Parameter, ...]) -> tuple[dict[str, float], dict[str, float]]:
    return {p.name: p.low for p in parameters}, {p.name: p.high for p in parameters}


def coefficient_log_sd(law: Law, fit: LawFit, op: Op, peaks: Peaks) -> Num:
    """Standard deviation of log time that the coefficients' covariance causes; rows of one fit share it."""
    return Slopes.of(law, fit).log_sd(law, op, peaks)


def prediction_log_sd(law: Law, fit: LawFit, op: Op, peaks: Peaks) -> Num:
    """Standard deviation of log time of one new measurement (equation 55)."""
    return np.hypot(coefficient_log_sd(law, fit, op, peaks), fit.residual_log_sd)
