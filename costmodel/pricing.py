"""Time of a stage: each component by its slice where one was calibrated, else operator by operator by the laws."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from costmodel.errors import ProfileError
from costmodel.estimate import Estimate, total
from costmodel.laws import law_named
from costmodel.laws.base import smooth_max
from costmodel.laws.interval import prediction_log_sd
from costmodel.ops import Num, Op, op_key, plain_name
from costmodel.profiles import (
    ComponentFit,
    EngineProfile,
    HardwareProfile,
    LawFit,
    SliceProfile,
)
from costmodel.program import Component, Stage

__all__ = ["Bound", "Pricer", "component_time_s"]

Bound = Literal["compute", "memory", "host", "none"]

_PRIORS = Path(__file__).parent.parent / "hardware_profiles" / "priors.json"

# How far beyond its calibrated sizes a component may be used without a warning.
_EXTRAPOLATION_FACTOR = 1.25


@cache
def _priors() -> Mapping[str, LawFit]:
    content = json.loads(_PRIORS.read_bytes())
    return {key: LawFit.model_validate(fit) for key, fit in content["laws"].items()}


def _usable(key: str, fit: LawFit) -> LawFit:
    """The fit, where it has the coefficients that its law needs."""
    parameters = law_named(fit.law).parameters
    if set(fit.coefficients) != {parameter.name for parameter in parameters}:
        expected = ", ".join(parameter.name for parameter in parameters)
        raise ProfileError(f"laws.{key}: got {', '.join(fit.coefficients) or 'nothing'}; {fit.law} has {expected}")
    for parameter in parameters:
        if parameter.log and fit.coefficients[parameter.name].value == 0:
            raise ProfileError(f"laws.{key}: {parameter.name} is 0, expected more")
    return fit


def component_time_s(coefficients: Mapping[str, float], features: Mapping[str, Num]) -> Num:
    """Linear law of a slice (equation 13): Σ coefficient · feature.

    Parameters
    ----------
    coefficients
        Seconds per unit of each feature.
    features
        Sizes of the component, see :class:`~costmodel.program.Component`.

    Raises
    ------
    ProfileError
        If a coefficient belongs to a feature that the component does not have.
    """
    unknown = sorted(set(coefficients) - set(features))
    if unknown:
        raise ProfileError(f"slice feature(s) {unknown} unknown; expected some of {sorted(features)}")
    return sum((features[name] * coefficient for name, coefficient in coefficients.items()), start=np.float64(0.0))


@dataclass
class Pricer:
    """Prices stages on one device under one engine.

    Attributes
    ----------
    sources
        Filled while pricing: coefficient group → tier that was used.
    """

    hardware: HardwareProfile
    engine: EngineProfile
    slices: SliceProfile | None
    sources: dict[str, str] = field(default_factory=dict)
    _warnings: list[str] = field(default_factory=list)

    @property
    def warnings(self) -> list[str]:
        """What the caller should know, each once."""
        priors = sorted(group for group, tier in self.sources.items() if tier == "datasheet")
        if not priors:
            return list(self._warnings)
        uncalibrated = (
            f"{self.hardware.key} has no calibration of {', '.join(priors)}: datasheet priors, wider intervals"
        )
        return [uncalibrated, *self._warnings]

    def stage(self, stage: Stage) -> Estimate:
        """Time of one execution of a stage.

        Components without a slice share the host: their launches overlap with their operators, and each forward pass
        costs ``step_s`` (equation 15). Slices contain their share of the host already.
        """
        sliced = [component for component in stage.components if self._fit_of(component) is not None]
        priced = [component for component in stage.components if self._fit_of(component) is None]
        parts = [self._slice(component) for component in sliced]
        if priced:
            device = self._operators(priced)
            parts.append(self._with_host(stage.name, device, self._launches(priced)))
        return total(parts)

    def preprocess(self, stage: Stage, copied_bytes: float) -> Estimate:
        """Host work before the device starts (equation 16)."""
        (component,) = stage.components
        if self._fit_of(component) is not None:
            return self._slice(component)
        engine, sizes = self.engine, component.features
        terms = (
            (engine.request_s, sizes["requests"]),
            (engine.image_s, sizes["images"]),
            (engine.megapixel_s, sizes["megapixels"]),
        )
        value = sum((c.value * size for c, size in terms), start=np.float64(0.0))
        link = self.hardware.datasheet.host_link_bytes_per_s
        value = value + (copied_bytes / link if link else 0.0)
        sd = {f"host:{i}": c.stderr * size for i, (c, size) in enumerate(terms)}
        self._source("preprocess", f"engine ({engine.megapixel_s.source})")
        return Estimate(value, sd)

    def bound(self, stage: Stage) -> Bound:
        """What the stage would wait for, by the operator laws: the largest of the three sums."""
        compute, memory = np.float64(0.0), np.float64(0.0)
        for component in stage.components:
            for op in component.ops:
                fit, _ = self._law_fit(op)
                terms = law_named(fit.law).terms(op, fit.values, self.hardware.datasheet)
                compute += component.count * float(np.mean(terms.compute_s))
                memory += component.count * float(np.mean(terms.memory_s))
        if compute == memory == 0:
            return "none"
        host = self._launches(stage.components) + self._step_s(stage.name)
        if host > max(compute, memory):
            return "host"
        return "compute" if compute > memory else "memory"

    def _launches(self, components: list[Component] | tuple[Component, ...]) -> float:
        count = sum(component.count * op.launches for component in components for op in component.ops)
        # On a CPU the launch is part of the measured operator: host and device are the same thread.
        launch_s = 0.0 if self.hardware.datasheet.kind == "cpu" else self.engine.launch_s.value
        return count * launch_s

    def _step_s(self, stage_name: str) -> float:
        return 0.0 if stage_name == "encode" else self.engine.step_s.value

    def _with_host(self, stage_name: str, device: Estimate, launches_s: float) -> Estimate:
        overlapped = smooth_max(device.value_s, np.float64(launches_s), self.engine.overlap)
        share = device.value_s / np.maximum(overlapped, np.finfo(float).tiny)
        device_weight = share ** (self.engine.overlap - 1)
        sd = {source: part * device_weight for source, part in device.sd_s.items()}
        step, launch = self.engine.step_s, self.engine.launch_s
        if launch.value:
            sd["host:launch"] = overlapped * (1 - device_weight) * launch.stderr / launch.value
        sd["host:step"] = np.float64(step.stderr if self._step_s(stage_name) else 0.0)
        self._source(f"{stage_name} host", f"engine ({step.source})")
        return Estimate(self._step_s(stage_name) + overlapped, sd)

    def _operators(self, components: Sequence[Component]) -> Estimate:
        """Operators of a stage, by law; all operators of one law share its error (equation 14).

        The spread of a law (equation 55) is taken at the operator that takes most of the time.
        """
        groups: dict[str, list[tuple[Op, Num]]] = defaultdict(list)
        for component in components:
            for op in component.ops:
                groups[op_key(op)].append((op, self._time_s(op) * component.count))
        return total(self._group(key, timed) for key, timed in groups.items())

    def _group(self, key: str, timed: Sequence[tuple[Op, Num]]) -> Estimate:
        value = sum((seconds for _, seconds in timed), start=np.float64(0.0))
        heaviest, _ = max(timed, key=lambda entry: float(np.mean(entry[1])))
        fit, tier = self._law_fit(heaviest)
        self.sources[key] = tier
        log_sd = prediction_log_sd(law_named(fit.law), fit, heaviest, self.hardware.datasheet)
        return Estimate(value, {key: value * log_sd})

    def _time_s(self, op: Op) -> Num:
        fit, _ = self._law_fit(op)
        try:
            return law_named(fit.law).time_s(op, fit.values, self.hardware.datasheet)
        except TypeError as error:
            raise ProfileError(f"laws.{op_key(op)}: {fit.law} is a law of other operators: {error}") from None

    def _law_fit(self, op: Op) -> tuple[LawFit, str]:
        """The device's own law of this operator or of its kind; where it has none, the prior."""
        keys = (op_key(op), f"{op.kind}/{plain_name(op.dtype)}", op.kind)
        for key in keys:
            if key in self.hardware.laws:
                return _usable(key, self.hardware.laws[key]), "kernels"
        for key in keys:
            if key in _priors():
                return _priors()[key], "datasheet"
        raise ProfileError(f"no law for operator {op.kind!r} at dtype {op.dtype!r} in {self.hardware.key}")

    def _fit_of(self, component: Component) -> ComponentFit | None:
        return self.slices.components.get(component.name) if self.slices else None

    def _slice(self, component: Component) -> Estimate:
        fit = self._fit_of(component)
        if fit is None or self.slices is None:
            raise ProfileError(f"component {component.name!r} has no slice")
        self._check_range(component, fit)
        self._source(component.name, "slices")
        coefficients = {name: coefficient.value for name, coefficient in fit.coefficients.items()}
        value = component_time_s(coefficients, component.features)
        features = np.stack(np.broadcast_arrays(*(component.features[name] for name in fit.coefficients)))
        variance = np.einsum("i...,ij,j...->...", features, np.array(fit.covariance), features)
        sd = np.sqrt(np.maximum(variance, 0.0) + (value * fit.residual_log_sd) ** 2)
        return Estimate(value, {f"slice:{self.slices.fingerprint}:{component.name}": sd}).scaled(component.count)

    def _check_range(self, component: Component, fit: ComponentFit) -> None:
        for name, highest in fit.highest.items():
            if name not in component.features:
                expected = sorted(component.features)
                raise ProfileError(f"slice {component.name}: highest.{name} unknown; expected some of {expected}")
            largest = float(np.max(component.features[name]))
            if largest > highest * _EXTRAPOLATION_FACTOR:
                self.warn(f"{component.name}: {name} is {largest:.4g}, calibrated up to {highest:.4g}; extrapolated")

    def warn(self, text: str) -> None:
        """Add a warning once."""
        if text not in self._warnings:
            self._warnings.append(text)

    def _source(self, group: str, tier: str) -> None:
        self.sources[group] = tier
