"""The laws of one model behind one endpoint, from a dozen requests: prefill and decode, per layer.

Three coefficients of prefill (a constant, one per FLOP of the linear maps and so per token, one per FLOP of attention
and so per token squared) and two of decode (a constant, one per byte of context), as slices of the decoder's layers.
Steps of several requests together tell a third one of decode, per FLOP of the linear maps and so per request. What the
rest of the request costs is in the constants. A model with images gets the encoder and the pixels on top.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calibrate.check.endpoint_runs import MeasuredCase
from calibrate.fit.slices import Point, fit_component
from calibrate.measure.samples import Location, trimmed_location
from costmodel import program
from costmodel.errors import FitError
from costmodel.profiles import Coefficient, ComponentFit, EngineProfile, HardwareProfile, SliceProfile
from costmodel.program import Component, Options
from costmodel.specs.model import ModelSpec

__all__ = ["fit_endpoint", "with_slice"]

_LEAST_CASES = 5

# Which features of which components carry the time; those of a stage share their coefficients.
_PREFILL = {
    "preprocess": ("images", "megapixels"),
    "encode.block": ("gemm_flops", "attention_flops"),
    "prefill.decoder_layer": ("layers", "gemm_flops", "attention_flops"),
}
_DECODE = {"decode.decoder_layer": ("layers", "gemm_flops", "kv_bytes")}


@dataclass(frozen=True, slots=True)
class _Sizes:
    """Components of the stages of one request; a decode step as the mean over its steps."""

    before: tuple[Component, ...]
    step: tuple[Component, ...]


def fit_endpoint(cases: Sequence[MeasuredCase], model: ModelSpec, engine: EngineProfile, *, dtype: str) -> SliceProfile:
    """Fit the laws of a model to what a client saw.

    Raises
    ------
    FitError
        If there are too few requests, or all of one length.
    """
    used = [case for case in cases if not case.held_out]
    if len(used) < _LEAST_CASES:
        raise FitError(f"{len(used)} request(s) with usable times, expected {_LEAST_CASES} or more")
    options = Options(dtype=dtype, kv_dtype=dtype, fused=engine.fused)
    sizes = [_sizes(case, model, options) for case in used]
    alone = [(case, size) for case, size in zip(used, sizes, strict=True) if case.workload.batch == 1]
    first = [_location(case.ttft_s, 1) for case, _ in alone]
    decoded = [(case, size) for case, size in zip(used, sizes, strict=True) if case.workload.output_tokens > 1]
    steps = [_location(case.decode_s, case.workload.output_tokens - 1) for case, _ in decoded]
    components = {
        **_fit(f"{model.name} prefill", [size.before for _, size in alone], first, _PREFILL),
        **_fit(f"{model.name} decode", [size.step for _, size in decoded], steps, _DECODE),
    }
    every = {component.name: component for size in sizes for component in (*size.before, *size.step)}
    free = {name: _free(component) for name, component in every.items() if name not in components}
    return SliceProfile(
        model=model.name,
        fingerprint=model.fingerprint(),
        engine=engine.key,
        dtype=dtype,
        components={**free, **components},
    )


def _sizes(case: MeasuredCase, model: ModelSpec, options: Options) -> _Sizes:
    request = case.workload
    layouts = program.image_layouts(model, request.images)
    prompt = float(request.prompt_tokens + sum(i.visual_tokens + i.extra_text_tokens for i in layouts))
    before = (
        *program.preprocess(request.images, layouts).components,
        *program.encode(model, layouts, batch=1, options=options).components,
        *program.prefill(model, new_tokens=prompt, cached_tokens=0.0, batch=1, options=options).components,
    )
    contexts = prompt + np.arange(1.0, max(request.output_tokens, 2), dtype=np.float64)
    decode = program.decode_step(model, context_tokens=contexts, batch=request.batch, options=options)
    step = tuple(
        Component(c.name, c.count, c.ops, {name: float(np.mean(size)) for name, size in c.features.items()})
        for c in decode.components
    )
    return _Sizes(before, step)


def _location(times_s: Sequence[float], steps: int) -> Location:
    """Trimmed mean of the repeats, per step: what the check compares with, for the noise is one-sided."""
    return trimmed_location(time_s / steps for time_s in times_s)


def _kind(component: Component, carriers: Mapping[str, tuple[str, ...]]) -> str | None:
    """The carrier that a component belongs to: groups of layers are numbered."""
    return next((name for name in carriers if component.name == name or component.name.startswith(f"{name}_")), None)


def _fit(
    label: str,
    requests: Sequence[tuple[Component, ...]],
    locations: Sequence[Location],
    carriers: Mapping[str, tuple[str, ...]],
) -> dict[str, ComponentFit]:
    """One non-negative fit over all carriers; then each component gets its part of it."""
    points = [
        Point(_joint_features(components, carriers), location)
        for components, location in zip(requests, locations, strict=True)
    ]
    joint = fit_component(label, points)
    names = list(joint.coefficients)
    parts: dict[str, ComponentFit] = {}
    for component in {c.name: c for components in requests for c in components}.values():
        kind = _kind(component, carriers)
        own = [name for name in names if kind is not None and name.startswith(f"{kind}:")]
        if not own:
            continue
        rows = [names.index(name) for name in own]
        covariance = np.array(joint.covariance)[np.ix_(rows, rows)]
        seen = [c.features for components in requests for c in components if c.name == component.name]
        short = [name.partition(":")[2] for name in own]
        sizes = carriers[kind] if kind is not None else ()
        parts[component.name] = joint.model_copy(
            update={
                "coefficients": {s: joint.coefficients[name] for s, name in zip(short, own, strict=True)},
                "covariance": tuple(map(tuple, covariance.tolist())),
                "lowest": {name: float(min(np.min(f[name]) for f in seen)) for name in sizes},
                "highest": {name: float(max(np.max(f[name]) for f in seen)) for name in sizes},
            }
        )
    return parts


def _joint_features(components: Sequence[Component], carriers: Mapping[str, tuple[str, ...]]) -> dict[str, float]:
    """Sums over the components of each carrier, the constant first."""
    features = {f"{kind}:{name}": 0.0 for kind in reversed(list(carriers)) for name in carriers[kind]}
    for component in components:
        kind = _kind(component, carriers)
        for name in carriers[kind] if kind else ():
            features[f"{kind}:{name}"] += component.count * float(component.features[name])
    return features


def _free(component: Component) -> ComponentFit:
    """A component whose time is in the constants of the others."""
    zero = Coefficient(value=0.0, stderr=0.0, source="fitted")
    feature = next(iter(component.features))
    return ComponentFit(
        coefficients={feature: zero}, covariance=((0.0,),), residual_log_sd=0.0, rows=0, lowest={}, highest={}
    )


def with_slice(hardware: HardwareProfile, fitted: SliceProfile) -> HardwareProfile:
    """The profile with these slices in the place of older ones of the same model, engine and number format."""
    key = (fitted.fingerprint, fitted.engine, fitted.dtype)
    others = [entry for entry in hardware.slices if (entry.fingerprint, entry.engine, entry.dtype) != key]
    return hardware.model_copy(update={"slices": (*others, fitted)})
