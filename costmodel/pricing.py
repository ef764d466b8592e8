"""Time of a stage: each component by its slice where one was calibrated, else operator by operator by the laws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from costmodel.errors import ProfileError
from costmodel.estimate import Estimate, total
from costmodel.lawbook import law_book
from costmodel.laws.base import smooth_max
from costmodel.operator_times import OperatorTimes
from costmodel.ops import Num
from costmodel.profiles import DECODED, ComponentFit, EngineProfile, HardwareProfile, SliceProfile
from costmodel.program import Component, Stage

__all__ = ["Bound", "Priced", "Pricer", "component_time_s"]

Bound = Literal["compute", "memory", "host", "none"]

# How far beyond its calibrated sizes a component may be used without a warning.
_EXTRAPOLATION_FACTOR = 1.25


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


@dataclass(frozen=True, slots=True)
class Priced:
    """A stage and its time.

    Attributes
    ----------
    times, place
        Times of its operators that no slice covers, and which of the stages there it is.
    """

    stage: Stage
    estimate: Estimate
    times: OperatorTimes
    place: int


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
        """Time of one execution of a stage, see :meth:`stages`."""
        return self.stages([stage])[0].estimate

    def stages(self, stages: Sequence[Stage], *, errors: bool = True) -> list[Priced]:
        """Time of one execution of each stage.

        Components without a slice share the host: their launches overlap with their operators, and each forward pass
        costs ``step_s`` (equation 15). Slices contain their share of the host already.

        Parameters
        ----------
        errors
            Whether the sources of error are wanted: they take longer to work out than the times.
        """
        priced = [[c for c in stage.components if self._fit_of(c) is None] for stage in stages]
        times = OperatorTimes(law_book(self.hardware, self.engine), priced)
        found = []
        for place, stage in enumerate(stages):
            parts = [self._slice(c, errors=errors) for c in stage.components if self._fit_of(c) is not None]
            if priced[place]:
                self.sources.update(times.laws(place))
                device = times.estimate(place, errors=errors)
                parts.append(
                    self._with_host(stage.name, device, self._launches(stage.name, priced[place]), errors=errors)
                )
            found.append(Priced(stage, total(parts), times, place))
        return found

    def preprocess(self, stage: Stage, copied_bytes: Num, *, image_rule: str = "", errors: bool = True) -> Estimate:
        """Host work before the device starts (equation 16).

        Where the model's processor was measured on this host, and the engine's own terms for images are assumptions,
        the measurement takes their place.
        """
        (component,) = stage.components
        if self._fit_of(component) is not None:
            return self._slice(component, errors=errors)
        engine, sizes = self.engine, component.features
        measured = self._processors(image_rule) if np.any(sizes["images"]) else {}
        terms = [(engine.request_s, sizes["requests"])]
        if not measured:
            terms += [(engine.image_s, sizes["images"]), (engine.megapixel_s, sizes["megapixels"])]
        value = sum((c.value * size for c, size in terms), start=np.float64(0.0))
        link = self.hardware.datasheet.host_link_bytes_per_s
        value = value + (copied_bytes / link if link else 0.0)
        sd = {f"host:{i}": c.stderr * size for i, (c, size) in enumerate(terms)} if errors else {}
        if measured:
            self.sources["preprocess"] = "processors"
            parts = [self._linear(component, fit, f"processor:{name}", errors=errors) for name, fit in measured.items()]
            return total([Estimate(value, sd), *parts])
        self.sources["preprocess"] = f"engine ({engine.megapixel_s.source})"
        return Estimate(value, sd)

    def _processors(self, image_rule: str) -> Mapping[str, ComponentFit]:
        """Decoding and processor, where both were measured and the engine's terms were not."""
        found, engine = self.hardware.processors, self.engine
        names = (DECODED, image_rule)
        unknown = engine.image_s.source == engine.megapixel_s.source == "assumed"
        usable = unknown and engine.image_processor == "transformers" and all(name in found for name in names)
        return {name: found[name] for name in names} if usable else {}

    def bound(self, passes: Sequence[Priced]) -> Bound:
        """What the passes of a stage would wait for, by the operator laws: the largest of the three sums."""
        compute = memory = host = 0.0
        for priced in passes:
            sliced = [c for c in priced.stage.components if self._fit_of(c) is not None]
            for times, place in ((priced.times, priced.place), *self._times_of(sliced)):
                one, other = times.bound_s(place)
                compute, memory = compute + one, memory + other
            host += self._launches(priced.stage.name, priced.stage.components)
        if compute == memory == 0:
            return "none"
        if host + self._step_s(passes[0].stage.name) > max(compute, memory):
            return "host"
        return "compute" if compute > memory else "memory"

    def _times_of(self, sliced: Sequence[Component]) -> list[tuple[OperatorTimes, int]]:
        return [(OperatorTimes(law_book(self.hardware, self.engine), [sliced]), 0)] if sliced else []

    def _launches(self, stage_name: str, components: Sequence[Component]) -> float:
        if stage_name in self.engine.graph_captured:
            return 0.0
        count = sum(component.count * op.launches for component in components for op in component.ops)
        # On a CPU the launch is part of the measured operator: host and device are the same thread.
        launch_s = 0.0 if self.hardware.datasheet.kind == "cpu" else self.engine.launch_s.value
        return count * launch_s

    def _step_s(self, stage_name: str) -> float:
        return 0.0 if stage_name == "encode" else self.engine.step_s.value

    def _with_host(self, stage_name: str, device: Estimate, launches_s: float, *, errors: bool) -> Estimate:
        overlapped = smooth_max(device.value_s, np.float64(launches_s), self.engine.overlap)
        step, launch = self.engine.step_s, self.engine.launch_s
        self.sources[f"{stage_name} host"] = f"engine ({step.source})"
        value = self._step_s(stage_name) + overlapped
        if not errors:
            return Estimate(value)
        share = device.value_s / np.maximum(overlapped, np.finfo(float).tiny)
        device_weight = share ** (self.engine.overlap - 1)
        sd = {source: part * device_weight for source, part in device.sd_s.items()}
        if launch.value:
            sd["host:launch"] = overlapped * (1 - device_weight) * launch.stderr / launch.value
        sd["host:step"] = np.float64(step.stderr if self._step_s(stage_name) else 0.0)
        return Estimate(value, sd)

    def _fit_of(self, component: Component) -> ComponentFit | None:
        return self.slices.components.get(component.name) if self.slices else None

    def _slice(self, component: Component, *, errors: bool) -> Estimate:
        fit = self._fit_of(component)
        if fit is None or self.slices is None:
            raise ProfileError(f"component {component.name!r} has no slice")
        self.sources[component.name] = "slices"
        return self._linear(component, fit, f"slice:{self.slices.fingerprint}:{component.name}", errors=errors)

    def _linear(self, component: Component, fit: ComponentFit, source: str, *, errors: bool) -> Estimate:
        """Linear law of a component, all its runs sharing one error."""
        self._check_range(component, fit)
        coefficients = {name: coefficient.value for name, coefficient in fit.coefficients.items()}
        value = component_time_s(coefficients, component.features)
        if not errors:
            return Estimate(value).scaled(component.count)
        features = [component.features[name] for name in fit.coefficients]
        terms = (
            covariance * one * other
            for row, one in zip(fit.covariance, features, strict=True)
            for covariance, other in zip(row, features, strict=True)
        )
        variance = sum(terms, start=np.float64(0.0))
        sd = np.sqrt(np.maximum(variance, 0.0) + (value * fit.residual_log_sd) ** 2)
        return Estimate(value, {source: sd}).scaled(component.count)

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
