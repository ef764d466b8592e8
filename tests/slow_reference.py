"""Prediction as one reads it in docs/equations.md: one operator, one decode step, one coefficient at a time.

The oracle of the vectorised paths in ``costmodel.operator_times`` and ``costmodel.sweeping``. It shares the operators
and the laws with them, and nothing else.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np

from costmodel import program
from costmodel.estimate import Estimate, total
from costmodel.laws import law_named
from costmodel.laws.fitted import fitted_time_s
from costmodel.laws.interval import coefficients_from_scale, coefficients_to_scale
from costmodel.ops import Op, op_key
from costmodel.pricing import component_time_s
from costmodel.profiles import EngineProfile, HardwareProfile, LawFit, SliceProfile
from costmodel.program import Component, Options, Stage
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

__all__ = ["reference_log_sd", "reference_stages"]

_NODES = 6
_STEP = 0.5


def reference_stages(
    model: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    workload: Workload,
    priors: dict[str, LawFit],
    options: Options,
) -> dict[str, Estimate]:
    """Estimates of the four stages of a request."""
    slices = hardware.slice_of(model.fingerprint(), engine=engine.key, dtype=options.dtype)
    usable = options.num_devices == 1 and options.quantization == "none"
    price = _Reference(hardware, engine, slices if usable else None, priors)
    batch, cached = workload.batch, workload.cached_prefix_tokens
    layouts = program.image_layouts(model, workload.images)
    prompt = workload.prompt_tokens + sum(x.visual_tokens + x.extra_text_tokens for x in layouts)
    cross = program.cross_tokens(layouts, options)
    chunks = program.prefill_chunks(
        model, new_tokens=prompt - cached, cached_tokens=cached, batch=batch, options=options, cross_tokens=cross
    )
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    steps = workload.output_tokens - 1
    decode = [
        price.stage(
            program.decode_step(
                model,
                context_tokens=prompt + 0.5 + steps * (float(node) + 1) / 2,
                batch=batch,
                options=options,
                cross_tokens=cross,
            )
        ).scaled(steps * float(weight) / 2)
        for node, weight in zip(nodes, weights, strict=True)
    ]
    pictures = workload.images * batch, layouts * batch
    return {
        "preprocess": price.preprocess(program.preprocess(*pictures), sum(x.resized_pixels for x in pictures[1])),
        "encode": price.stage(program.encode(model, layouts, batch=batch, options=options)),
        "prefill": total(price.stage(chunk) for chunk in chunks),
        "decode": total(decode),
    }


class _Reference:
    def __init__(
        self,
        hardware: HardwareProfile,
        engine: EngineProfile,
        slices: SliceProfile | None,
        priors: dict[str, LawFit],
    ) -> None:
        self.hardware, self.engine, self.slices, self.priors = hardware, engine, slices, priors

    def stage(self, stage: Stage) -> Estimate:
        sliced = [c for c in stage.components if self.slices and c.name in self.slices.components]
        rest = [c for c in stage.components if c not in sliced]
        return total([*map(self._slice, sliced), *([self._with_host(stage.name, rest)] if rest else [])])

    def preprocess(self, stage: Stage, resized_pixels: float) -> Estimate:
        """Equation 16."""
        (component,) = stage.components
        if self.slices and component.name in self.slices.components:
            return self._slice(component)
        host, sizes = self.engine, component.features
        terms = [
            (host.request_s, sizes["requests"]),
            (host.image_s, sizes["images"]),
            (host.megapixel_s, sizes["megapixels"]),
        ]
        link = self.hardware.datasheet.host_link_bytes_per_s
        copied_s = resized_pixels * 3 * 4 / link if link else 0.0
        value = sum(c.value * size for c, size in terms) + copied_s
        return Estimate(value, {f"host:{i}": c.stderr * size for i, (c, size) in enumerate(terms)})

    def _slice(self, component: Component) -> Estimate:
        """Equation 13."""
        assert self.slices is not None
        fit = self.slices.components[component.name]
        value = component_time_s({n: c.value for n, c in fit.coefficients.items()}, component.features)
        sizes = np.array([float(component.features[name]) for name in fit.coefficients])
        sd = math.sqrt(float(sizes @ np.array(fit.covariance) @ sizes) + (float(value) * fit.residual_log_sd) ** 2)
        source = f"slice:{self.slices.fingerprint}:{component.name}"
        return Estimate(value, {source: sd}).scaled(component.count)

    def _with_host(self, name: str, components: list[Component]) -> Estimate:
        """Equations 11, 14 and 15."""
        engine, launches = self.engine, sum(c.count * op.launches for c in components for op in c.ops)
        device = self._device(components)
        free = self.hardware.datasheet.kind == "cpu" or name in engine.graph_captured
        launch_s = 0.0 if free else engine.launch_s.value * launches
        step_s = 0.0 if name == "encode" else engine.step_s.value
        q, device_s = engine.overlap, float(device.value_s)
        high, low = max(device_s, launch_s), min(device_s, launch_s)
        overlapped = high * (1 + (low / high) ** q) ** (1 / q) if high > 0 else 0.0
        weight = (device_s / overlapped) ** (q - 1) if overlapped > 0 else 0.0
        sd = {source: part * weight for source, part in device.sd_s.items()}
        if engine.launch_s.value:
            sd["host:launch"] = overlapped * (1 - weight) * engine.launch_s.stderr / engine.launch_s.value
        sd["host:step"] = engine.step_s.stderr if step_s else 0.0
        return Estimate(step_s + overlapped, sd)

    def _device(self, components: list[Component]) -> Estimate:
        times: dict[str, list[tuple[float, Op]]] = defaultdict(list)
        for component in components:
            for op in component.ops:
                fit = self._fit(op)
                time_s = float(fitted_time_s(fit, op, self.hardware.datasheet))
                times[op_key(op)].append((time_s * component.count, op))
        parts = []
        for key, timed in times.items():
            _, heaviest = max(timed, key=lambda entry: entry[0])
            value = sum(time_s for time_s, _ in timed)
            parts.append(Estimate(value, {key: value * reference_log_sd(self._fit(heaviest), heaviest, self.hardware)}))
        return total(parts)

    def _fit(self, op: Op) -> LawFit:
        names = (op_key(op), f"{op.kind}/{op.dtype}", op.kind)
        of_engine = self.engine.device_kernels.get(self.hardware.key, {})
        known = (of_engine, self.hardware.laws, self.engine.kernels, self.priors)
        return next(laws[name] for laws in known for name in names if name in laws)


def reference_log_sd(fit: LawFit, op: Op, hardware: HardwareProfile) -> float:
    """Equation 55, one coefficient moved at a time."""
    law, covariance = law_named(fit.law), np.array(fit.covariance)
    if covariance.size == 0:
        return fit.residual_log_sd
    centre = coefficients_to_scale(law.parameters, fit.values)
    slopes = []
    for index, parameter in enumerate(law.parameters):
        low, high = (math.log(x) if parameter.log else x for x in (parameter.low, parameter.high))
        step = _STEP * math.sqrt(covariance[index, index])
        ends = max(centre[index] - step, low), min(centre[index] + step, high)
        logs = []
        for end in ends:
            moved = centre.copy()
            moved[index] = end
            values = coefficients_from_scale(law.parameters, moved)
            logs.append(math.log(float(law.time_s(op, values, hardware.datasheet))))
        # A coefficient that is known exactly has no slope.
        slopes.append((logs[1] - logs[0]) / (ends[1] - ends[0]) if ends[1] > ends[0] else 0.0)
    slope = np.array(slopes)
    return math.hypot(math.sqrt(max(float(slope @ covariance @ slope), 0.0)), fit.residual_log_sd)
