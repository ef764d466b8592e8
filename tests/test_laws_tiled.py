"""Laws of tiled kernels: monotone in every size, never below the datasheet, and equal to a slow reference."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import load_hardware
from costmodel.errors import ProfileError, UnknownKeyError
from costmodel.laws import LAWS, law_named, laws_for
from costmodel.laws.base import Law
from costmodel.laws.cache import seconds_per_byte
from costmodel.laws.floor import floor_s
from costmodel.laws.interval import coefficient_log_sd
from costmodel.laws.waves import waves
from costmodel.ops import (
    AllReduce,
    ContextAttention,
    EncoderAttention,
    Gemm,
    GenerationAttention,
    MoeExperts,
    Op,
)
from costmodel.profiles import Coefficient, LawFit

SHEETS = {key: load_hardware(key).datasheet for key in ("h100-sxm", "l40s", "a100-sxm-80gb")}
SHEET = SHEETS["h100-sxm"]
OPS: dict[str, Op] = {
    "gemm": Gemm("x", 100.0, 1000.0, 3000.0, "bf16"),
    "attention_context": ContextAttention("x", 2.0, 300.0, 700.0, 16.0, 4.0, 64.0, "bf16", "bf16"),
    "attention_generation": GenerationAttention("x", 3.0, 700.0, 16.0, 4.0, 64.0, "bf16", "bf16"),
    "attention_encoder": EncoderAttention("x", 2.0, 300.0, 16.0, 72.0, "bf16"),
    "moe": MoeExperts("x", 100.0, 2048.0, 768.0, 64.0, 4.0, "bf16"),
    "all_reduce": AllReduce("x", 1.0e6, 4.0),
}
# More new tokens in as many cached ones leave fewer to look back at; another number of KV heads at as many query heads
# is another kernel; so is the first grouped query head of FlashAttention-2, which splits groups only; and more devices
# bring more links.
NOT_MORE_WORK = {
    ("attention_context", "q_len"),
    ("attention_context", "num_kv_heads"),
    ("attention_generation", "num_kv_heads"),
    ("attention_generation", "num_heads"),
    ("all_reduce", "num_devices"),
}
TILED = [(kind, law) for kind in OPS for law in laws_for(kind, "bf16", device_kind="cuda")]
TILED += [("gemm", law) for dtype in ("fp8", "fp8-block") for law in laws_for("gemm", dtype, device_kind="cuda")]
IDS = [f"{kind}-{law.name}" for kind, law in TILED]


def _coefficients(law: Law, draw: np.random.Generator) -> dict[str, float]:
    """Anywhere within the bounds, in the scale of the fit."""
    values = {}
    for p in law.parameters:
        share = draw.random()
        values[p.name] = p.low * (p.high / p.low) ** share if p.log else p.low + share * (p.high - p.low)
    return values


def _random_op(kind: str, draw: np.random.Generator) -> Op:
    def size(low: float, high: float) -> float:
        return float(round(low * (high / low) ** draw.random()))

    if kind == "gemm":
        return Gemm("x", size(1, 20000), size(16, 60000), size(16, 60000), "bf16", weight_copies=size(1, 50))
    heads, group = size(1, 16), size(1, 12)
    head_dim = float(draw.choice([64, 72, 80, 96, 128, 256]))
    if kind == "attention_context":
        new, past = size(2, 20000), size(1, 5000) - 1
        return ContextAttention("x", size(1, 64), new, new + past, heads * group, heads, head_dim, "bf16", "bf16")
    if kind == "attention_generation":
        return GenerationAttention("x", size(1, 512), size(1, 1e5), heads * group, heads, head_dim, "bf16", "bf16")
    if kind == "attention_encoder":
        return EncoderAttention("x", size(1, 64), size(1, 30000), heads, head_dim, "bf16")
    if kind == "moe":
        return MoeExperts("x", size(1, 16384), size(512, 8192), size(256, 8192), size(16, 256), size(1, 8), "bf16")
    return AllReduce("x", size(128, 1e9), float(draw.choice([2, 4, 8])))


@pytest.mark.parametrize(("kind", "law"), TILED, ids=IDS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_time_never_falls_as_a_size_grows(kind: str, law: Law, seed: int) -> None:
    draw = np.random.default_rng(seed)
    op, values = _random_op(kind, draw), _coefficients(law, draw)
    base_s = float(law.time_s(op, values, SHEET))
    assert math.isfinite(base_s)
    assert base_s > 0
    for name in op.sizes:
        if name == "window" or (kind, name) in NOT_MORE_WORK:
            continue
        grown: Any = dataclasses.replace(op, **{name: getattr(op, name) * (1 + draw.integers(1, 4))})
        assert float(law.time_s(grown, values, SHEET)) >= base_s * (1 - 1e-9), name


@pytest.mark.parametrize(("kind", "law"), TILED, ids=IDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), sheet=st.sampled_from(sorted(SHEETS)))
def test_never_faster_than_the_datasheet(kind: str, law: Law, seed: int, sheet: str) -> None:
    draw = np.random.default_rng(seed)
    op, values = _random_op(kind, draw), _coefficients(law, draw)
    assert float(law.time_s(op, values, SHEETS[sheet])) >= float(floor_s(op, SHEETS[sheet])) * 0.95


@pytest.mark.parametrize(("kind", "law"), TILED, ids=IDS)
def test_arrays_give_what_numbers_give(kind: str, law: Law) -> None:
    values = {p.name: p.start for p in law.parameters}
    op = OPS[kind]
    name = op.sizes[0]
    sizes = getattr(op, name) * np.array([1.0, 2.0, 7.0])
    table = law.time_s(dataclasses.replace(op, **{name: sizes}), values, SHEET)
    singles = [float(law.time_s(dataclasses.replace(op, **{name: size}), values, SHEET)) for size in sizes]
    np.testing.assert_allclose(table, singles, rtol=1e-12)


@pytest.mark.parametrize(("kind", "law"), TILED, ids=IDS)
def test_starts_lie_within_bounds(kind: str, law: Law) -> None:
    del kind
    for parameter in law.parameters:
        assert parameter.low <= parameter.start <= parameter.high
    assert len({p.name for p in law.parameters}) == len(law.parameters)


def test_gemm_tile_against_a_slow_reference() -> None:
    law = law_named("gemm_tiled")
    values = {p.name: p.start for p in law.parameters}
    m, n, k = 300, 2000, 512
    best = math.inf
    for rows, columns in ((64, 64), (64, 128), (64, 256), (128, 64), (128, 128), (128, 256), (256, 64), (256, 128)):
        for split in (1, 2, 4, 8, 16):
            rate = values["compute_efficiency"] * SHEET.peak_flops_per_s["bf16"] / SHEET.multiprocessors
            parts = (2 * rows * columns / rate, 2 * (rows + columns) / values["tile_bytes_per_s"], values["step_s"])
            q = values["tile_sharpness"]
            step = sum(part**q for part in parts) ** (1 / q)
            blocks = math.ceil(m / rows) * math.ceil(n / columns) * split / SHEET.multiprocessors
            share = values["wave_quantisation"]
            count = max((1 - share) * blocks + share * math.ceil(blocks), 1)
            time = count * (k / split + values["prologue_steps"]) * step
            if split > 1:
                fast = values["cache_speedup"] * values["memory_efficiency"] * SHEET.memory_bytes_per_s
                time += 4 * m * n * split / fast + values["split_s"]
            best = min(best, time)
    best *= 1 + values["throttling"] * best / (best + values["throttling_s"])
    moved = 2 * (m * k + k * n + m * n) / (values["memory_efficiency"] * SHEET.memory_bytes_per_s)
    q = values["sharpness"]
    expected = values["fixed_s"] + (best**q + moved**q) ** (1 / q)
    assert float(law.time_s(Gemm("x", m, n, k, "bf16"), values, SHEET)) == pytest.approx(expected)


def test_a_model_streams_its_weights_and_a_benchmark_may_not() -> None:
    values = {p.name: p.start for p in law_named("gemm_tiled").parameters}
    cold = Gemm("x", 1.0, 2048.0, 2048.0, "bf16")
    warm = dataclasses.replace(cold, weight_copies=1.0)
    law = law_named("gemm_tiled")
    assert law.time_s(warm, values, SHEET) < law.time_s(cold, values, SHEET)


def test_waves_between_exact_and_whole() -> None:
    blocks = np.array([0.1, 1.0, 1.5, 2.0, 2.1])
    np.testing.assert_allclose(waves(blocks, 0.0), [1, 1, 1.5, 2, 2.1])
    np.testing.assert_allclose(waves(blocks, 1.0), [1, 1, 2, 2, 3])


def test_cache_serves_what_fits() -> None:
    values = {"memory_efficiency": 0.8, "cache_speedup": 4.0, "cache_share": 1.0}
    slow = 1 / (0.8 * SHEET.memory_bytes_per_s)
    assert seconds_per_byte(1.0, values, SHEET) == pytest.approx(slow / 4)
    assert seconds_per_byte(np.inf, values, SHEET) == pytest.approx(slow)


def test_sliding_window_saves_work_and_memory() -> None:
    law = law_named("generation_attention_128")
    values = {p.name: p.start for p in law.parameters}
    whole = GenerationAttention("x", 8.0, 50000.0, 32.0, 8.0, 128.0, "bf16", "bf16")
    assert law.time_s(dataclasses.replace(whole, window=1024.0), values, SHEET) < law.time_s(whole, values, SHEET)


def test_collective_needs_a_link() -> None:
    sheet = SHEET.model_copy(update={"link_bytes_per_s": None, "host_link_bytes_per_s": None})
    law = law_named("collective")
    with pytest.raises(ProfileError, match="link_bytes_per_s"):
        law.time_s(AllReduce("x", 1e6, 4), {p.name: p.start for p in law.parameters}, sheet)


def test_a_law_refuses_another_operator() -> None:
    law = law_named("gemm_tiled")
    with pytest.raises(TypeError, match="all_reduce"):
        law.time_s(AllReduce("x", 1e6, 4), {p.name: p.start for p in law.parameters}, SHEET)


def test_unknown_law_names_the_nearest() -> None:
    with pytest.raises(UnknownKeyError, match="gemm_tiled"):
        law_named("gemm_tilde")


def test_every_equation_is_on_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "equations.md").read_text(encoding="utf-8")
    for law in LAWS.values():
        assert f"({law.equation})" in page, law.name


def test_covariance_of_the_coefficients_against_sampling() -> None:
    law = law_named("roofline")
    start = {p.name: p.start for p in law.parameters}
    sds = np.array([0.05, 0.1, 0.08, 0.05])
    fit = LawFit(
        law="roofline",
        coefficients={name: Coefficient(value=value, stderr=0.0, source="fitted") for name, value in start.items()},
        covariance=tuple(map(tuple, np.diag(sds**2).tolist())),
        residual_log_sd=0.0,
        rows=100,
    )
    op = Gemm("x", 100.0, 4096.0, 4096.0, "bf16")
    draws = np.random.default_rng(0).normal(size=(4000, 4)) * sds
    times = [
        float(law.time_s(op, {n: v * math.exp(d) for (n, v), d in zip(start.items(), draw, strict=True)}, SHEET))
        for draw in draws
    ]
    assert float(coefficient_log_sd(law, fit, op, SHEET)) == pytest.approx(float(np.std(np.log(times))), rel=0.05)
