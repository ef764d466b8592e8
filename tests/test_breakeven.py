"""Break-even against brute force: try every answer length of the small model."""

from __future__ import annotations

import math

import pytest
from made_profiles import (
    LARGE,
    SMALL,
    WINDOWED,
    calibrated,
    coefficient,
    engine,
    preset,
    request,
    roofline,
    slices_of,
)

from costmodel.breakeven import BreakEven, break_even
from costmodel.errors import ProfileError, WorkloadError
from costmodel.predict import predict
from costmodel.profiles import EngineProfile, HardwareProfile, load_engine, load_hardware

PAIRS = [(SMALL, LARGE), (SMALL, WINDOWED), (WINDOWED, "Qwen/Qwen2.5-VL-7B-Instruct")]
DEVICES = {
    "datasheet": load_hardware("h100-sxm"),
    "another datasheet": load_hardware("l40s"),
    "laws": calibrated(),
    "slices": calibrated(slices=[slices_of(preset(SMALL)), slices_of(preset(LARGE))]),
}


def _total_s(name: str, hardware: HardwareProfile, stack: EngineProfile, tokens: int) -> float:
    return predict(preset(name), hardware, stack, request(64, tokens)).latency.total_s.value


def _by_brute_force(small: str, large: str, hardware: HardwareProfile, tokens: int) -> float | None:
    """Smallest length that takes as long, interpolated from the one before."""
    target = _total_s(large, hardware, engine(), tokens)
    before = _total_s(small, hardware, engine(), 1)
    if before > target:
        return None
    for length in range(2, 2000):
        now = _total_s(small, hardware, engine(), length)
        if now >= target:
            return length - 1 + (target - before) / (now - before)
        before = now
    raise AssertionError("no crossing below 2000 tokens")


def _solve(small: str, large: str, hardware: HardwareProfile, tokens: int, **options: float) -> BreakEven:
    small_output = options.pop("small_output_tokens", None)
    return break_even(
        preset(small),
        preset(large),
        hardware,
        engine(),
        request(64, 1),
        large_output_tokens=tokens,
        small_output_tokens=None if small_output is None else int(small_output),
        **options,
    )


@pytest.mark.parametrize("device", sorted(DEVICES))
@pytest.mark.parametrize(("small", "large"), PAIRS, ids=["2B 8B", "families", "3B 7B"])
def test_equals_brute_force(small: str, large: str, device: str) -> None:
    hardware = DEVICES[device]
    for tokens in (1, 7, 32):
        result = _solve(small, large, hardware, tokens)
        expected = _by_brute_force(small, large, hardware, tokens)
        if expected is None:
            assert result.break_even_output_tokens is None
            continue
        assert result.break_even_output_tokens is not None
        assert result.break_even_output_tokens.value == pytest.approx(expected, rel=1e-9)
        assert result.small_at_break_even_s == pytest.approx(result.large_s.value)


def test_every_point_of_the_curve_equals_brute_force() -> None:
    result = _solve(SMALL, LARGE, calibrated(), 10)
    lengths = [point.large_output_tokens for point in result.curve]
    assert lengths[0] == 1
    assert lengths[-1] == 20
    for point in result.curve:
        assert point.small_output_tokens is not None
        expected = _by_brute_force(SMALL, LARGE, calibrated(), point.large_output_tokens)
        assert point.small_output_tokens.value == pytest.approx(expected, rel=1e-9)


def test_latencies_are_those_of_predict() -> None:
    hardware = calibrated(run_log_sd=0.05)
    result = _solve(SMALL, LARGE, hardware, 10, interval=0.8)
    for point in result.latencies:
        for name, quantity in ((SMALL, point.small_s), (LARGE, point.large_s)):
            workload = request(64, point.output_tokens)
            expected = predict(preset(name), hardware, engine(), workload, interval=0.8).latency.total_s
            assert quantity.model_dump() == pytest.approx(expected.model_dump())
    assert result.latencies[-1].output_tokens >= 2 * result.break_even_output_tokens.value  # type: ignore[union-attr]


def test_grows_with_the_large_models_answer() -> None:
    points = [_solve(SMALL, LARGE, calibrated(), tokens).break_even_output_tokens for tokens in (1, 2, 5, 20, 100)]
    values = [point.value for point in points if point is not None]
    assert len(values) == 5
    assert values == sorted(set(values))


def test_none_where_the_small_model_is_always_slower() -> None:
    result = _solve(LARGE, SMALL, calibrated(), 1, small_output_tokens=5)
    assert result.break_even_output_tokens is None
    assert result.small_at_break_even_s is None
    assert result.probability_large_faster == pytest.approx(1.0, abs=0.05)
    assert result.curve[0].small_output_tokens is None


@pytest.mark.parametrize("tokens", [1, 9])
def test_a_model_breaks_even_with_itself_at_the_same_length(tokens: int) -> None:
    hardware = calibrated(run_log_sd=0.03)
    result = _solve(SMALL, SMALL, hardware, tokens, small_output_tokens=tokens)
    assert result.break_even_output_tokens is not None
    assert result.break_even_output_tokens.value == pytest.approx(tokens)
    assert result.probability_large_faster == pytest.approx(0.5)


def test_probability_is_one_half_at_the_crossing() -> None:
    hardware = calibrated(run_log_sd=0.02)
    point = _solve(SMALL, LARGE, hardware, 20).break_even_output_tokens
    assert point is not None
    below, above = (
        _solve(SMALL, LARGE, hardware, 20, small_output_tokens=tokens).probability_large_faster
        for tokens in (math.floor(point.value), math.ceil(point.value))
    )
    assert below is not None
    assert above is not None
    assert below <= 0.5 <= above
    assert above - below < 0.3


def test_probability_matches_the_interval() -> None:
    """At the ends of the 90 % interval the chance is 5 % and 95 %, to first order."""
    hardware = calibrated(roofline(log_sd=0.02), run_log_sd=0.02)
    point = _solve(SMALL, LARGE, hardware, 60, interval=0.9).break_even_output_tokens
    assert point is not None
    for end, expected in ((point.low, 0.05), (point.high, 0.95)):
        chance = _solve(SMALL, LARGE, hardware, 60, small_output_tokens=round(end)).probability_large_faster
        assert chance == pytest.approx(expected, abs=0.03)


def test_a_shared_law_leaves_the_ratio_surer_than_either_time() -> None:
    """A law that is wrong for both models cancels in part; the drift between two runs does not."""
    stack = engine(**dict.fromkeys(("request_s", "image_s", "megapixel_s", "step_s"), coefficient(0.0)))
    hardware = calibrated(roofline(log_sd=0.3, fixed_s=1e-9))
    result = break_even(
        preset(SMALL), preset(LARGE), hardware, stack, request(64, 1, images=0), large_output_tokens=100
    )
    point, time = result.break_even_output_tokens, result.large_s
    assert point is not None
    assert (point.high - point.low) / point.value < 0.2 * (time.high - time.low) / time.value


def test_ratio_depends_on_the_engine() -> None:
    """Where the host binds, a token costs by layers; where memory binds, by bytes."""
    hardware = load_hardware("h100-sxm")
    ratios = {}
    for key in ("hf-eager", "vllm-0.7.2"):
        result = break_even(
            preset(SMALL),
            preset(LARGE),
            hardware,
            load_engine(key),
            request(64, 1, images=0),
            large_output_tokens=200,
        )
        assert result.break_even_output_tokens is not None
        ratios[key] = result.break_even_output_tokens.value / 200
    assert 1.0 < ratios["hf-eager"] < ratios["vllm-0.7.2"]


def test_warnings_are_said_once() -> None:
    assert len(_solve(SMALL, LARGE, load_hardware("h100-sxm"), 5).warnings) == 1


def test_an_answer_has_a_token() -> None:
    with pytest.raises(WorkloadError, match="large_output_tokens is 0"):
        _solve(SMALL, LARGE, calibrated(), 0)


def test_free_tokens_have_no_crossing() -> None:
    """A profile in which decoding takes no time is refused, not searched for ever."""
    spec = preset(SMALL)
    profile = slices_of(spec)
    free = {
        name: fit.model_copy(update={"coefficients": dict.fromkeys(fit.coefficients, coefficient(0.0))})
        if name.startswith(("decode", "head"))
        else fit
        for name, fit in profile.components.items()
    }
    hardware = calibrated(slices=[profile.model_copy(update={"components": free})])
    with pytest.raises(ProfileError, match="a token takes no time"):
        _solve(SMALL, LARGE, hardware, 5)
