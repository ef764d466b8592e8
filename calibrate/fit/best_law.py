"""The law that fits best, its correction, and the spread of both on rows that neither has seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from calibrate.fit.correction import LEAST_ROWS, TimeOf, fit_correction
from calibrate.fit.law import Prior, covering_sd, fit_law, freedom, plausible_rows
from calibrate.tables.operators import OperatorTable
from costmodel.errors import FitError
from costmodel.laws import law_named
from costmodel.laws.base import Law
from costmodel.laws.correction import log_correction
from costmodel.ops import Op
from costmodel.profiles import Datasheet, LawFit

__all__ = ["fit_best_law"]

Vector = NDArray[np.float64]

_FOLDS = 5
# A correction is kept where it takes off at least this share of the mean error on rows left out.
_LEAST_GAIN = 0.04


def fit_best_law(
    table: OperatorTable,
    laws: Sequence[Law],
    datasheet: Datasheet,
    *,
    priors: Mapping[str, Mapping[str, Prior]] | None = None,
) -> LawFit:
    """Fit several laws and keep the one with the smallest mean error; the first wins a tie.

    Of enough rows, a correction is fitted on top. It is kept where it predicts rows left out of law and correction
    alike, and the spread of the fit is that on such rows.

    Parameters
    ----------
    priors
        By law name, then by coefficient name.

    Raises
    ------
    FitError
        If no law could be fitted; the reason is that of the first.
    """
    kept = plausible_rows(table, datasheet)
    fits, reasons = [], []
    for law in laws:
        try:
            fits.append(fit_law(kept, law, datasheet, priors=(priors or {}).get(law.name)))
        except FitError as error:
            reasons.append(error)
    if not fits:
        raise reasons[0]
    best = min(fits, key=lambda fit: _mean_error(fit, kept, datasheet))
    if kept.rows < LEAST_ROWS:
        return best
    return _corrected(kept, best, datasheet, (priors or {}).get(best.law))


def _time_of(fit: LawFit, datasheet: Datasheet) -> TimeOf:
    law = law_named(fit.law)

    def time_of(op: Op) -> Vector:
        return np.asarray(law.time_s(op, fit.values, datasheet), dtype=float)

    return time_of


def _mean_error(fit: LawFit, table: OperatorTable, datasheet: Datasheet) -> float:
    """Mean absolute log residual, corrected for the number of coefficients."""
    error = np.abs(np.log(_time_of(fit, datasheet)(table.op) / table.latency_s))
    return float(np.mean(error) * np.sqrt(freedom(table.rows, len(fit.coefficients))))


def _corrected(table: OperatorTable, fit: LawFit, datasheet: Datasheet, priors: Mapping[str, Prior] | None) -> LawFit:
    """The fit with the spread of rows left out, and with a correction where they say that it is worth keeping."""
    alone, together = np.empty(table.rows), np.empty(table.rows)
    for fold in range(_FOLDS):
        out = np.arange(table.rows) % _FOLDS == fold
        seen, unseen = table.take(~out), table.take(out)
        try:
            part = fit_law(seen, law_named(fit.law), datasheet, priors=priors, start=fit.values)
        except FitError:
            return fit
        time_of = _time_of(part, datasheet)
        law_s = time_of(unseen.op)
        alone[out] = np.log(unseen.latency_s / law_s)
        correction = fit_correction(seen, time_of, audited=False)
        corrected = part.model_copy(update={"correction": correction})
        together[out] = alone[out] - log_correction(corrected, unseen.op, law_s)
    if np.mean(np.abs(together)) > (1.0 - _LEAST_GAIN) * np.mean(np.abs(alone)):
        return fit.model_copy(update={"residual_log_sd": covering_sd(alone)})
    found = fit_correction(table, _time_of(fit, datasheet))
    return fit.model_copy(update={"correction": found, "residual_log_sd": covering_sd(together)})
