"""Spread of a predicted time: what the coefficients leave open, and what the law does not explain (equation 55)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from costmodel.laws.base import Law, Parameter, Peaks
from costmodel.ops import Num, Op
from costmodel.profiles import LawFit

__all__ = ["coefficient_log_sd", "coefficients_from_scale", "coefficients_to_scale", "prediction_log_sd"]

# Slopes are taken over this many standard deviations either way: time steps with some coefficients, and a tangent would
# see a step as a cliff or not at all.
_STEP = 0.5


def coefficients_to_scale(parameters: tuple[Parameter, ...], values: dict[str, float]) -> NDArray[np.float64]:
    """Coefficients in the scale that a fit moves them in."""
    return np.array([np.log(values[p.name]) if p.log else values[p.name] for p in parameters])


def coefficients_from_scale(parameters: tuple[Parameter, ...], vector: NDArray[np.float64]) -> dict[str, float]:
    """Coefficients from the scale that a fit moves them in."""
    return {p.name: float(np.exp(v) if p.log else v) for p, v in zip(parameters, vector, strict=True)}


def coefficient_log_sd(law: Law, fit: LawFit, op: Op, peaks: Peaks) -> Num:
    """Standard deviation of log time that the coefficients' covariance causes; rows of one fit share it."""
    centre = coefficients_to_scale(law.parameters, fit.values)
    base = np.log(law.time_s(op, fit.values, peaks))
    covariance = np.asarray(fit.covariance, dtype=float)
    if covariance.size == 0:
        return 0.0 * base
    slopes = []
    for index, parameter in enumerate(law.parameters):
        if covariance[index, index] == 0:
            slopes.append(0.0 * base)
            continue
        ends = _ends(parameter, float(centre[index]), _STEP * float(np.sqrt(covariance[index, index])))
        logs = []
        for end in ends:
            moved = centre.copy()
            moved[index] = end
            values = coefficients_from_scale(law.parameters, moved)
            logs.append(np.log(law.time_s(op, values, peaks)))
        slopes.append((logs[1] - logs[0]) / (ends[1] - ends[0]))
    slope = np.stack(np.broadcast_arrays(*slopes))
    variance = np.einsum("i...,ij,j...->...", slope, covariance, slope)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def _ends(parameter: Parameter, centre: float, step: float) -> tuple[float, float]:
    """Where a slope is taken, in the scale of the fit and within the coefficient's bounds."""
    low, high = (np.log(bound) if parameter.log else bound for bound in (parameter.low, parameter.high))
    return max(centre - step, float(low)), min(centre + step, float(high))


def prediction_log_sd(law: Law, fit: LawFit, op: Op, peaks: Peaks) -> Num:
    """Standard deviation of log time of one new measurement (equation 55)."""
    return np.hypot(coefficient_log_sd(law, fit, op, peaks), fit.residual_log_sd)
