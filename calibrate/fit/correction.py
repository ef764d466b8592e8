"""The smooth correction on top of a law, fitted on the same rows.

What a law leaves over is regressed on the logarithms of the sizes and of the law's own time: a Gaussian process with a
Matérn-3/2 kernel (equation 95), whose length scales maximise the marginal likelihood. It is constrained so that
predicted time never falls as the work grows by a token, a row or a request (equation 96). Nothing here is random.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize, nnls
from scipy.stats import qmc

from calibrate.tables.operators import OperatorTable, shape_matrix
from costmodel.laws.correction import TIME, matern
from costmodel.ops import Op
from costmodel.profiles import Correction

__all__ = ["LEAST_ROWS", "WORK_SIZES", "TimeOf", "fit_correction"]

Vector = NDArray[np.float64]
TimeOf = Callable[[Op], Vector]

WORK_SIZES = ("m", "batch", "q_len", "kv_len", "seq_len", "tokens", "num_bytes")
"""Sizes that a workload sets; the others are widths of a model, and libraries choose kernels by those."""

LEAST_ROWS = 100
"""Of fewer rows, none is worth leaving out."""

# Larger residuals are outliers: kernels that switch algorithm.
_CLIPPED = 0.3
# Typical length scale: this many standard deviations of a coordinate, within a factor of e.
_TYPICAL_SCALE = 2.0
_LENGTH_BOUNDS = (-1.0, 5.0)
_SD_BOUNDS = (-6.0, 0.0)
_JITTER = 1e-8
# Shapes between two rows, from which steps are constrained; others are audited, and the worst constrained too.
_CONSTRAINED = 256
_AUDITED = 8192
_AUDITS = 12
_WORST = 128
# Falls of less than this (a factor of 1.0005 an octave) are left.
_TOLERANCE = 5e-4
# The correction must not fall faster with the law's time than this share of what the time itself grows.
_MOST_CANCELLED = 0.9
_TIME_STEP_OCTAVES = 0.01


@dataclass(frozen=True, slots=True)
class _Kernel:
    """Length scales in octaves, signal and noise standard deviations."""

    scales: Vector
    signal: float
    noise: float


@dataclass(frozen=True, slots=True)
class _Steps:
    """Coordinates before and after a little more work, ``(steps, d)``; least slope of the correction per octave."""

    before: Vector
    after: Vector
    octaves: Vector
    least: Vector

    def take(self, index: slice | NDArray[np.intp]) -> _Steps:
        return _Steps(self.before[index], self.after[index], self.octaves[index], self.least[index])

    def slopes(self, centres: Vector, kernel: _Kernel) -> Vector:
        """Slope per octave that a weight of one on each centre has, ``(steps, centres)``."""
        rise = matern(self.after / kernel.scales, centres) - matern(self.before / kernel.scales, centres)
        return rise / self.octaves[:, np.newaxis]


def fit_correction(table: OperatorTable, time_of: TimeOf, *, audited: bool = True) -> Correction:
    """Fit a correction to what a law leaves over.

    Parameters
    ----------
    table
        Rows that the law was fitted on.
    time_of
        What the law says of an operator, in seconds.
    audited
        Whether to look for steps that fall beside those that are constrained: it takes several times longer.
    """
    law_s = time_of(table.op)
    names = _coordinate_names(table.op)
    points = _coordinates(names, table.op, law_s)
    residual = np.clip(np.log(table.latency_s / law_s), -_CLIPPED, _CLIPPED)
    kernel = _kernel(points, residual)
    steps = _steps(table.op, names, time_of, count=_AUDITED if audited else 0)
    weights = _weights(points, residual, kernel, steps, audits=_AUDITS if audited else 0)
    ends = np.exp2([points.min(axis=0), points.max(axis=0)]).T.tolist()
    return Correction(
        length_scales=dict(zip(names, kernel.scales.tolist(), strict=True)),
        ranges={
            name: (low, high) for name, (low, high) in zip(names, ends, strict=True) if name in (*WORK_SIZES, TIME)
        },
        law_s=tuple(law_s.tolist()),
        weights=tuple(weights.tolist()),
    )


def _coordinate_names(op: Op) -> list[str]:
    """Sizes that vary, each once, and the law's time."""
    columns: dict[str, Vector] = {}
    for name, column in zip(op.sizes, shape_matrix(op).T, strict=True):
        known = any(np.array_equal(column, other) for other in columns.values())
        if np.isfinite(column).all() and np.ptp(column) > 0 and not known:
            columns[name] = column
    return [*columns, TIME]


def _coordinates(names: list[str], op: Op, law_s: Vector) -> Vector:
    """Logarithms to base 2 of the coordinates, ``(rows, d)``."""
    return np.asarray(np.log2(np.stack([law_s if name == TIME else getattr(op, name) for name in names], axis=-1)))


def _kernel(points: Vector, residual: Vector) -> _Kernel:
    """Length scales and spreads of the largest marginal likelihood, with a weak prior on the scales."""
    squared = np.moveaxis((points[:, np.newaxis] - points) ** 2, -1, 0)
    typical = np.log(_TYPICAL_SCALE * np.std(points, axis=0))
    spread = float(np.std(residual)) or 1e-3

    def badness(vector: Vector) -> float:
        scales, (signal, noise) = np.exp(vector[:-2]), np.exp(2.0 * vector[-2:])
        distance = np.sqrt(3.0 * np.tensordot(scales**-2.0, squared, axes=1))
        covariance = signal * (1.0 + distance) * np.exp(-distance)
        covariance[np.diag_indices_from(covariance)] += noise + _JITTER
        factor = cho_factor(covariance, lower=True)
        fit = residual @ cho_solve(factor, residual) / 2.0
        return float(fit + np.sum(np.log(np.diag(factor[0]))) + np.sum((vector[:-2] - typical) ** 2) / 2.0)

    start = np.concatenate([typical, np.log([0.8 * spread, 0.5 * spread])])
    bounds = [_LENGTH_BOUNDS] * len(typical) + [_SD_BOUNDS] * 2
    found = minimize(badness, start, method="L-BFGS-B", bounds=bounds, options={"maxiter": 30}).x
    return _Kernel(np.exp(found[:-2]), float(np.exp(found[-2])), float(np.exp(found[-1])))


def _steps(op: Op, names: list[str], time_of: TimeOf, *, count: int) -> tuple[_Steps, _Steps]:
    """Steps of one more token, row or request, and of a little more time of the law: to constrain, and to audit.

    A step may not undo what the law grows by: its least slope is minus the law's.
    """
    shapes = _between(op, _CONSTRAINED + count)
    law_s = time_of(shapes)
    before = _coordinates(names, shapes, law_s)
    longer = before.copy()
    longer[:, names.index(TIME)] += _TIME_STEP_OCTAVES
    octaves = np.full(len(before), _TIME_STEP_OCTAVES)
    parts = [_Steps(before, longer, octaves, np.full(len(before), -_MOST_CANCELLED * np.log(2.0)))]
    for index, name in enumerate(names):
        if name in WORK_SIZES:
            grown = _grown(shapes, name)
            grown_s = time_of(grown)
            after = _coordinates(names, grown, grown_s)
            octaves = after[:, index] - before[:, index]
            parts.append(_Steps(before, after, octaves, -np.log(grown_s / law_s) / octaves))
    return _joined(parts, slice(_CONSTRAINED)), _joined(parts, slice(_CONSTRAINED, None))


def _joined(parts: Sequence[_Steps], index: slice) -> _Steps:
    taken = [part.take(index) for part in parts]
    columns = zip(*((part.before, part.after, part.octaves, part.least) for part in taken), strict=True)
    return _Steps(*(np.concatenate(column) for column in columns))


def _between(op: Op, count: int) -> Op:
    """Whole shapes between two rows, and, every other one, of one row's widths with work anywhere in its range."""
    sizes = {f.name: size for f in fields(op) if isinstance(size := getattr(op, f.name), np.ndarray)}
    work = {name: index for index, name in enumerate(sizes) if name in WORK_SIZES}
    first, second, share, *ranges = _drawn(3 + len(sizes), count)
    anywhere = np.arange(len(share)) % 2 == 1
    mixed: dict[str, Any] = {}
    for name, size in sizes.items():
        low, high = (
            np.log(size[np.minimum((part * len(size)).astype(np.intp), len(size) - 1)]) for part in (first, second)
        )
        between = (1.0 - share) * low + share * high
        spread = low
        if name in work:
            spread = np.log(np.min(size)) + ranges[_twin(op, name, work)] * np.log(np.max(size) / np.min(size))
        mixed[name] = np.round(np.exp(np.where(anywhere, spread, between)))
    return replace(op, **mixed)


def _drawn(dimensions: int, count: int) -> Vector:
    """Evenly spread numbers between 0 and 1, ``(dimensions, count)``."""
    return np.asarray(qmc.Halton(dimensions, scramble=False).random(count + 1)[1:].T)


def _twin(op: Op, name: str, work: Mapping[str, int]) -> int:
    """Index of the first size that is the same in all rows."""
    return next(index for other, index in work.items() if np.array_equal(getattr(op, other), getattr(op, name)))


def _grown(op: Op, name: str) -> Op:
    """One more of a size, and of those that are the same in all shapes: queries of a prompt are its keys too."""
    column = getattr(op, name)
    same: dict[str, Any] = {
        other: column + 1.0 for other in op.sizes if np.array_equal(np.asarray(getattr(op, other)), column)
    }
    return replace(op, **same)


def _weights(points: Vector, residual: Vector, kernel: _Kernel, steps: tuple[_Steps, _Steps], *, audits: int) -> Vector:
    """Weights of the rows as centres: the mean of the process under the constraints (equation 96).

    Steps of the audit that fall are constrained too, and the weights solved again, at most ``audits`` times.
    """
    centres = points / kernel.scales
    gram = matern(centres, centres) + _JITTER * np.eye(len(centres))
    design = np.vstack([gram / kernel.noise, np.linalg.cholesky(gram).T / kernel.signal])
    target = np.concatenate([residual / kernel.noise, np.zeros(len(centres))])
    constrained, audited = steps
    slopes, least = constrained.slopes(centres, kernel), constrained.least
    weights = _least_squares(design, target, slopes, least)
    audited_slopes = audited.slopes(centres, kernel) if audits else slopes
    for _ in range(audits):
        missed = audited.least - audited_slopes @ weights
        worst = np.argsort(missed)[-_WORST:]
        if missed[worst[-1]] <= _TOLERANCE:
            break
        slopes = np.vstack([slopes, audited_slopes[worst]])
        least = np.concatenate([least, audited.least[worst]])
        weights = _least_squares(design, target, slopes, least)
    return weights


def _least_squares(design: Vector, target: Vector, rows: Vector, bounds: Vector) -> Vector:
    """Least squares under ``rows @ weights >= bounds``, by the dual of the least-distance problem.

    Lawson and Hanson, Solving Least Squares Problems, 1974, chapter 23.
    """
    orthogonal, upper = np.linalg.qr(design)
    free = orthogonal.T @ target
    reduced = np.linalg.solve(upper.T, rows.T)
    needed = bounds - free @ reduced
    if np.all(needed <= 0):
        return np.asarray(np.linalg.solve(upper, free))
    scale = np.maximum(np.sqrt(np.sum(reduced**2, axis=0)), np.finfo(float).tiny)
    system = np.vstack([reduced / scale, needed / scale])
    goal = np.zeros(len(system))
    goal[-1] = 1.0
    dual, _ = nnls(system, goal, maxiter=20 * system.shape[1])
    left = system @ dual - goal
    return np.asarray(np.linalg.solve(upper, free - left[:-1] / left[-1]))
