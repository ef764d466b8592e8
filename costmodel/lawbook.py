"""The law that prices each operator on a device: its own fit where there is one, else the prior of all devices."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np

from costmodel.errors import ProfileError
from costmodel.laws import law_named
from costmodel.laws.base import Law, Terms
from costmodel.laws.fitted import fitted_terms
from costmodel.laws.interval import Slopes
from costmodel.ops import Num, Op, op_key
from costmodel.priors import prior_laws
from costmodel.profiles import Datasheet, EngineProfile, HardwareProfile, LawFit

__all__ = ["FittedLaw", "LawBook", "law_book"]

# Pairs of device and engine whose laws stay looked up.
_PAIRS = 64


@dataclass(frozen=True)
class FittedLaw:
    """A law with its coefficients on one device.

    Attributes
    ----------
    key
        Of the operators that it prices, see :func:`~costmodel.ops.op_key`.
    tier
        Where the coefficients come from: ``requests`` (whole requests to this engine on this device), ``kernels`` (of
        the device), ``engine`` (whole requests to this engine on other devices), or ``datasheet`` for the prior.
    """

    key: str
    law: Law
    fit: LawFit
    tier: str
    peaks: Datasheet

    @cached_property
    def _slopes(self) -> Slopes:
        return Slopes.of(self.law, self.fit)

    def terms(self, op: Op) -> Terms:
        """Time of an operator, in its parts.

        Raises
        ------
        ProfileError
            If the profile gives this operator a law of other operators.
        """
        try:
            return fitted_terms(self.fit, op, self.peaks)
        except TypeError as error:
            raise ProfileError(f"laws.{self.key}: {self.law.name} is a law of other operators: {error}") from None

    def log_sd(self, op: Op) -> Num:
        """Standard deviation of log time of a new measurement of an operator (equation 55)."""
        coefficients = self._slopes.log_sd(self.law, op, self.peaks)
        return np.hypot(coefficients, self.fit.residual_log_sd)


@dataclass(frozen=True)
class LawBook:
    """Laws of one device under one engine, each looked up and checked once."""

    hardware: HardwareProfile
    engine: EngineProfile
    _found: dict[str, FittedLaw] = field(default_factory=dict)

    def law_of(self, op: Op) -> FittedLaw:
        """Find the law of an operator.

        Raises
        ------
        ProfileError
            If there is none, or the profile's is unusable.
        """
        key = op_key(op)
        if key not in self._found:
            self._found[key] = self._look_up(key, op)
        return self._found[key]

    def _look_up(self, key: str, op: Op) -> FittedLaw:
        names = (key, f"{op.kind}/{op.dtype}", op.kind)
        known = (
            ("requests", self.engine.device_kernels.get(self.hardware.key, {})),
            ("kernels", self.hardware.laws),
            ("engine", self.engine.kernels),
            ("datasheet", prior_laws(self.hardware.datasheet.architecture)),
        )
        for tier, laws in known:
            for name in names:
                if name in laws:
                    return FittedLaw(key, _law_of_fit(name, laws[name]), laws[name], tier, self.hardware.datasheet)
        raise ProfileError(f"no law for operator {op.kind!r} at dtype {op.dtype!r} in {self.hardware.key}")


def law_book(hardware: HardwareProfile, engine: EngineProfile) -> LawBook:
    """Laws of a device under an engine; what depends on the two profiles alone is worked out once."""
    return _book_of(_Pair(hardware, engine))


class _Pair:
    """Two profiles as a key: equal to themselves only, so that large profiles are never compared."""

    def __init__(self, hardware: HardwareProfile, engine: EngineProfile) -> None:
        self.hardware, self.engine = hardware, engine

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Pair) and other.hardware is self.hardware and other.engine is self.engine

    def __hash__(self) -> int:
        return hash((id(self.hardware), id(self.engine)))


@lru_cache(maxsize=_PAIRS)
def _book_of(pair: _Pair) -> LawBook:
    return LawBook(pair.hardware, pair.engine)


def _law_of_fit(name: str, fit: LawFit) -> Law:
    """Law of a fit, which must have the coefficients that the law needs."""
    law = law_named(fit.law)
    if set(fit.coefficients) != {parameter.name for parameter in law.parameters}:
        expected = ", ".join(parameter.name for parameter in law.parameters)
        raise ProfileError(f"laws.{name}: got {', '.join(fit.coefficients) or 'nothing'}; {fit.law} has {expected}")
    for parameter in law.parameters:
        if parameter.log and fit.coefficients[parameter.name].value == 0:
            raise ProfileError(f"laws.{name}: {parameter.name} is 0, expected more")
    return law
