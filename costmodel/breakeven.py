"""Break-even between two models: the small model's answer length that costs as much as the large model's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from costmodel.errors import ProfileError, WorkloadError
from costmodel.estimate import Estimate, total
from costmodel.predict import estimate
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.quantity import Quantity, normal_quantile
from costmodel.specs.base import Frozen, Shown
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

__all__ = ["BreakEven", "BreakEvenPoint", "LatencyPoint", "break_even"]

_CURVE_POINTS = 12


class BreakEvenPoint(Frozen):
    """Small-model tokens that cost as much as ``large_output_tokens`` of the large one.

    Attributes
    ----------
    small_output_tokens
        ``None`` where the small model is slower even with one token.
    """

    large_output_tokens: int
    small_output_tokens: Quantity | None


class LatencyPoint(Frozen):
    """Latency of both models at one output length."""

    output_tokens: int
    small_s: Quantity
    large_s: Quantity


class BreakEven(Shown):
    """What ``costmodel breakeven --format json`` prints.

    Attributes
    ----------
    probability_large_faster
        Probability that the large model with its answer is faster than the small one with ``small_output_tokens``;
        ``None`` where that length was not given.
    curve
        Break-even over the large model's output length.
    latencies
        Latency of both models over the output length.
    """

    schema_version: int = 1
    small: str
    large: str
    hardware: str
    engine: str
    dtype: str
    interval: float
    large_output_tokens: int
    small_output_tokens: int | None
    break_even_output_tokens: Quantity | None
    small_at_break_even_s: float | None
    large_s: Quantity
    probability_large_faster: float | None
    curve: tuple[BreakEvenPoint, ...]
    latencies: tuple[LatencyPoint, ...]
    warnings: tuple[str, ...]


class _Side:
    """One model on the common request; totals by output length, each computed once.

    ``role`` tells the two apart where both have the same name.
    """

    def __init__(
        self,
        role: str,
        model: ModelSpec,
        hardware: HardwareProfile,
        engine: EngineProfile,
        request: Workload,
        dtype: str,
    ) -> None:
        self.role, self.model, self._hardware, self._engine = role, model, hardware, engine
        self._request, self._dtype = request, dtype
        self._totals: dict[int, Estimate] = {}
        self.warnings: list[str] = []

    def total(self, output_tokens: int) -> Estimate:
        """Whole request with this many output tokens."""
        if output_tokens not in self._totals:
            workload = self._request.model_copy(update={"output_tokens": output_tokens})
            forecast = estimate(self.model, self._hardware, self._engine, workload, dtype=self._dtype)
            self._totals[output_tokens] = forecast.total
            self.warnings += [w for w in forecast.pricer.warnings if w not in self.warnings]
        return self._totals[output_tokens]

    def seconds(self, output_tokens: int) -> float:
        """Value of the total."""
        return float(self.total(output_tokens).value_s)

    def run(self, output_tokens: int) -> Estimate:
        """Total of one run: the two models run at different times, so that the device's drift is not shared."""
        hardware = self._hardware
        return self.total(output_tokens).on_device(hardware.run_log_sd, hardware.device_log_sd, run=f"run {self.role}")

    def quantity(self, output_tokens: int, interval: float) -> Quantity:
        """Total with its interval."""
        noisy = self.run(output_tokens)
        return Quantity.from_log_sd(float(noisy.value_s), float(noisy.log_sd()), interval=interval)


def break_even(
    small: ModelSpec,
    large: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    request: Workload,
    *,
    large_output_tokens: int,
    small_output_tokens: int | None = None,
    dtype: str = "bf16",
    interval: float = 0.9,
) -> BreakEven:
    """Solve total_small(N) = total_large(``large_output_tokens``) for N (equation 20).

    Parameters
    ----------
    request
        Images and prompt; its output length is not used.
    small_output_tokens
        Length of the small model's answer, for the probability that the large model is faster.

    Raises
    ------
    WorkloadError
        If an output length is below 1.
    ProfileError
        If the small model's tokens take no time, so that there is no crossing.
    """
    for name, got in (("large", large_output_tokens), ("small", small_output_tokens)):
        if got is not None and got < 1:
            raise WorkloadError(f"{name}_output_tokens is {got}, expected 1 or more")
    pair = (("small", small), ("large", large))
    sides = [_Side(role, model, hardware, engine, request, dtype) for role, model in pair]
    point, at_s = _solve(sides[0], sides[1], large_output_tokens, interval)
    longest = max(large_output_tokens, small_output_tokens or 1, math.ceil(point.value) if point else 1)
    probability = None
    if small_output_tokens is not None:
        probability = _probability_slower(sides[0].run(small_output_tokens), sides[1].run(large_output_tokens))
    return BreakEven(
        small=small.name,
        large=large.name,
        hardware=hardware.key,
        engine=engine.key,
        dtype=dtype,
        interval=interval,
        large_output_tokens=large_output_tokens,
        small_output_tokens=small_output_tokens,
        break_even_output_tokens=point,
        small_at_break_even_s=at_s,
        large_s=sides[1].quantity(large_output_tokens, interval),
        probability_large_faster=probability,
        curve=_curve(sides[0], sides[1], _lengths(2 * large_output_tokens), interval),
        latencies=_latencies(sides[0], sides[1], _lengths(2 * longest), interval),
        warnings=tuple(dict.fromkeys([*sides[0].warnings, *sides[1].warnings])),
    )


def _curve(small: _Side, large: _Side, lengths: Sequence[int], interval: float) -> tuple[BreakEvenPoint, ...]:
    return tuple(
        BreakEvenPoint(large_output_tokens=tokens, small_output_tokens=_solve(small, large, tokens, interval)[0])
        for tokens in lengths
    )


def _latencies(small: _Side, large: _Side, lengths: Sequence[int], interval: float) -> tuple[LatencyPoint, ...]:
    return tuple(
        LatencyPoint(
            output_tokens=tokens,
            small_s=small.quantity(tokens, interval),
            large_s=large.quantity(tokens, interval),
        )
        for tokens in lengths
    )


def _solve(small: _Side, large: _Side, large_tokens: int, interval: float) -> tuple[Quantity | None, float | None]:
    """Bracket by doubling, bisect on whole tokens, interpolate between the last two."""
    target = large.seconds(large_tokens)
    if small.seconds(1) > target:
        return None, None
    if small.seconds(2) <= small.seconds(1):
        raise ProfileError(f"{small.model.name}: by these profiles a token takes no time, there is no break-even")
    low, high = 1, 2
    while small.seconds(high) < target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if small.seconds(middle) < target else (low, middle)
    slope = small.seconds(high) - small.seconds(low)
    value = low + (target - small.seconds(low)) / slope
    # First-order error of the crossing: that of the difference of the totals over the small model's time per token.
    difference = _difference(small.run(high), large.run(large_tokens))
    half = normal_quantile(interval) * difference / slope
    return Quantity(value=value, low=max(value - half, 0.0), high=value + half), target


def _difference(first: Estimate, second: Estimate) -> float:
    """Standard deviation of first - second: sources that both share cancel."""
    gap = total([first, second.scaled(-1.0)])
    return float(np.sqrt(sum(np.float64(sd) ** 2 for sd in gap.sd_s.values())))


def _probability_slower(first: Estimate, second: Estimate) -> float:
    """Probability that the first takes longer than the second."""
    gap, sd = float(first.value_s - second.value_s), _difference(first, second)
    return float(NormalDist().cdf(gap / sd)) if sd > 0 else float(gap > 0)


def _lengths(longest: int) -> Sequence[int]:
    """Output lengths from 1 to ``longest``, about evenly spaced."""
    return sorted({round(x) for x in np.linspace(1, max(longest, 2), _CURVE_POINTS)})
