"""What calibrated devices say of one that nobody calibrated: coefficients, how far they may be off (equation 59).

Each law is fitted on every device. The general prior of a coefficient is its median over architectures of the mean over
their members, in the scale of the fit; its spread is what predictions for the devices of one architecture are off by
when all its members are left out. Where devices of its own architecture are known, their mean takes its place, with the
spread of what each of them is off by when the others predict it, widened for their small number (Student's t) up to the
general spread.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from calibrate.fit.law import fit_law
from calibrate.fit.sampling import sample_table
from calibrate.fit.tables import sampling_law
from calibrate.tables.domain import select_domain
from calibrate.tables.operators import OperatorTable, TableSet
from costmodel.errors import FitError
from costmodel.laws import law_named, laws_for
from costmodel.laws.base import Law
from costmodel.laws.interval import coefficients_from_scale, coefficients_to_scale
from costmodel.profiles import Coefficient, Datasheet, HardwareProfile, LawFit
from costmodel.quantity import normal_quantile
from costmodel.specs.base import Frozen

__all__ = ["Learned", "LeftOut", "learn_priors"]

Vector = NDArray[np.float64]

_ROWS_SCORED = 1500
_COVERED = 0.9
_LEAST_DEVICES = 2


class LeftOut(Frozen):
    """How a device is predicted by the others alone, for one operator and number format.

    Attributes
    ----------
    siblings
        Other calibrated devices of its architecture; without any, all others predict it.
    """

    law: str
    siblings: int
    median_ape: float
    coverage: float
    half_width: float


@dataclass(frozen=True, slots=True)
class Learned:
    """Priors by operator and number format: of all devices, and by architecture; and how devices left out fare.

    Attributes
    ----------
    left_out
        By operator and number format, then by device.
    """

    general: dict[str, LawFit]
    architectures: dict[str, dict[str, LawFit]]
    left_out: dict[str, dict[str, LeftOut]]


@dataclass(frozen=True, slots=True)
class _Member:
    """One device's fit of one law, and rows to score predictions on."""

    key: str
    architecture: str
    datasheet: Datasheet
    rows: OperatorTable
    vector: Vector


def learn_priors(tables: Mapping[str, TableSet], profiles: Mapping[str, HardwareProfile]) -> Learned:
    """Learn the priors of the datasheet tier.

    Parameters
    ----------
    tables, profiles
        By key of the device.
    """
    learned = Learned({}, {}, {})
    for key in sorted({key for entry in tables.values() for key in entry.tables}):
        kind, _, dtype = key.partition("/")
        by_law = {
            law.name: _members(key, law, tables, profiles)
            for law in laws_for(kind, dtype.partition("+")[0], device_kind="cuda")
        }
        known = {name: members for name, members in by_law.items() if len(_architectures(members)) >= _LEAST_DEVICES}
        if not known:
            continue
        general = _general(known)
        learned.general[key] = general
        for architecture in _architectures([member for members in known.values() for member in members]):
            inside = _of(known, architecture)
            learned.architectures.setdefault(architecture, {})[key] = _of_architecture(inside, general)
        learned.left_out[key] = _left_out(known)
    return learned


def _architectures(members: Iterable[_Member]) -> list[str]:
    return sorted({member.architecture for member in members})


def _of(by_law: Mapping[str, list[_Member]], architecture: str, *, but: str = "") -> dict[str, list[_Member]]:
    """Members of one architecture, but for one device, of the laws that fit any."""
    chosen = {
        name: [member for member in members if member.architecture == architecture and member.key != but]
        for name, members in by_law.items()
    }
    return {name: members for name, members in chosen.items() if members}


def _general(by_law: Mapping[str, list[_Member]]) -> LawFit:
    """Prior of the law that predicts architectures left out best."""
    errors = {
        name: [
            _errors(member, law_named(name), _mean([m for m in members if m.architecture != member.architecture]))
            for member in members
        ]
        for name, members in by_law.items()
    }
    best = min(errors, key=lambda name: _typical(errors[name]))
    return _prior(law_named(best), by_law[best], _mean(by_law[best]), _spread(errors[best]))


def _of_architecture(by_law: Mapping[str, list[_Member]], general: LawFit) -> LawFit:
    """Prior of the law by which the devices of one architecture predict each other best."""
    errors = {
        name: [
            _errors(member, law_named(name), _mean([m for m in members if m is not member] or members))
            for member in members
        ]
        for name, members in by_law.items()
    }
    best = min(errors, key=lambda name: _typical(errors[name]))
    members = by_law[best]
    spread = min(_spread(errors[best]) * _widened(len(members)), general.residual_log_sd)
    return _prior(law_named(best), members, _mean(members), spread)


def _widened(devices: int) -> float:
    """Factor on a spread that so few devices tell: Student's t over the normal quantile, infinite for one alone."""
    freedom = devices - 1
    return float(student.ppf(0.5 + _COVERED / 2, freedom)) / normal_quantile(_COVERED) if freedom else math.inf


def _prior(law: Law, members: Sequence[_Member], centre: Vector, spread: float) -> LawFit:
    deviations = np.array([member.vector for member in members])
    sds = np.std(deviations, axis=0, ddof=1) if len(members) > 1 else np.zeros(len(centre))
    values = coefficients_from_scale(law.parameters, centre)
    coefficients = {
        p.name: Coefficient(value=values[p.name], stderr=sd * values[p.name] if p.log else sd, source="fitted")
        for p, sd in zip(law.parameters, sds.tolist(), strict=True)
    }
    return LawFit(law=law.name, coefficients=coefficients, residual_log_sd=spread, rows=0)


def _members(
    key: str, law: Law, tables: Mapping[str, TableSet], profiles: Mapping[str, HardwareProfile]
) -> list[_Member]:
    found = (
        _member(key, law, device, entry, profiles[device].datasheet)
        for device, entry in tables.items()
        if key in entry.tables
    )
    return [member for member in found if member is not None]


def _member(key: str, law: Law, device: str, entry: TableSet, sheet: Datasheet) -> _Member | None:
    selected = select_domain(entry).tables.get(key)
    if selected is None:
        return None
    try:
        sample, _ = sample_table(selected, sampling_law(selected.op.kind), sheet)
        fit = fit_law(sample, law, sheet)
    except FitError:
        return None
    rows, _ = sample_table(selected, sampling_law(selected.op.kind), sheet, count=_ROWS_SCORED, seed=1)
    vector = coefficients_to_scale(law.parameters, fit.values)
    return _Member(device, sheet.architecture or device, sheet, rows, vector)


def _mean(members: Sequence[_Member]) -> Vector:
    """Median over architectures of the mean over their members: one odd device does not move it."""
    means = [
        np.mean([m.vector for m in members if m.architecture == architecture], axis=0)
        for architecture in _architectures(members)
    ]
    return np.asarray(np.median(means, axis=0))


def _errors(member: _Member, law: Law, vector: Vector) -> Vector:
    values = coefficients_from_scale(law.parameters, vector)
    predicted_s = law.time_s(member.rows.op, values, member.datasheet)
    return np.asarray(np.log(predicted_s / member.rows.latency_s))


def _typical(errors: Sequence[Vector]) -> float:
    """Median error of a device, averaged over devices."""
    return float(np.mean([np.median(np.abs(error)) for error in errors]))


def _spread(errors: Sequence[Vector]) -> float:
    """Standard deviation whose interval covers nine tenths, each device counting the same."""
    rng = np.random.default_rng(0)
    even = np.concatenate([rng.choice(np.abs(error), _ROWS_SCORED) for error in errors])
    return float(np.quantile(even, _COVERED) / normal_quantile(_COVERED))


def _left_out(by_law: Mapping[str, list[_Member]]) -> dict[str, LeftOut]:
    """Leave one device out of everything, and predict it as one that nobody calibrated."""
    scores = {}
    devices = {member.key: member.architecture for members in by_law.values() for member in members}
    for device, architecture in sorted(devices.items()):
        others = {name: [m for m in members if m.key != device] for name, members in by_law.items()}
        known = {name: m for name, m in others.items() if len(_architectures(m)) >= _LEAST_DEVICES}
        if not known:
            continue
        general = _general(known)
        siblings = _of(by_law, architecture, but=device)
        prior = _of_architecture(siblings, general) if siblings else general
        law = law_named(prior.law)
        member = next((m for m in by_law[law.name] if m.key == device), None)
        if member is None:
            continue
        error = _errors(member, law, coefficients_to_scale(law.parameters, prior.values))
        half_width = normal_quantile(_COVERED) * prior.residual_log_sd
        scores[device] = LeftOut(
            law=law.name,
            siblings=max(map(len, siblings.values()), default=0),
            median_ape=float(np.median(np.abs(np.expm1(error)))),
            coverage=float(np.mean(np.abs(error) <= half_width)),
            half_width=float(np.sinh(half_width)),
        )
    return scores
