"""Where one way of answering is faster than another, over two sizes at once, with the probability that it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import PolicyError
from costmodel.estimate import Estimate, total
from costmodel.policy.catalog.mutual_verification import mutual_verification
from costmodel.policy.expected import Aggregates, MeanTokens, expect
from costmodel.policy.interpolation import Table
from costmodel.policy.latency import ModelClock
from costmodel.policy.serving import Served
from costmodel.predict import estimate
from costmodel.specs.base import Frozen
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

__all__ = ["Surface", "framework_surface", "image_surface", "token_surface"]

Floats = NDArray[np.float64]


class Surface(Frozen):
    """Comparison of two ways of answering on a grid.

    Attributes
    ----------
    first, second
        What is compared.
    ratio
        Latency of the first over that of the second; one row for each ``y``.
    probability
        That the first is faster.
    """

    title: str
    first: str
    second: str
    x_label: str
    y_label: str
    x: tuple[float, ...]
    y: tuple[float, ...]
    ratio: tuple[tuple[float, ...], ...]
    probability: tuple[tuple[float, ...], ...]


def token_surface(
    small: Served,
    large: Served,
    *,
    images: tuple[ImageSize, ...],
    prompt_tokens: int,
    small_tokens: Sequence[int],
    large_tokens: Sequence[int],
    batch: int = 1,
    dtype: str = "bf16",
    quantization: str = "none",
    num_devices: int = 1,
) -> Surface:
    """Output tokens of both models: where the large model's answer is the faster one."""
    x, y = _grid(small_tokens, large_tokens)
    request = Workload(images=images, prompt_tokens=prompt_tokens, output_tokens=1, batch=batch)

    def answers(served: Served, role: str, lengths: Sequence[int], at: Floats) -> Estimate:
        forecast = estimate(
            served.model,
            served.hardware,
            served.engine,
            request,
            dtype=dtype,
            quantization=quantization,
            num_devices=num_devices,
        )
        each = np.array(lengths, dtype=float)
        return _run(served, role, Table.over(each, forecast.with_output(each)).at(at))

    return _surface(
        answers(large, "large", large_tokens, y),
        answers(small, "small", small_tokens, x),
        title="Which answer is faster, by its length",
        names=(large.model.name, small.model.name),
        x=("output tokens of the small model", small_tokens),
        y=("output tokens of the large model", large_tokens),
    )


def image_surface(
    small: Served,
    large: Served,
    *,
    sides_pixels: Sequence[int],
    prompt_tokens: int,
    small_tokens: Sequence[int],
    large_tokens: int,
    dtype: str = "bf16",
) -> Surface:
    """Side of a square image, and output tokens of the small model against a fixed answer of the large one."""
    x, y = _grid(sides_pixels, small_tokens)
    images = [(ImageSize(width=int(side), height=int(side)),) for side in x]
    clocks = _clocks((small, large), images, prompt_tokens + max(large_tokens, *small_tokens), dtype)
    prompts = np.full(x.size, float(prompt_tokens))
    return _surface(
        _run(large, "large", clocks[1].ask(prompts, np.full(x.size, float(large_tokens)))),
        _run(small, "small", clocks[0].ask(prompts, y)),
        title=f"Which answer is faster, by image size; the large model's has {large_tokens} tokens",
        names=(large.model.name, small.model.name),
        x=("side of the image (pixels)", sides_pixels),
        y=("output tokens of the small model", small_tokens),
    )


def framework_surface(
    small: Served,
    large: Served,
    *,
    images: tuple[ImageSize, ...],
    prompt_tokens: int,
    agreement: Sequence[float],
    reasoning_tokens: Sequence[int],
    large_reasoning_tokens: int,
    short_tokens: int = 4,
    agreement_after_reasoning: float = 0.5,
    keep_fraction: float = 1.0,
    dtype: str = "bf16",
) -> Surface:
    """Mutual verification with transfer against the large model's own reasoning, on one device.

    Parameters
    ----------
    agreement
        Share of items on which both short answers agree.
    reasoning_tokens
        Length of the small model's reasoning; ``keep_fraction`` of it is handed over.
    agreement_after_reasoning
        Share of the other items that the small model's reasoning settles.
    """
    plan = mutual_verification(parallel=False, keep_fraction=keep_fraction)
    x, y = _grid(agreement, reasoning_tokens)
    longest = prompt_tokens + max(large_reasoning_tokens, 2 * max(reasoning_tokens) + short_tokens)
    small_clock, large_clock = _clocks((small, large), [images] * x.size, longest, dtype)
    prompts, short = np.full(x.size, float(prompt_tokens)), np.full(x.size, float(short_tokens))
    asks = {
        "small-short": small_clock.ask(prompts, short),
        "large-short": large_clock.ask(prompts, short),
        "small-reason": small_clock.ask(prompts, y),
        "transferred": large_clock.ask(prompts + keep_fraction * y, short),
    }
    reached = _reached(plan.name, x, agreement_after_reasoning, asks)
    parts = {role: total([asks[n].scaled(reached[n]) for n in names]) for role, names in _BY_MODEL.items()}
    framework = total([_run(small, "small", parts["small"]), _run(large, "large", parts["large"])])
    alone = large_clock.ask(prompts, np.full(x.size, float(large_reasoning_tokens)))
    return _surface(
        framework,
        _run(large, "large", alone),
        title=f"Framework against {large_reasoning_tokens} tokens of the large model's own reasoning (mean latency)",
        names=("mutual verification", "large model's reasoning"),
        x=("share of items on which both short answers agree", agreement),
        y=("reasoning tokens of the small model", reasoning_tokens),
    )


_BY_MODEL = {"small": ("small-short", "small-reason"), "large": ("large-short", "transferred")}


def _reached(plan_name: str, agreement: Floats, after: float, asks: Mapping[str, Estimate]) -> dict[str, Floats]:
    """Probability that each ask is reached, from the first interpreter."""
    plan = mutual_verification(parallel=False)
    if plan.name != plan_name:
        raise PolicyError(f"no surface for plan {plan_name!r}")
    lengths = {name: MeanTokens(prompt_tokens=0, output_tokens=0) for name in asks}
    shares = {
        value: expect(plan, Aggregates(asks=lengths, stops={"agree": value, "agree-after-reasoning": after})).asked
        for value in np.unique(agreement).tolist()
    }
    return {name: np.array([shares[value][name] for value in agreement.tolist()]) for name in asks}


def _grid(x: Sequence[float], y: Sequence[float]) -> tuple[Floats, Floats]:
    if min(len(x), len(y)) < 2:
        raise PolicyError(f"a surface needs two or more values each way, got {len(x)} and {len(y)}")
    columns, rows = np.meshgrid(np.asarray(x, dtype=float), np.asarray(y, dtype=float))
    return columns.ravel(), rows.ravel()


def _clocks(
    served: tuple[Served, Served], images: Sequence[tuple[ImageSize, ...]], longest: int, dtype: str
) -> tuple[ModelClock, ModelClock]:
    small, large = (ModelClock(each, images, longest_context=longest, dtype=dtype) for each in served)
    return small, large


def _run(served: Served, role: str, took: Estimate) -> Estimate:
    return took.with_shared_error(f"run {role}", served.hardware.run_log_sd)


def _surface(
    first: Estimate,
    second: Estimate,
    *,
    title: str,
    names: tuple[str, str],
    x: tuple[str, Sequence[float]],
    y: tuple[str, Sequence[float]],
) -> Surface:
    shape = (len(y[1]), len(x[1]))
    gap = total([second, first.scaled(-1.0)])
    variance = sum((np.asarray(sd) ** 2 for sd in gap.sd_s.values()), start=np.zeros(shape[0] * shape[1]))
    sd = np.sqrt(np.maximum(variance, np.finfo(float).tiny))
    cdf = NormalDist().cdf
    probability = np.array([cdf(z) for z in np.clip(np.asarray(gap.value_s) / sd, -9, 9).tolist()])
    ratio = np.asarray(first.value_s) / np.asarray(second.value_s)
    return Surface(
        title=title,
        first=names[0],
        second=names[1],
        x_label=x[0],
        y_label=y[0],
        x=tuple(map(float, x[1])),
        y=tuple(map(float, y[1])),
        ratio=_rows(ratio.reshape(shape)),
        probability=_rows(probability.reshape(shape)),
    )


def _rows(values: Floats) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in values.tolist())
