"""What the fit of an engine may move: host terms, and how well its kernels use a device.

A term knows its prior and how it is put into an engine, nothing else: what it does to a run is asked of the prediction.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.laws import law_named
from costmodel.laws.base import Parameter
from costmodel.laws.interval import coefficients_from_scale, coefficients_to_scale
from costmodel.profiles import Coefficient, EngineProfile, LawFit, Source

__all__ = [
    "HOST_TERMS",
    "Free",
    "LawUse",
    "host_terms",
    "kernel_terms",
    "pooled",
    "with_coefficients",
    "with_positions",
]

HOST_TERMS = ("step_s", "megapixel_s", "image_s", "request_s")
"""Host terms that a prediction is linear in."""

_MOVED = ("fixed_s", "latency_s", "compute_efficiency", "memory_efficiency")
# How far kernels of one version of a stack are off those of another's tables; start-up costs differ more than rates.
_OTHER_VERSION_SD = {"fixed_s": 0.2, "compute_efficiency": 0.05, "memory_efficiency": 0.05}
# A prior learned from a few devices is not taken to be sharper than this.
_LEAST_SD = 0.1
_ROOM = 1e-9


@dataclass(frozen=True, slots=True)
class LawUse:
    """A law that runs on one device were predicted with.

    Attributes
    ----------
    tier
        Where it came from.
    groups
        Groups of runs that use it.
    """

    hardware: str
    key: str
    law: LawFit
    tier: str
    groups: set[str]

    def serves(self, group: str) -> bool:
        """Whether runs of a group use it."""
        return group in self.groups


@dataclass(frozen=True, slots=True)
class Free:
    """One number that the fit moves.

    Attributes
    ----------
    field
        Its name in the engine, or in the law.
    start
        In the scale of the fit: seconds of a host term, the logarithm of a kernel's coefficient.
    prior_sd
        Spread of the prior around ``start``; infinite where there is none.
    use
        Law that it belongs to; ``None`` for a host term.
    """

    field: str
    start: float
    prior_sd: float
    low: float
    high: float
    use: LawUse | None = None

    @property
    def name(self) -> str:
        """As tables show it."""
        return self.field if self.use is None else f"{self.use.hardware} {self.use.key} {self.field}"

    def coefficient(self, position: float, sd: float, source: Source) -> Coefficient:
        """The number, from its place in the scale of the fit."""
        value = position if self.use is None else float(np.exp(position))
        return Coefficient(value=value, stderr=sd if self.use is None else value * sd, source=source)


def host_terms(start: EngineProfile) -> list[Free]:
    """Host terms of an engine, without priors."""
    return [Free(name, getattr(start, name).value, np.inf, 0.0, np.inf) for name in HOST_TERMS]


def kernel_terms(uses: Iterable[LawUse]) -> list[Free]:
    """Rates and shortest times of the laws that runs were predicted with."""
    return [
        _kernel_term(use, parameter)
        for use in sorted(uses, key=lambda use: (use.hardware, use.key))
        for parameter in law_named(use.law.law).parameters
        if parameter.name in _MOVED
    ]


def _kernel_term(use: LawUse, parameter: Parameter) -> Free:
    coefficient = use.law.coefficients[parameter.name]
    if use.tier == "kernels":
        sd = _OTHER_VERSION_SD[parameter.name]
    else:
        sd = max(coefficient.stderr / coefficient.value, _LEAST_SD)
    low, start, high = np.log([parameter.low, coefficient.value, parameter.high]).tolist()
    return Free(parameter.name, start, sd, min(low, start) - _ROOM, max(high, start) + _ROOM, use)


def with_positions(engine: EngineProfile, free: Sequence[Free], positions: Sequence[float]) -> EngineProfile:
    """The engine with these numbers in it, their errors unknown."""
    found = [term.coefficient(position, 0.0, "fitted") for term, position in zip(free, positions, strict=True)]
    return with_coefficients(engine, free, found)


def with_coefficients(engine: EngineProfile, free: Sequence[Free], found: Sequence[Coefficient]) -> EngineProfile:
    """The engine with these numbers in it."""
    host: dict[str, Coefficient] = {}
    laws = {hardware: dict(of_device) for hardware, of_device in engine.device_kernels.items()}
    for term, coefficient in zip(free, found, strict=True):
        if term.use is None:
            host[term.field] = coefficient
            continue
        of_device = laws.setdefault(term.use.hardware, {})
        law = of_device.get(term.use.key) or _bare(term.use.law)
        coefficients = {**law.coefficients, term.field: coefficient}
        of_device[term.use.key] = law.model_copy(update={"coefficients": coefficients})
    return engine.model_copy(update={**host, "device_kernels": laws})


def _bare(law: LawFit) -> LawFit:
    """A law whose errors are not those of its table any more; a correction needs the shapes that it is made of."""
    if law.correction is not None:
        return law.model_copy(update={"covariance": ()})
    return law.model_copy(update={"covariance": (), "fitted_on": {}, "rows": 0})


def unlearned(engine: EngineProfile) -> EngineProfile:
    """The engine without what runs showed of its kernels: its laws as their parameters assume them."""
    kernels = {
        key: assumed_law(fit.law) if any(c.source == "fitted" for c in fit.coefficients.values()) else fit
        for key, fit in engine.kernels.items()
    }
    return engine.model_copy(update={"kernels": kernels, "device_kernels": {}})


def assumed_law(name: str) -> LawFit:
    """A law as its parameters start, with the spread of their priors; a sharpness is a matter of form and stays."""
    sds = {p.name: 0.0 if p.name == "sharpness" else p.prior_sd for p in law_named(name).parameters}
    coefficients = {
        p.name: Coefficient(value=p.start, stderr=sds[p.name] * (p.start if p.log else 1.0), source="assumed")
        for p in law_named(name).parameters
    }
    covariance = tuple(tuple(row) for row in np.diag(np.square(list(sds.values()))).tolist())
    return LawFit(law=name, coefficients=coefficients, covariance=covariance, residual_log_sd=_LEAST_SD, rows=0)


def pooled(engine: EngineProfile) -> EngineProfile:
    """The engine's kernels on a device that showed none: mean and spread over the devices that did.

    Means are of logarithms. Where a single device showed a kernel, what was assumed of it counts as another one.
    """
    kernels = dict(engine.kernels)
    for key, assumed in engine.kernels.items():
        shown = [laws[key] for laws in engine.device_kernels.values() if key in laws and laws[key].law == assumed.law]
        if shown:
            kernels[key] = _mean_law(shown if len(shown) > 1 else [*shown, assumed])
    return engine.model_copy(update={"kernels": kernels})


def _mean_law(laws: Sequence[LawFit]) -> LawFit:
    law = law_named(laws[0].law)
    points = np.array([coefficients_to_scale(law.parameters, fit.values) for fit in laws])
    values = coefficients_from_scale(law.parameters, points.mean(axis=0))
    # A new device is one more draw; the mean is that of a few, each with an error of its own.
    own = np.mean([_log_sds(fit) ** 2 for fit in laws], axis=0)
    sds = np.sqrt(points.var(axis=0, ddof=1) * (1 + 1 / len(laws)) + own)
    scales = dict(zip(values, sds.tolist(), strict=True))
    coefficients = {
        p.name: Coefficient(
            value=values[p.name], stderr=scales[p.name] * (values[p.name] if p.log else 1.0), source="fitted"
        )
        for p in law.parameters
    }
    covariance: NDArray[np.float64] = np.diag(sds**2)
    return laws[0].model_copy(
        update={
            "coefficients": coefficients,
            "covariance": tuple(tuple(row) for row in covariance.tolist()),
            "residual_log_sd": float(np.sqrt(np.mean([fit.residual_log_sd**2 for fit in laws]))),
            "rows": sum(fit.rows for fit in laws),
        }
    )


def _log_sds(fit: LawFit) -> NDArray[np.float64]:
    """Standard errors of a law's coefficients, in the scale of the fit."""
    found = [(p.log, fit.coefficients[p.name]) for p in law_named(fit.law).parameters]
    return np.array([c.stderr / (c.value if log else 1.0) for log, c in found])
