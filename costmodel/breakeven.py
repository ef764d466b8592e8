"""Break-even between two models: the small model's answer length that costs as much as the large model's."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import ProfileError, WorkloadError
from costmodel.estimate import Estimate, total
from costmodel.predict import Forecast, estimate
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.quantity import Quantity, normal_quantile
from costmodel.specs.base import Frozen
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

__all__ = ["BreakEven", "BreakEvenPoint", "LatencyPoint", "break_even"]

Floats = NDArray[np.float64]

_CURVE_POINTS = 12
# Lengths tried at once between the two that bracket a crossing.
_TRIES = 33
_LONGEST_ANSWER = 2**40


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


class BreakEven(Frozen):
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
    quantization: str = "none"
    num_devices: int = 1
    batch: int = 1
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


@dataclass(frozen=True, slots=True)
class _Side:
    """One model on the common request; every output length asked for in one go.

    ``role`` tells the two apart where both have the same name.
    """

    role: Literal["small", "large"]
    forecast: Forecast

    def seconds(self, output_tokens: Floats) -> Floats:
        """Totals at these output lengths."""
        return np.asarray(self.forecast.with_output(output_tokens, errors=False).value_s)

    def run(self, output_tokens: Floats) -> Estimate:
        """Totals of one run: the two models run at different times, so that the device's drift is not shared."""
        whole = self.forecast.with_output(output_tokens)
        hardware = self.forecast.pricer.hardware
        return whole.on_device(hardware.run_log_sd, hardware.device_log_sd, run=f"run {self.role}")

    def quantities(self, output_tokens: Sequence[int], interval: float) -> list[Quantity]:
        """Totals with their intervals."""
        noisy = self.run(np.array(output_tokens, dtype=float))
        pairs = zip(np.asarray(noisy.value_s).tolist(), np.asarray(noisy.log_sd()).tolist(), strict=True)
        return [Quantity.from_log_sd(value, log_sd, interval=interval) for value, log_sd in pairs]


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
    kv_dtype: str | None = None,
    quantization: str = "none",
    num_devices: int = 1,
    interval: float = 0.9,
) -> BreakEven:
    """Solve total_small(N) = total_large(``large_output_tokens``) for N (equation 20).

    Parameters
    ----------
    request
        Images, prompt and batch; its output length is not used.
    small_output_tokens
        Length of the small model's answer, for the probability that the large model is faster.
    dtype, kv_dtype, quantization, num_devices
        Of both models, as for :func:`costmodel.predict`.

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

    how = {"dtype": dtype, "kv_dtype": kv_dtype, "quantization": quantization, "num_devices": num_devices}
    sides = (
        _side("small", small, (hardware, engine), _with_output(request, small_output_tokens), how),
        _side("large", large, (hardware, engine), _with_output(request, large_output_tokens), how),
    )
    lengths = _lengths(2 * large_output_tokens)
    *curve, point = _solve(*sides, [*lengths, large_output_tokens], interval)
    longest = max(large_output_tokens, small_output_tokens or 1, math.ceil(point.value) if point else 1)
    large_s = sides[1].quantities([large_output_tokens], interval)[0]
    return BreakEven(
        small=small.name,
        large=large.name,
        hardware=hardware.key,
        engine=engine.key,
        dtype=dtype,
        quantization=quantization,
        num_devices=num_devices,
        batch=request.batch,
        interval=interval,
        large_output_tokens=large_output_tokens,
        small_output_tokens=small_output_tokens,
        break_even_output_tokens=point,
        small_at_break_even_s=large_s.value if point else None,
        large_s=large_s,
        probability_large_faster=_probability(*sides, small_output_tokens, large_output_tokens),
        curve=tuple(
            BreakEvenPoint(large_output_tokens=tokens, small_output_tokens=crossing)
            for tokens, crossing in zip(lengths, curve, strict=True)
        ),
        latencies=_latencies(*sides, _lengths(2 * longest), interval),
        warnings=tuple(dict.fromkeys(text for each in sides for text in each.forecast.pricer.warnings)),
    )


def _side(
    role: Literal["small", "large"],
    model: ModelSpec,
    device: tuple[HardwareProfile, EngineProfile],
    workload: Workload,
    how: Mapping[str, Any],
) -> _Side:
    return _Side(role, estimate(model, *device, workload, **how))


def _with_output(request: Workload, output_tokens: int | None) -> Workload:
    return request.model_copy(update={"output_tokens": output_tokens or 1})


def _latencies(small: _Side, large: _Side, lengths: Sequence[int], interval: float) -> tuple[LatencyPoint, ...]:
    both = (each.quantities(lengths, interval) for each in (small, large))
    return tuple(
        LatencyPoint(output_tokens=tokens, small_s=small_s, large_s=large_s)
        for tokens, small_s, large_s in zip(lengths, *both, strict=True)
    )


def _solve(small: _Side, large: _Side, large_tokens: Sequence[int], interval: float) -> list[Quantity | None]:
    """Bracket every crossing between two whole lengths, and interpolate between them."""
    lengths = np.array(large_tokens, dtype=float)
    target = large.run(lengths)
    wanted = np.asarray(target.value_s)
    first, second = small.seconds(np.array([1.0, 2.0]))
    crosses = wanted >= first
    if not crosses.any():
        return [None] * len(lengths)
    if second <= first:
        raise ProfileError(f"{small.forecast.model.name}: by these profiles a token takes no time: no break-even")
    low = _last_below(small, wanted)
    pair = small.run(np.stack([low, low + 1]))
    below, above = np.asarray(pair.value_s)
    slope = above - below
    value = low + (wanted - below) / slope
    # First-order error of the crossing: that of the difference of the totals over the small model's time per token.
    last = Estimate(above, {source: np.broadcast_to(sd, (2, len(low)))[1] for source, sd in pair.sd_s.items()})
    half = normal_quantile(interval) * _difference(last, target) / slope
    found = zip(crosses.tolist(), value.tolist(), half.tolist(), strict=True)
    return [Quantity(value=at, low=max(at - sd, 0.0), high=at + sd) if real else None for real, at, sd in found]


def _last_below(small: _Side, wanted: Floats) -> Floats:
    """Longest whole length, 1 or more, at which the small model takes less than is wanted; all at once."""
    high = 2.0
    while small.seconds(np.array([high]))[0] < wanted.max():
        if high > _LONGEST_ANSWER:
            raise ProfileError(f"{small.forecast.model.name}: by these profiles a token takes next to no time")
        high *= 8
    low, ends = np.ones(len(wanted)), np.full(len(wanted), high)
    while (ends - low).max() > 1:
        tries = np.floor(np.linspace(low, ends, _TRIES))
        below = (small.seconds(tries) < wanted).sum(axis=0).clip(1, _TRIES - 1)
        columns = np.arange(len(wanted))
        low, ends = tries[below - 1, columns], tries[below, columns]
        # Tries that were rounded to the same length leave nothing between them.
        ends = np.maximum(ends, low + 1)
    return low


def _difference(first: Estimate, second: Estimate) -> Floats:
    """Standard deviation of first - second: sources that both share cancel."""
    gap = total([first, second.scaled(-1.0)])
    return np.asarray(np.sqrt(sum((np.asarray(sd) ** 2 for sd in gap.sd_s.values()), start=0 * gap.value_s)))


def _probability(small: _Side, large: _Side, small_tokens: int | None, large_tokens: int) -> float | None:
    """Probability that the large model's answer comes first."""
    if small_tokens is None:
        return None
    first, second = small.run(np.array(float(small_tokens))), large.run(np.array(float(large_tokens)))
    gap, sd = float(first.value_s - second.value_s), float(_difference(first, second))
    return float(NormalDist().cdf(gap / sd)) if sd > 0 else float(gap > 0)


def _lengths(longest: int) -> Sequence[int]:
    """Output lengths from 1 to ``longest``, about evenly spaced."""
    return sorted({round(x) for x in np.linspace(1, max(longest, 2), _CURVE_POINTS)})
