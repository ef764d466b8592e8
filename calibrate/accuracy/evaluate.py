"""How well a profile predicts rows that it was not fitted on: per operator, and for the sum of a decoder layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrate.accuracy.layers import LAYER_SHAPES, LayerCase, LayerShape, layer_cases
from calibrate.tables.domain import select_domain
from calibrate.tables.operators import OperatorTable, TableSet, shape_matrix
from costmodel.laws import law_named
from costmodel.laws.fitted import fitted_time_s
from costmodel.laws.interval import prediction_log_sd
from costmodel.profiles import Datasheet, HardwareProfile, LawFit
from costmodel.quantity import normal_quantile
from costmodel.specs.base import Frozen

__all__ = ["Accuracy", "Evaluation", "LayerAccuracy", "evaluate", "held_out"]


class Accuracy(Frozen):
    """Errors of predicted against measured times, relative to the measured ones.

    Attributes
    ----------
    n
        Rows scored: none of them was fitted on.
    mape, median_ape, p90_ape
        Mean, median and 90th percentile of the absolute relative error.
    bias
        Geometric mean of predicted / measured, minus one.
    coverage
        Share of rows inside their interval.
    half_width
        Mean half-width of the intervals, relative to the prediction's middle on a log scale.
    """

    n: int
    mape: float
    median_ape: float
    p90_ape: float
    bias: float
    coverage: float
    half_width: float


class LayerAccuracy(Frozen):
    """Errors of the summed operators of one decoder layer: GEMMs and attention of one model size, in one phase."""

    n: int
    mape: float
    bias: float
    coverage: float


class Evaluation(Frozen):
    """Accuracy of a profile: by operator kind and number format, and by layer and phase."""

    hardware: str
    interval: float
    ops: dict[str, dict[str, Accuracy]]
    layers: dict[str, dict[str, LayerAccuracy]]
    outside_domain: dict[str, int]
    without_law: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Predicted:
    """A table beside what the profile says of it."""

    table: OperatorTable
    predicted_s: NDArray[np.float64]
    log_sd: NDArray[np.float64]
    fitted_on: NDArray[np.bool_]


def held_out(table: OperatorTable, fit: LawFit) -> NDArray[np.bool_]:
    """Rows whose shape the fit did not use."""
    if not fit.fitted_on:
        return np.ones(table.rows, dtype=bool)
    used = np.column_stack([fit.fitted_on[name] for name in table.op.sizes])
    seen = {tuple(row) for row in used.tolist()}
    shapes = shape_matrix(table.op)
    # A profile writes "no window" as 0.
    shapes = np.where(np.isinf(shapes), 0.0, shapes)
    return np.array([tuple(row) not in seen for row in shapes.tolist()], dtype=bool)


def evaluate(profile: HardwareProfile, tables: TableSet, *, interval: float = 0.9) -> Evaluation:
    """Score a profile on the rows of a table set that it was not fitted on.

    Parameters
    ----------
    interval
        Probability that the intervals are to hold.
    """
    selected = select_domain(tables)
    predicted: dict[str, _Predicted] = {}
    without_law = []
    for key, table in selected.tables.items():
        if key in profile.laws:
            predicted[key] = _predict(table, profile.laws[key], profile.datasheet)
        else:
            without_law.append(key)
    ops: dict[str, dict[str, Accuracy]] = {}
    for key, entry in predicted.items():
        kind, _, dtype = key.partition("/")
        if not entry.fitted_on.all():
            ops.setdefault(kind, {})[dtype] = _accuracy(entry, interval)
    layers = {shape.name: scores for shape in LAYER_SHAPES if (scores := _layer_scores(shape, predicted, interval))}
    return Evaluation(
        hardware=profile.key,
        interval=interval,
        ops=ops,
        layers=layers,
        outside_domain={key: count for key, count in selected.outside.items() if count},
        without_law=tuple(without_law),
    )


def held_out_points(
    profile: HardwareProfile, tables: TableSet
) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Measured and predicted seconds of the rows that a profile was not fitted on, by operator and number format."""
    points = {}
    for key, table in select_domain(tables).tables.items():
        if key in profile.laws:
            unseen = table.take(held_out(table, profile.laws[key]))
            if unseen.rows:
                fit = profile.laws[key]
                predicted_s = fitted_time_s(fit, unseen.op, profile.datasheet)
                points[key] = (unseen.latency_s, np.asarray(predicted_s, dtype=float))
    return points


def _predict(table: OperatorTable, fit: LawFit, datasheet: Datasheet) -> _Predicted:
    predicted_s = np.asarray(fitted_time_s(fit, table.op, datasheet), dtype=float)
    log_sd = np.asarray(prediction_log_sd(law_named(fit.law), fit, table.op, datasheet), dtype=float)
    return _Predicted(table, predicted_s, log_sd, ~held_out(table, fit))


def _accuracy(entry: _Predicted, interval: float) -> Accuracy:
    rows = ~entry.fitted_on
    measured_s, predicted_s = entry.table.latency_s[rows], entry.predicted_s[rows]
    half_width = normal_quantile(interval) * entry.log_sd[rows]
    error = predicted_s / measured_s - 1.0
    log_error = np.log(predicted_s / measured_s)
    return Accuracy(
        n=int(rows.sum()),
        mape=float(np.mean(np.abs(error))),
        median_ape=float(np.median(np.abs(error))),
        p90_ape=float(np.quantile(np.abs(error), 0.9)),
        bias=float(np.expm1(np.mean(log_error))),
        coverage=float(np.mean(np.abs(log_error) <= half_width)),
        half_width=float(np.mean(np.sinh(half_width))),
    )


def _layer_scores(shape: LayerShape, predicted: Mapping[str, _Predicted], interval: float) -> dict[str, LayerAccuracy]:
    scores = {}
    for phase in ("prefill", "decode"):
        attention = "attention_context/bf16" if phase == "prefill" else "attention_generation/bf16"
        if "gemm/bf16" not in predicted or attention not in predicted:
            continue
        entries = {"gemm": predicted["gemm/bf16"], "attention": predicted[attention]}
        sums = [_layer_sum(case, entries) for case in layer_cases(shape, phase)]
        complete = [entry for entry in sums if entry is not None]
        if complete:
            scores[phase] = _layer_accuracy(np.array(complete), interval)
    return scores


def _layer_sum(case: LayerCase, entries: Mapping[str, _Predicted]) -> tuple[float, float, float] | None:
    """Measured, predicted and standard deviation of a layer, in seconds; ``None`` where a row lacks or was fitted on.

    Rows of one operator kind share their error, so that it adds up; kinds are independent.
    """
    measured = predicted = variance = 0.0
    for kind, shapes in case.shapes.items():
        entry = entries[kind]
        sizes = shape_matrix(entry.table.op)
        shared = 0.0
        for shape in shapes:
            found = np.flatnonzero((sizes[:, : len(shape)] == np.array(shape)).all(axis=1))
            if len(found) != 1 or entry.fitted_on[found[0]]:
                return None
            measured += float(entry.table.latency_s[found[0]])
            predicted += float(entry.predicted_s[found[0]])
            shared += float(entry.predicted_s[found[0]] * entry.log_sd[found[0]])
        variance += shared**2
    return measured, predicted, float(np.sqrt(variance))


def _layer_accuracy(sums: NDArray[np.float64], interval: float) -> LayerAccuracy:
    measured_s, predicted_s, sd_s = sums.T
    error = predicted_s / measured_s - 1.0
    log_error = np.abs(np.log(predicted_s / measured_s))
    return LayerAccuracy(
        n=len(sums),
        mape=float(np.mean(np.abs(error))),
        bias=float(np.expm1(np.mean(np.log(predicted_s / measured_s)))),
        coverage=float(np.mean(log_error <= normal_quantile(interval) * sd_s / predicted_s)),
    )
