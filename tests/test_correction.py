"""The smooth correction on top of a law: what it finds, when it is left out, and that time goes on growing under it."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from calibrate.fit.best_law import fit_best_law
from calibrate.fit.correction import WORK_SIZES, fit_correction
from calibrate.tables.operators import OperatorTable
from costmodel import load_hardware
from costmodel.laws import law_named
from costmodel.laws.correction import log_correction
from costmodel.laws.fitted import fitted_terms, fitted_time_s
from costmodel.laws.floor import floor_s
from costmodel.laws.roofline import ROOFLINE
from costmodel.ops import ContextAttention, EncoderAttention, Gemm, GenerationAttention, Op
from costmodel.profiles import LawFit

PROFILE = load_hardware("h100-sxm")
SHEET = PROFILE.datasheet
STARTS = {p.name: p.start for p in ROOFLINE.parameters}
Array = NDArray[np.float64]
# What a step of one token, row or request, or a doubling, may undo: see docs/decisions/010.
MOST_FALL = 0.04
MOST_FALLING = 0.02


def gemms(count: int, seed: int) -> Gemm:
    draw = np.random.default_rng(seed)

    def sizes(low: float, high: float) -> Array:
        return np.asarray(np.round(np.exp(draw.uniform(np.log(low), np.log(high), count))))

    return Gemm("x", sizes(1, 8192), sizes(256, 16384), sizes(256, 16384), "bf16")


def law_time(op: Op) -> Array:
    return np.asarray(ROOFLINE.time_s(op, STARTS, SHEET))


def bump(op: Gemm) -> Array:
    """Wide weight matrices run slower by up to a quarter, smoothly."""
    return np.asarray(0.25 * np.exp(-(((np.log2(op.n) - 12.0) / 2.0) ** 2)))


def test_a_smooth_residual_is_found() -> None:
    op, unseen = gemms(200, 1), gemms(2000, 2)
    noise = 0.02 * np.random.default_rng(3).normal(size=200)
    fit = fit_best_law(OperatorTable(op, law_time(op) * np.exp(bump(op) + noise)), [ROOFLINE], SHEET)
    assert fit.correction is not None
    error = np.log(fitted_time_s(fit, unseen, SHEET) / (law_time(unseen) * np.exp(bump(unseen))))
    bare = np.log(fitted_time_s(fit.model_copy(update={"correction": None}), unseen, SHEET) / law_time(unseen))
    assert np.mean(np.abs(error)) < 0.02
    assert np.mean(np.abs(bare - bump(unseen))) > 2 * np.mean(np.abs(error))
    assert 0.01 < fit.residual_log_sd < 0.04


def test_noise_earns_no_correction() -> None:
    op = gemms(200, 1)
    table = OperatorTable(op, law_time(op) * np.exp(0.1 * np.random.default_rng(4).normal(size=200)))
    assert fit_best_law(table, [ROOFLINE], SHEET).correction is None


def test_few_rows_earn_no_correction() -> None:
    op = gemms(60, 1)
    assert fit_best_law(OperatorTable(op, law_time(op) * np.exp(bump(op))), [ROOFLINE], SHEET).correction is None


def test_the_same_rows_give_the_same_correction() -> None:
    op = gemms(150, 1)
    first, second = (fit_correction(OperatorTable(op, law_time(op) * np.exp(bump(op))), law_time) for _ in range(2))
    assert first == second


def test_a_falling_residual_is_held_where_the_law_is_flat() -> None:
    """Rows that get faster with m although the law says that their time stays the same: no fall is learned."""
    draw = np.random.default_rng(5)
    op = Gemm("x", np.round(np.exp(draw.uniform(0, np.log(64), 200))), *(np.full(200, 4096.0),) * 2, "bf16")
    table = OperatorTable(op, law_time(op) * np.exp(-0.1 * np.log2(op.m) / 6.0 + 0.01 * draw.normal(size=200)))
    found = fit_correction(table, law_time)
    fit = LawFit(
        law="roofline",
        coefficients=PROFILE.laws["gemm/bf16"].coefficients,
        residual_log_sd=0.1,
        correction=found,
        rows=200,
        fitted_on={"m": tuple(np.asarray(op.m)), "n": (4096.0,) * 200, "k": (4096.0,) * 200},
    )
    growing = dataclasses.replace(op, m=np.arange(1.0, 65.0), n=4096.0, k=4096.0)
    times = np.log(law_time(growing)) + log_correction(fit, growing, law_time(growing))
    assert np.diff(times).min() > -1e-3


def shipped() -> list[tuple[str, str]]:
    keys = ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s", "rtx-pro-6000", "arc-b60")
    return [(key, name) for key in keys for name, fit in load_hardware(key).laws.items() if fit.correction is not None]


def between(fit: LawFit, kind: str, dtype: str, kv_dtype: str, count: int = 3000) -> Op:
    """Random whole shapes between two that a law was fitted on."""
    draw = np.random.default_rng(6)
    first, second = draw.integers(0, fit.rows, (2, count))
    share = draw.random(count)
    sizes: dict[str, Any] = {
        name: np.round(np.exp((1 - share) * np.log(column[first]) + share * np.log(column[second])))
        for name, values in fit.fitted_on.items()
        if (column := np.array(values)).min() > 0
    }
    if kind == "gemm":
        return Gemm("x", **sizes, dtype=dtype, weight_copies=6.0)
    if kind == "attention_context":
        return ContextAttention("x", **sizes, dtype=dtype, kv_dtype=kv_dtype)
    if kind == "attention_generation":
        return GenerationAttention("x", **sizes, dtype=dtype, kv_dtype=kv_dtype, kv_copies=1.0)
    return EncoderAttention("x", **sizes, dtype=dtype)


@pytest.mark.parametrize(("key", "name"), [entry for entry in shipped() if "moe" not in entry[1]])
def test_corrected_time_hardly_ever_falls_as_work_grows(key: str, name: str) -> None:
    profile = load_hardware(key)
    fit = profile.laws[name]
    kind, _, dtypes = name.partition("/")
    dtype, _, kv_dtype = dtypes.partition("+")
    op = between(fit, kind, dtype, kv_dtype or dtype)
    base = np.log(fitted_time_s(fit, op, profile.datasheet))
    for size in set(WORK_SIZES) & set(fit.fitted_on) - {"kv_len" if kind == "attention_context" else ""}:
        together = ("q_len", "kv_len") if size == "q_len" and kind == "attention_context" else (size,)
        for grown in (lambda value: value + 1.0, lambda value: 2.0 * value):
            more: dict[str, Any] = {other: grown(getattr(op, other)) for other in together}
            step = np.log(fitted_time_s(fit, dataclasses.replace(op, **more), profile.datasheet)) - base
            assert step.min() > -MOST_FALL, (size, step.min())
            assert np.mean(step < -1e-6) < MOST_FALLING, size


def corrected_fit() -> LawFit:
    return PROFILE.laws["attention_generation/bf16"]


def test_against_a_slow_reference() -> None:
    fit = corrected_fit()
    assert fit.correction is not None
    sizes = {"batch": 3.0, "kv_len": 1234.0, "num_heads": 24.0, "num_kv_heads": 8.0, "head_dim": 128.0}
    op = GenerationAttention("x", **sizes, dtype="bf16", kv_dtype="bf16")
    law_s = float(law_named(fit.law).time_s(op, fit.values, SHEET))
    point = {**sizes, "time_s": law_s}
    known = {**fit.fitted_on, "time_s": fit.correction.law_s}
    expected = 0.0
    for index, weight in enumerate(fit.correction.weights):
        scaled = (
            math.log2(point[name] / known[name][index]) / scale for name, scale in fit.correction.length_scales.items()
        )
        distance = math.sqrt(3.0) * math.hypot(*scaled)
        expected += weight * (1.0 + distance) * math.exp(-distance)
    assert float(log_correction(fit, op, law_s)) == pytest.approx(expected, abs=1e-6)
    terms = fitted_terms(fit, op, SHEET)
    assert float(terms.total_s) == pytest.approx(law_s * math.exp(expected), rel=1e-5)


def test_held_beyond_the_work_and_gone_beyond_the_widths() -> None:
    fit = corrected_fit()
    op = GenerationAttention("x", 4.0, 131072.0, 32.0, 8.0, 128.0, "bf16", "bf16")
    longest = dataclasses.replace(op, kv_len=1e7)
    law_s = fit.correction.ranges["time_s"][1] if fit.correction else 0.0
    assert log_correction(fit, longest, law_s) == pytest.approx(log_correction(fit, op, law_s))
    unheard = dataclasses.replace(op, num_heads=2.0**60, num_kv_heads=2.0**50)
    assert abs(float(log_correction(fit, unheard, law_s))) < 1e-3


def test_arrays_give_what_numbers_give() -> None:
    fit = corrected_fit()
    lengths = np.arange(1.0, 400.0)
    op = GenerationAttention("x", 2.0, lengths, 32.0, 8.0, 128.0, "bf16", "bf16")
    singles = [float(fitted_time_s(fit, dataclasses.replace(op, kv_len=length), SHEET)) for length in lengths]
    assert np.asarray(fitted_time_s(fit, op, SHEET)) == pytest.approx(singles)
    table = dataclasses.replace(op, kv_len=lengths[:12].reshape(3, 4))
    assert np.asarray(fitted_time_s(fit, table, SHEET)).shape == (3, 4)


def test_a_correction_is_no_faster_than_the_datasheet() -> None:
    fit = corrected_fit()
    op = GenerationAttention("x", 64.0, 32768.0, 32.0, 8.0, 128.0, "bf16", "bf16")
    content = fit.model_dump()
    content["correction"]["weights"] = [-50.0] * fit.rows
    fast = LawFit.model_validate(content)
    assert float(fitted_time_s(fast, op, SHEET)) == pytest.approx(float(floor_s(op, SHEET)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"length_scales": {"bath": 1.0, "time_s": 1.0}}, "bath unknown"),
        ({"weights": (0.1, 0.2)}, "a weight, a time and positive sizes"),
        ({"length_scales": {"window": 1.0, "time_s": 1.0}}, "positive sizes"),
        ({"law_s": (-1.0,)}, "greater than 0"),
        ({"length_scales": {}}, "at least 1"),
    ],
)
def test_a_correction_that_does_not_belong_is_refused(change: dict[str, Any], message: str) -> None:
    content = corrected_fit().model_dump()
    content["correction"].update(change)
    with pytest.raises(ValidationError, match=message):
        LawFit.model_validate(content)
