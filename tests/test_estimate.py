"""Errors of one source add up, errors of different sources add in quadrature: against sampled errors."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.estimate import Estimate, total
from costmodel.quantity import Quantity, normal_quantile

SAMPLES = 200_000

durations = st.floats(1e-6, 1e3)
errors = st.dictionaries(st.sampled_from("abcd"), st.floats(0, 1e2), max_size=4)
estimates = st.builds(Estimate, durations, errors)


def _sampled_sd(parts: list[Estimate], rng: np.random.Generator) -> float:
    """Each source is one random number, whatever it adds to."""
    sources = sorted({source for part in parts for source in part.sd_s})
    draws: Mapping[str, np.ndarray] = {source: rng.standard_normal(SAMPLES) for source in sources}
    time = sum(part.value_s + sum(sd * draws[s] for s, sd in part.sd_s.items()) for part in parts)
    return float(np.std(time))


@pytest.mark.parametrize(
    "parts",
    [
        [Estimate(1.0, {"gemm": 0.1}), Estimate(2.0, {"gemm": 0.3})],
        [Estimate(1.0, {"gemm": 0.1}), Estimate(2.0, {"attention": 0.3})],
        [Estimate(1.0, {"gemm": 0.1, "host": 0.2}), Estimate(2.0, {"gemm": 0.3}), Estimate(1.5, {"host": 0.2})],
    ],
    ids=["shared", "independent", "mixed"],
)
def test_total_is_as_uncertain_as_sampled_totals(parts: list[Estimate]) -> None:
    summed = total(parts)
    sampled = _sampled_sd(parts, np.random.default_rng(1))
    assert float(summed.log_sd() * summed.value_s) == pytest.approx(sampled, rel=0.01)


def test_difference_of_two_that_share_a_source_is_surer() -> None:
    first, second = Estimate(3.0, {"gemm": 0.5, "a": 0.1}), Estimate(2.0, {"gemm": 0.4, "b": 0.2})
    gap = total([first, second.scaled(-1.0)])
    sd = math.sqrt(sum(float(part) ** 2 for part in gap.sd_s.values()))
    assert sd == pytest.approx(math.sqrt(0.1**2 + 0.1**2 + 0.2**2))
    assert sd == pytest.approx(_sampled_sd([first, second.scaled(-1.0)], np.random.default_rng(2)), rel=0.01)


@given(st.lists(estimates, min_size=1, max_size=5))
def test_sum_of_one_source_is_linear(parts: list[Estimate]) -> None:
    summed = total(parts)
    assert float(summed.value_s) == pytest.approx(sum(float(part.value_s) for part in parts))
    for source, sd in summed.sd_s.items():
        assert float(sd) == pytest.approx(sum(float(part.sd_s.get(source, 0.0)) for part in parts))


@given(st.lists(estimates, min_size=1, max_size=5))
def test_a_total_lies_between_independent_and_shared(parts: list[Estimate]) -> None:
    sds = [float(part.log_sd() * part.value_s) for part in parts]
    summed = total(parts)
    sd = float(summed.log_sd() * summed.value_s)
    assert math.hypot(*sds) * (1 - 1e-9) <= sd <= sum(sds) * (1 + 1e-9)


@given(estimates, st.integers(1, 100))
def test_repeating_equals_scaling(part: Estimate, count: int) -> None:
    repeated, scaled = total([part] * count), part.scaled(count)
    assert float(repeated.value_s) == pytest.approx(float(scaled.value_s))
    assert float(repeated.log_sd()) == pytest.approx(float(scaled.log_sd()))
    assert float(scaled.log_sd()) == pytest.approx(float(part.log_sd()))


def test_averaging_is_a_weighted_sum_of_values_and_of_shared_errors() -> None:
    values, weights = np.array([1.0, 2.0, 4.0]), np.array([0.5, 1.0, 2.0])
    averaged = Estimate(values, {"law": 0.1 * values, "host": np.float64(0.3)}).averaged(weights)
    assert averaged.value_s == pytest.approx(10.5)
    assert averaged.sd_s["law"] == pytest.approx(1.05)
    assert averaged.sd_s["host"] == pytest.approx(0.3 * 3.5)


def test_averaging_spreads_a_constant() -> None:
    averaged = Estimate(np.float64(2.0), {"law": np.float64(0.2)}).averaged(np.array([1.0, 3.0]))
    assert (averaged.value_s, averaged.sd_s["law"]) == pytest.approx((8.0, 0.8))


def test_shared_error_is_relative_to_the_whole() -> None:
    noisy = Estimate(5.0, {"law": 0.3}).with_shared_error("run", 0.1)
    assert float(noisy.log_sd()) == pytest.approx(math.hypot(0.06, 0.1))
    assert Estimate(5.0).with_shared_error("run", 0.0).sd_s == {}


def test_nothing_takes_no_time() -> None:
    nothing = total([])
    assert float(nothing.value_s) == float(nothing.log_sd()) == 0.0


@given(st.floats(1e-6, 1e6), st.floats(0, 3), st.floats(0.01, 0.999))
def test_interval_is_symmetric_in_the_logarithm(value: float, log_sd: float, interval: float) -> None:
    quantity = Quantity.from_log_sd(value, log_sd, interval=interval)
    assert quantity.low <= quantity.value <= quantity.high
    assert quantity.low * quantity.high == pytest.approx(value**2)


@pytest.mark.parametrize("interval", [0.5, 0.9, 0.99])
def test_interval_holds_as_often_as_it_says(interval: float) -> None:
    draws = np.exp(np.random.default_rng(3).normal(0.0, 0.2, SAMPLES))
    quantity = Quantity.from_log_sd(1.0, 0.2, interval=interval)
    inside = np.mean((draws >= quantity.low) & (draws <= quantity.high))
    assert inside == pytest.approx(interval, abs=0.005)
    assert normal_quantile(0.9) == pytest.approx(1.6449, abs=1e-4)


@pytest.mark.parametrize("log_sd", [1e3, 1e300])
def test_an_interval_of_ignorance_is_finite(log_sd: float) -> None:
    quantity = Quantity.from_log_sd(2.0, log_sd, interval=0.99)
    assert 0 < quantity.low < 1e-9
    assert 1e9 < quantity.high < math.inf
