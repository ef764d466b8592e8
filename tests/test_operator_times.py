"""All operators of a law at once, against one at a time."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import pytest
from conftest import REPO
from hypothesis import given, settings
from hypothesis import strategies as st
from made_profiles import IMAGE, LARGE, SMALL, calibrated, preset, slices_of
from slow_reference import reference_log_sd, reference_stages

from costmodel.families.sources import preset_names
from costmodel.laws import LAWS
from costmodel.laws.base import Law
from costmodel.laws.interval import Slopes
from costmodel.ops import Elementwise, Gemm, GenerationAttention, Op, op_key
from costmodel.ops.stack import at_points, stacked
from costmodel.predict import estimate, predict, set_up
from costmodel.profiles import HardwareProfile, LawFit, load_engine, load_hardware
from costmodel.program import Options
from costmodel.specs.workload import Workload

DEVICES = ("h100-sxm", "b200-sxm", "arc-b60", "a100-sxm-80gb", "mi300x")
ENGINES = ("vllm-0.7.2", "hf-eager", "llama.cpp")


@cache
def _priors(architecture: str | None) -> dict[str, LawFit]:
    content = json.loads((REPO / "hardware_profiles" / "priors.json").read_text(encoding="utf-8"))
    laws = content["laws"] | content["architectures"].get(architecture, {})
    return {key: LawFit.model_validate(fit) for key, fit in laws.items()}


@cache
def _device(key: str) -> HardwareProfile:
    return load_hardware(key)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(preset_names()),
    device=st.sampled_from(DEVICES),
    stack=st.sampled_from(ENGINES),
    images=st.integers(0, 2),
    prompt=st.integers(1, 6000),
    output=st.integers(1, 900),
    batch=st.sampled_from([1, 3, 16]),
    quantization=st.sampled_from(["none", "w4a16"]),
    kv_dtype=st.sampled_from([None, "fp8"]),
    chunk=st.sampled_from([None, 700]),
)
def test_stages_equal_the_slow_reference(
    name: str,
    device: str,
    stack: str,
    images: int,
    prompt: int,
    output: int,
    batch: int,
    quantization: str,
    kv_dtype: str | None,
    chunk: int | None,
) -> None:
    model, engine = preset(name), load_engine(stack)
    workload = Workload(
        images=(IMAGE,) * images if model.vision else (), prompt_tokens=prompt, output_tokens=output, batch=batch
    )
    _, options = set_up(
        model, _device(device), engine, kv_dtype=kv_dtype, quantization=quantization, chunk_tokens=chunk
    )
    priors = _priors(_device(device).datasheet.architecture)
    expected = reference_stages(model, _device(device), engine, workload, priors, options)
    found = estimate(
        model, _device(device), engine, workload, kv_dtype=kv_dtype, quantization=quantization, chunk_tokens=chunk
    )
    for stage, one in found.stages.items():
        other = expected[stage]
        assert float(one.value_s) == pytest.approx(float(other.value_s), rel=1e-10)
        assert {k: float(sd) for k, sd in one.sd_s.items()} == pytest.approx(
            {k: float(sd) for k, sd in other.sd_s.items()}, rel=1e-7, abs=1e-15
        )


@pytest.mark.parametrize("only", [None, ("decode.decoder_layer", "encode.block")], ids=["all", "some"])
def test_slices_equal_the_slow_reference(only: tuple[str, ...] | None) -> None:
    model, engine = preset(SMALL), load_engine("vllm-0.7.2")
    fitted = (
        slices_of(model, engine_key=engine.key) if only is None else slices_of(model, engine_key=engine.key, only=only)
    )
    hardware = calibrated(slices=[fitted])
    workload = Workload(images=(IMAGE,), prompt_tokens=64, output_tokens=50, batch=3)
    priors = _priors(hardware.datasheet.architecture)
    expected = reference_stages(model, hardware, engine, workload, priors, Options("bf16", "bf16", fused=True))
    for stage, one in estimate(model, hardware, engine, workload).stages.items():
        assert float(one.value_s) == pytest.approx(float(expected[stage].value_s), rel=1e-10)
        assert float(one.log_sd()) == pytest.approx(float(expected[stage].log_sd()), rel=1e-7)


def test_values_alone_are_the_values_with_intervals() -> None:
    model, engine, hardware = preset(LARGE), load_engine("vllm-0.7.2"), _device("h100-sxm")
    workload = Workload(images=(IMAGE,), prompt_tokens=64, output_tokens=50)
    whole = predict(model, hardware, engine, workload)
    alone = predict(model, hardware, engine, workload, interval=None)
    assert alone.interval is None
    for (_, with_interval), (_, value) in zip(whole.latency, alone.latency, strict=True):
        assert value.value == value.low == value.high == with_interval.value
    assert alone.bound == whole.bound
    assert alone.sources == whole.sources


def _ops_of(law: Law) -> list[Op]:
    """Operators that the law prices, of several sizes each."""
    model, found = preset("Qwen/Qwen3-VL-30B-A3B-Instruct"), []
    forecast = estimate(
        model,
        _device("h100-sxm"),
        load_engine("vllm-0.7.2"),
        Workload(images=(IMAGE,), prompt_tokens=64, output_tokens=50),
        num_devices=4,
    )
    for passes in forecast.passes.values():
        for priced in passes:
            for component in priced.stage.components:
                for op in component.ops:
                    try:
                        law.time_s(op, {p.name: p.start for p in law.parameters}, _device("h100-sxm").datasheet)
                    except TypeError:
                        continue
                    found.append(op)
    return found


@pytest.mark.parametrize("name", sorted(LAWS))
def test_laws_broadcast_over_coefficients(name: str) -> None:
    """Every law takes many coefficient vectors at once: intervals depend on it."""
    law, peaks = LAWS[name], _device("h100-sxm").datasheet
    ops = _ops_of(law)
    assert ops
    size = len(law.parameters)
    draws = np.random.default_rng(7).normal(0.0, 0.05, (size, size))
    fit = LawFit.model_validate(
        {
            "law": name,
            "coefficients": {p.name: {"value": p.start, "stderr": 0.0, "source": "fitted"} for p in law.parameters},
            "covariance": (draws @ draws.T).tolist(),
            "residual_log_sd": 0.01,
            "rows": 1,
        }
    )
    slopes = Slopes.of(law, fit)
    for op in ops:
        expected = reference_log_sd(fit, op, _device("h100-sxm")) if not np.ndim(getattr(op, "kv_len", 0.0)) else None
        if expected is not None:
            found = np.hypot(np.asarray(slopes.log_sd(law, op, peaks)), fit.residual_log_sd)
            assert float(found) == pytest.approx(expected, rel=1e-6)
    for stack in stacked(ops):
        together = np.asarray(slopes.log_sd(law, stack.op, peaks))
        apart = [slopes.log_sd(law, ops[i], peaks) for i in stack.members]
        np.testing.assert_allclose(together, np.broadcast_to(np.stack(apart), together.shape), rtol=1e-9)


def test_a_coefficient_known_exactly_adds_no_spread() -> None:
    law, peaks = LAWS["roofline"], _device("h100-sxm").datasheet
    fit = LawFit.model_validate(
        {
            "law": "roofline",
            "coefficients": {p.name: {"value": p.start, "stderr": 0.0, "source": "fitted"} for p in law.parameters},
            "covariance": np.zeros((4, 4)).tolist(),
            "residual_log_sd": 0.0,
            "rows": 1,
        }
    )
    assert float(Slopes.of(law, fit).log_sd(law, Gemm("x", 64.0, 64.0, 64.0, "bf16"), peaks)) == 0.0


def test_tables_larger_than_one_call_are_cut() -> None:
    """Rows of a table in parts give what each row gives alone."""
    hardware = _device("h100-sxm")
    law, fit = LAWS[hardware.laws["gemm/bf16"].law], hardware.laws["gemm/bf16"]
    m = np.geomspace(1, 1e5, 30_000)
    slopes = Slopes.of(law, fit)
    whole = np.asarray(slopes.log_sd(law, Gemm("x", m, 4096.0, 4096.0, "bf16"), hardware.datasheet))
    for row in (0, 16_383, 16_384, 29_999):
        alone = slopes.log_sd(law, Gemm("x", float(m[row]), 4096.0, 4096.0, "bf16"), hardware.datasheet)
        assert whole[row] == pytest.approx(float(alone), rel=1e-9)


def test_stacks_hold_what_one_law_prices_alike() -> None:
    wide = np.array([1.0, 2.0])
    ops: list[Op] = [
        Gemm("a", 1.0, 2.0, 3.0, "bf16"),
        Elementwise("b", 5.0, "bf16", 3),
        Gemm("c", 4.0, 5.0, 6.0, "bf16"),
        Gemm("d", 4.0, 5.0, 6.0, "fp8"),
        Gemm("e", wide, 5.0, 6.0, "bf16"),
        GenerationAttention("f", 1.0, wide, 8, 2, 64, "bf16", "bf16"),
        GenerationAttention("g", 1.0, wide, 8, 2, 64, "bf16", "bf16", window=7),
    ]
    stacks = stacked(ops)
    assert [stack.members for stack in stacks] == [(0, 2), (1,), (3,), (4,), (5,), (6,)]
    for stack in stacks:
        for row, member in enumerate(stack.members):
            alone, op = ops[member], stack.op
            assert op_key(alone) == op_key(op)
            for quantity in ("flops", "bytes", "launches"):
                whole = np.asarray(getattr(op, quantity), dtype=float)
                expected = np.asarray(getattr(alone, quantity), dtype=float)
                np.testing.assert_array_equal(whole[row] if whole.ndim else whole, expected)


def test_points_of_an_operator_are_along_one_axis() -> None:
    op = GenerationAttention("a", np.array([[1.0], [2.0]]), np.array([10.0, 20.0, 30.0]), 8, 2, 64, "bf16", "bf16")
    points = np.array([[True, False, True], [False, True, False]])
    np.testing.assert_array_equal(at_points(op, points).bytes, np.asarray(op.bytes)[points])
