"""A time with its sources of error.

Errors of one source are shared: a law that is 5 % too fast on one layer is 5 % too fast on all of them, so they add
up over layers and steps instead of averaging out. Different sources are independent (equation 14 of docs/equations).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from costmodel.ops import Num

__all__ = ["Estimate", "total"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """Seconds, and the standard deviation (seconds) that each source of error adds."""

    value_s: Num
    sd_s: Mapping[str, Num] = field(default_factory=dict)

    def scaled(self, factor: Num) -> Estimate:
        """``factor`` times as long, with the same relative error."""
        return self.mapped(lambda part: part * factor)

    def mapped(self, function: Callable[[Num], Num]) -> Estimate:
        """The same linear function of the value and of every error."""
        return Estimate(function(self.value_s), {source: function(sd) for source, sd in self.sd_s.items()})

    def averaged(self, weights: NDArray[np.float64]) -> Estimate:
        """Weighted sum over the last axis; what is the same for all weights need not have that axis."""

        def average(part: Num) -> Num:
            if np.ndim(part) == 0 or np.shape(part)[-1] != len(weights):
                return np.asarray(np.sum(part * weights, axis=-1))
            return np.asarray(part @ weights)

        return self.mapped(average)

    def on_device(self, run_log_sd: float, device_log_sd: float, *, run: str = "run") -> Estimate:
        """With what a run on one device of a kind adds: its drift, and how it differs from its like (equation 90)."""
        return self.with_shared_error(run, run_log_sd).with_shared_error("device", device_log_sd)

    def with_shared_error(self, source: str, log_sd: float) -> Estimate:
        """One more source, proportional to the whole time."""
        if log_sd == 0:
            return self
        return Estimate(self.value_s, {**self.sd_s, source: self.value_s * log_sd})

    def log_sd(self) -> Num:
        """Relative standard deviation over all sources."""
        variance = sum((sd**2 for sd in self.sd_s.values()), start=np.float64(0.0))
        return np.sqrt(variance) / np.maximum(self.value_s, np.finfo(float).tiny)


def total(estimates: Iterable[Estimate]) -> Estimate:
    """Sum: values add, errors of one source add, errors of different sources stay apart."""
    value: Num = np.float64(0.0)
    sd: dict[str, Num] = {}
    for estimate in estimates:
        value = value + estimate.value_s
        for source, part in estimate.sd_s.items():
            sd[source] = sd[source] + part if source in sd else part
    return Estimate(value, sd)
