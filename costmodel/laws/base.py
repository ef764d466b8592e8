"""What a latency law is: a function of an operator, a few coefficients and the device's datasheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from costmodel.ops import Num, Op

__all__ = ["Law", "Parameter", "Peaks", "Terms", "smooth_max"]

_TINY = float(np.finfo(float).tiny)


class Peaks(Protocol):
    """What a law may ask of a device: its datasheet."""

    @property
    def memory_bytes_per_s(self) -> float:
        """Peak rate of the memory."""

    @property
    def cache_bytes(self) -> float:
        """Size of the last cache before the memory."""

    @property
    def multiprocessors(self) -> int:
        """Processors that a kernel's blocks are spread over."""

    @property
    def link_bytes_per_s(self) -> float | None:
        """Peak rate to a peer device, one direction."""

    @property
    def host_link_bytes_per_s(self) -> float | None:
        """Peak rate to the host, one direction."""

    def flops_per_s(self, dtype: str) -> float:
        """Peak rate at a number format; a typed error where the datasheet has none."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One coefficient of a law.

    Attributes
    ----------
    start, low, high
        Start value and bounds of a fit.
    log
        Whether a fit moves its logarithm; the covariance is in the same scale.
    prior_sd
        Spread of the weak prior around ``start``, in the fit's scale.
    """

    name: str
    unit: str
    start: float
    low: float
    high: float
    log: bool = True
    prior_sd: float = 0.7


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of a predicted time, in seconds."""

    total_s: Num
    compute_s: Num
    memory_s: Num


@dataclass(frozen=True, slots=True)
class Law:
    """A named law.

    Attributes
    ----------
    parameters
        Coefficients, in order; efficiencies are relative to the datasheet, so that they carry over between devices.
    terms
        ``terms(op, coefficients, peaks)``; broadcasts over the operator's sizes and never falls when a size grows.
    """

    name: str
    equation: str
    parameters: tuple[Parameter, ...]
    terms: Callable[[Op, Mapping[str, float], Peaks], Terms]

    def time_s(self, op: Op, coefficients: Mapping[str, float], peaks: Peaks) -> Num:
        """Time of one execution, in seconds."""
        return self.terms(op, coefficients, peaks).total_s


def smooth_max(x: Num, y: Num, sharpness: float) -> Num:
    """``(x^q + y^q)^(1/q)``: the sum at q = 1, the maximum as q grows (equation 11); safe for tiny arguments."""
    largest = np.maximum(np.maximum(x, y), _TINY)
    ratio = np.minimum(x, y) / largest
    return largest * (1.0 + ratio**sharpness) ** (1 / sharpness)
