"""Made-up coefficients for tests: laws and slices with known values on the datasheet of a real device."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

import numpy as np

from costmodel import program
from costmodel.families import read_config
from costmodel.families.sources import load_model
from costmodel.profiles import (
    Coefficient,
    ComponentFit,
    EngineProfile,
    HardwareProfile,
    LawFit,
    SliceProfile,
    load_engine,
    load_hardware,
)
from costmodel.program import Component, Options
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

SMALL, LARGE = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
WINDOWED = "Qwen/Qwen2.5-VL-3B-Instruct"
KINDS = ("gemm", "attention_context", "attention_generation", "attention_encoder", "elementwise")
IMAGE = ImageSize(width=1024, height=768)

_PER_UNIT = {
    "requests": 2e-3,
    "images": 4e-3,
    "megapixels": 3e-3,
    "resized_megapixels": 9e-3,
    "tiles": 1e-3,
    "patches": 2e-7,
    "tokens": 3e-7,
    "context_tokens": 4e-8,
    "layers": 5e-5,
    "rows": 3e-4,
    "gemm_flops": 3e-15,
    "attention_flops": 9e-15,
    "kv_bytes": 6e-13,
}


@cache
def preset(name: str) -> ModelSpec:
    return load_model(name)


@cache
def text_only() -> ModelSpec:
    """The small preset without its eyes."""
    return preset(SMALL).model_copy(update={"name": "text", "vision": None, "connector": None, "image_rule": None})


def request(prompt_tokens: int = 64, output_tokens: int = 47, *, images: int = 1, **fields: int) -> Workload:
    return Workload(images=(IMAGE,) * images, prompt_tokens=prompt_tokens, output_tokens=output_tokens, **fields)


def coefficient(value: float, stderr: float = 0.0) -> Coefficient:
    return Coefficient(value=value, stderr=stderr, source="fitted")


def roofline(
    *,
    fixed_s: float = 4e-6,
    compute: float = 0.7,
    memory: float = 0.8,
    sharpness: float = 2.5,
    log_sd: float = 0.05,
) -> LawFit:
    values = {
        "fixed_s": fixed_s,
        "compute_efficiency": compute,
        "memory_efficiency": memory,
        "sharpness": sharpness,
    }
    return LawFit(
        law="roofline",
        coefficients={name: coefficient(value) for name, value in values.items()},
        residual_log_sd=log_sd,
        rows=100,
    )


def calibrated(
    laws: LawFit | None = None, *, slices: Iterable[SliceProfile] = (), run_log_sd: float = 0.0
) -> HardwareProfile:
    """An H100 whose operators all follow one law."""
    fit = laws or roofline()
    return load_hardware("h100-sxm").model_copy(
        update={"laws": dict.fromkeys(KINDS, fit), "slices": tuple(slices), "run_log_sd": run_log_sd}
    )


def engine(**changes: object) -> EngineProfile:
    """A fused engine that launches every kernel, with no kernels of its own."""
    plain = {"graph_captured": (), "kernels": {}, "device_kernels": {}}
    return load_engine("vllm-0.7.2").model_copy(update=plain | changes)


def components(spec: ModelSpec, workload: Workload, options: Options) -> dict[str, Component]:
    """Every component that a request asks for, by name."""
    layouts = program.image_layouts(spec, workload.images)
    prompt = workload.prompt_tokens + sum(i.visual_tokens + i.extra_text_tokens for i in layouts)
    stages = (
        program.preprocess(workload.images, layouts),
        program.encode(spec, layouts, batch=1, options=options),
        program.prefill(spec, new_tokens=float(prompt), cached_tokens=0.0, batch=1, options=options),
        program.decode_step(spec, context_tokens=prompt + 1.0, batch=1, options=options),
    )
    return {component.name: component for stage in stages for component in stage.components}


def slices_of(
    spec: ModelSpec,
    *,
    engine_key: str = "vllm-0.7.2",
    dtype: str = "bf16",
    only: Iterable[str] | None = None,
    highest: Mapping[str, float] | None = None,
    log_sd: float = 0.03,
) -> SliceProfile:
    """Slices of all components of a model, or of those named."""
    found = components(spec, request(images=int(spec.vision is not None)), Options(dtype, dtype, fused=True))
    wanted = set(found if only is None else only)
    return SliceProfile(
        model=spec.name,
        fingerprint=spec.fingerprint(),
        engine=engine_key,
        dtype=dtype,
        components={
            name: ComponentFit(
                coefficients={feature: coefficient(_PER_UNIT[feature]) for feature in component.features},
                covariance=((0.0,) * len(component.features),) * len(component.features),
                residual_log_sd=log_sd,
                rows=20,
                lowest={},
                highest=dict(highest or {}) if name == "prefill.decoder_layer" else {},
            )
            for name, component in found.items()
            if name in wanted
        },
    )


def linear_time_s(component: Component) -> float:
    """What the slices above say of a component, by hand."""
    return component.count * sum(_PER_UNIT[name] * float(np.mean(x)) for name, x in component.features.items())


def tiny_spec(config: dict[str, object], name: str, settings: dict[str, int]) -> ModelSpec:
    return read_config(config, name=name, image_settings=settings)
