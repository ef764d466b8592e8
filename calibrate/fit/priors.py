"""What all calibrated devices together say of one that nobody calibrated: coefficients, and how far they may be off.

Each law is fitted on every device; the prior of a coefficient is its mean over device families (so that four siblings
count once), in the scale of the fit. The spread is what predictions for devices of one family are off by when all its
members are left out of the mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibrate.fit.law import fit_law
from calibrate.fit.sampling import sample_table
from calibrate.fit.tables import sampling_law
from calibrate.tables.domain import select_domain
from calibrate.tables.operators import OperatorTable, TableSet
from costmodel.errors import FitError
from costmodel.laws import laws_for
from costmodel.laws.base import Law
from costmodel.laws.interval import coefficients_from_scale, coefficients_to_scale
from costmodel.profiles import Coefficient, HardwareProfile, LawFit
from costmodel.quantity import normal_quantile
from costmodel.specs.base import Frozen

__all__ = ["FAMILIES", "LeftOut", "learn_priors"]

Vector = NDArray[np.float64]

# Devices of one architecture and vendor resemble each other more than they do others.
FAMILIES = {
    "a100-sxm-80gb": "ampere",
    "h100-sxm": "hopper",
    "h200-sxm": "hopper",
    "b200-sxm": "blackwell",
    "b300-sxm": "blackwell",
    "gb200": "blackwell",
    "gb300": "blackwell",
    "l40s": "ada",
    "rtx-pro-6000": "blackwell-rtx",
    "arc-b60": "battlemage",
}
_ROWS_SCORED = 1500
_COVERED = 0.9
_LEAST_DEVICES = 2


class LeftOut(Frozen):
    """How a device is predicted by the others alone, for one operator and number format."""

    law: str
    median_ape: float
    coverage: float
    half_width: float


@dataclass(frozen=True, slots=True)
class _Member:
    """One device's fit of one law, and rows to score predictions on."""

    key: str
    family: str
    profile: HardwareProfile
    rows: OperatorTable
    vector: Vector


def learn_priors(
    tables: Mapping[str, TableSet], profiles: Mapping[str, HardwareProfile]
) -> tuple[dict[str, LawFit], dict[str, dict[str, LeftOut]]]:
    """Learn the priors of the datasheet tier.

    Parameters
    ----------
    tables, profiles
        By key of the device.

    Returns
    -------
    tuple
        Prior by operator and number format; and by the same keys and device, how the device left out was predicted.
    """
    keys = sorted({key for entry in tables.values() for key in entry.tables})
    priors: dict[str, LawFit] = {}
    scores: dict[str, dict[str, LeftOut]] = {}
    for key in keys:
        kind, _, dtype = key.partition("/")
        found = [
            result
            for law in laws_for(kind, dtype.partition("+")[0], device_kind="cuda")
            if (result := _prior_of(key, law, tables, profiles)) is not None
        ]
        if found:
            priors[key], scores[key] = min(found, key=lambda result: result[0].residual_log_sd)
    return priors, scores


def _prior_of(
    key: str, law: Law, tables: Mapping[str, TableSet], profiles: Mapping[str, HardwareProfile]
) -> tuple[LawFit, dict[str, LeftOut]] | None:
    members = [
        member
        for device, entry in tables.items()
        if key in entry.tables and (member := _member(key, law, device, entry, profiles[device])) is not None
    ]
    if len({member.family for member in members}) < _LEAST_DEVICES:
        return None
    errors = [_errors(member, law, _mean([m for m in members if m.family != member.family])) for member in members]
    spread = _spread(errors)
    centre = _mean(members)
    deviations = np.array([member.vector for member in members])
    sds = np.std(deviations, axis=0, ddof=1)
    values = coefficients_from_scale(law.parameters, centre)
    coefficients = {
        p.name: Coefficient(value=values[p.name], stderr=sd * values[p.name] if p.log else sd, source="fitted")
        for p, sd in zip(law.parameters, sds.tolist(), strict=True)
    }
    prior = LawFit(law=law.name, coefficients=coefficients, residual_log_sd=spread, rows=0)
    return prior, _left_out(members, law, spread)


def _member(key: str, law: Law, device: str, entry: TableSet, profile: HardwareProfile) -> _Member | None:
    selected = select_domain(entry).tables.get(key)
    if selected is None:
        return None
    sheet = profile.datasheet
    try:
        sample, _ = sample_table(selected, sampling_law(selected.op.kind), sheet)
        fit = fit_law(sample, law, sheet)
    except FitError:
        return None
    rows, _ = sample_table(selected, sampling_law(selected.op.kind), sheet, count=_ROWS_SCORED, seed=1)
    vector = coefficients_to_scale(law.parameters, fit.values)
    return _Member(device, FAMILIES[device], profile, rows, vector)


def _mean(members: Sequence[_Member]) -> Vector:
    """Median over families of the mean over their members: one odd device does not move it."""
    families = sorted({member.family for member in members})
    means = [np.mean([m.vector for m in members if m.family == family], axis=0) for family in families]
    return np.asarray(np.median(means, axis=0))


def _errors(member: _Member, law: Law, vector: Vector) -> Vector:
    values = coefficients_from_scale(law.parameters, vector)
    predicted_s = law.time_s(member.rows.op, values, member.profile.datasheet)
    return np.asarray(np.log(predicted_s / member.rows.latency_s))


def _spread(errors: Sequence[Vector]) -> float:
    """Standard deviation whose interval covers nine tenths, each device counting the same."""
    rng = np.random.default_rng(0)
    even = np.concatenate([rng.choice(np.abs(error), _ROWS_SCORED) for error in errors])
    return float(np.quantile(even, _COVERED) / normal_quantile(_COVERED))


def _left_out(members: Sequence[_Member], law: Law, spread: float) -> dict[str, LeftOut]:
    """Leave one device out; its siblings stay in, as they would for a new card of a known architecture."""
    half_width = normal_quantile(_COVERED) * spread
    scores = {}
    for member in members:
        error = _errors(member, law, _mean([m for m in members if m is not member]))
        scores[member.key] = LeftOut(
            law=law.name,
            median_ape=float(np.median(np.abs(np.expm1(error)))),
            coverage=float(np.mean(np.abs(error) <= half_width)),
            half_width=float(np.sinh(half_width)),
        )
    return scores
