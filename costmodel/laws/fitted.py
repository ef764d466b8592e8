"""A law at the coefficients of a fit, with the correction that the fit may carry: what predictions are made of."""

from __future__ import annotations

import numpy as np

from costmodel.laws import law_named
from costmodel.laws.base import Peaks, Terms
from costmodel.laws.correction import log_correction
from costmodel.laws.floor import floor_s
from costmodel.ops import Num, Op
from costmodel.profiles import LawFit

__all__ = ["fitted_terms", "fitted_time_s"]


def fitted_terms(fit: LawFit, op: Op, peaks: Peaks) -> Terms:
    """Parts of a predicted time, in seconds; broadcasts over the operator's sizes.

    Raises
    ------
    UnknownKeyError
        If there is no such law.
    ProfileError
        If the datasheet lacks a peak that the law needs.
    """
    terms = law_named(fit.law).terms(op, fit.values, peaks)
    if fit.correction is None:
        return terms
    # A correction makes no operator faster than the datasheet allows, or than its law if that is faster already.
    least = np.minimum(floor_s(op, peaks) / terms.total_s, 1.0)
    factor = np.maximum(np.exp(log_correction(fit, op, terms.total_s)), least)
    return Terms(terms.total_s * factor, terms.compute_s * factor, terms.memory_s * factor)


def fitted_time_s(fit: LawFit, op: Op, peaks: Peaks) -> Num:
    """Predicted time of one execution, in seconds; errors as :func:`fitted_terms`."""
    return fitted_terms(fit, op, peaks).total_s
