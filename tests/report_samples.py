"""Results to draw and report: real predictions of two presets, and a made-up validation."""

from __future__ import annotations

from functools import cache

import numpy as np

from costmodel.breakeven import BreakEven, break_even
from costmodel.families.sources import load_model
from costmodel.predict import Prediction, predict
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
from costmodel.quantity import Quantity
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload
from costmodel.validation import BreakEvenCheck, Validation, ValidationRow, overall, score_stage

SMALL, LARGE = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
_STAGE_S = {"preprocess": 0.03, "encode": 0.9, "prefill": 1.4, "decode": 2.5}
_NOISE = 0.04
_LIMITS = {"encode": 0.12, "prefill": 0.15, "decode": 0.12, "total": 0.08}


def engine() -> EngineProfile:
    """An engine one of whose host costs is assumed, so that the report has to say so."""
    profile = load_engine("vllm-0.7.2")
    assumed = profile.request_s.model_copy(update={"source": "assumed"})
    return profile.model_copy(update={"request_s": assumed})


def hardware(*, calibrated: bool = False) -> HardwareProfile:
    profile = load_hardware("h100-sxm").model_copy(update={"laws": {}})
    if not calibrated:
        return profile
    return profile.model_copy(update={"laws": {"gemm/bf16": _law()}, "slices": (_slices(),), "run_log_sd": 0.02})


def request(output_tokens: int = 47) -> Workload:
    images = (ImageSize(width=1024, height=768),)
    return Workload(images=images, prompt_tokens=64, output_tokens=output_tokens)


@cache
def model(name: str) -> ModelSpec:
    return load_model(name)


@cache
def predictions() -> tuple[Prediction, Prediction]:
    return (
        predict(model(SMALL), hardware(), engine(), request(200)),
        predict(model(LARGE), hardware(), engine(), request(20)),
    )


@cache
def crossing(*, small_output_tokens: int | None = 200) -> BreakEven:
    return break_even(
        model(SMALL),
        model(LARGE),
        hardware(),
        engine(),
        request(),
        large_output_tokens=20,
        small_output_tokens=small_output_tokens,
    )


def no_crossing() -> BreakEven:
    """Models swapped: the "small" one is slower from the first token."""
    return break_even(model(LARGE), model(SMALL), hardware(), engine(), request(), large_output_tokens=1)


@cache
def validation(*, cases: int = 12) -> Validation:
    """Two models, ``cases`` cases each, errors and noise from a fixed seed."""
    random = np.random.default_rng(7)
    rows = [
        row
        for name, scale in ((SMALL, 1.0), (LARGE, 3.1))
        for index in range(cases)
        for row in _case(random, f"{index:02d}-{'small' if scale == 1 else 'large'}", name, scale)
    ]
    stages = (*_STAGE_S, "total")
    return Validation(
        hardware="h100-sxm",
        engine="vllm-0.7.2",
        dtype="bf16",
        interval=0.9,
        n=2 * cases,
        **overall(rows),
        share_undisturbed=0.87,
        verdict="passed",
        reasons=("13 of 96 runs were disturbed and left out",),
        stages=tuple(
            score_stage(stage, tuple(row for row in rows if row.stage == stage), limit=_LIMITS.get(stage))
            for stage in stages
        ),
        rows=tuple(rows),
        break_even=(
            _check("00", 8, 31.4, 29.0),
            _check("01", 16, 58.9, 63.1),
            _check("02", 32, 113.2, 109.8),
        ),
    )


def _case(random: np.random.Generator, case_id: str, name: str, scale: float) -> list[ValidationRow]:
    size = scale * random.uniform(0.3, 2.0)
    measured, predicted = [], []
    for typical_s in _STAGE_S.values():
        measured.append(typical_s * size * np.exp(random.normal(0, _NOISE, 3)))
        predicted.append(typical_s * size * np.exp(random.normal(0.02, 0.05)))
    measured.append(np.sum(measured, axis=0))
    predicted.append(np.sum(predicted))
    return [
        ValidationRow(
            case_id=case_id,
            model=name,
            stage=stage,
            measured_s=float(repeats.mean()),
            repeats_s=tuple(repeats.tolist()),
            predicted=Quantity.from_log_sd(float(value), 0.06, interval=0.9),
            error=float(value / repeats.mean() - 1),
        )
        for stage, repeats, value in zip((*_STAGE_S, "total"), measured, predicted, strict=True)
    ]


def _check(case_id: str, tokens: int, predicted: float, measured: float) -> BreakEvenCheck:
    return BreakEvenCheck(
        case_id=case_id,
        large_output_tokens=tokens,
        predicted=Quantity(value=predicted, low=predicted * 0.9, high=predicted * 1.1),
        measured_output_tokens=measured,
        error=predicted / measured - 1,
    )


def _fitted(value: float, source: str = "fitted") -> Coefficient:
    return Coefficient.model_validate({"value": value, "stderr": value * 0.03, "source": source})


def _law() -> LawFit:
    coefficients = {
        "fixed_s": _fitted(4.2e-6),
        "compute_efficiency": _fitted(0.71),
        "memory_efficiency": _fitted(0.83),
        "sharpness": _fitted(2.5, "assumed"),
    }
    return LawFit(
        law="roofline",
        coefficients=coefficients,
        residual_log_sd=0.07,
        rows=340,
        fitted_on={"m": (1.0, 4096.0), "n": (512.0, 16384.0)},
    )


def _slices() -> SliceProfile:
    def component(**coefficients: float) -> ComponentFit:
        return ComponentFit(
            coefficients={name: _fitted(value) for name, value in coefficients.items()},
            covariance=tuple(map(tuple, np.diag([(0.1 * value) ** 2 for value in coefficients.values()]).tolist())),
            residual_log_sd=0.045,
            rows=24,
            lowest=dict.fromkeys(coefficients, 1.0),
            highest=dict.fromkeys(coefficients, 2916.0),
        )

    return SliceProfile(
        model=SMALL,
        fingerprint="0" * 16,
        engine="vllm-0.7.2",
        dtype="bf16",
        components={
            "preprocess": component(requests=0.004, resized_megapixels=0.021),
            "encode.block": component(layers=0.00011, gemm_flops=1.9e-15, attention_flops=3.1e-15),
            "decode.decoder_layer": component(layers=0.00021, kv_bytes=4.1e-13),
        },
    )
