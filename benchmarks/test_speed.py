"""What is timed: ``make bench``, in processor time, so that other work on the machine counts little.

Every time is set against a numpy kernel timed in the same run, see ``compare.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from costmodel import Workload, break_even, load_engine, load_hardware, load_model, predict, sweep
from costmodel.specs.images import ImageSize

MODEL, SMALL = load_model("Qwen/Qwen3-VL-8B-Instruct"), load_model("Qwen/Qwen3-VL-2B-Instruct")
TILED, PRIORS = load_hardware("h100-sxm"), load_hardware("rtx-a6000")
ENGINE = load_engine("vllm-0.7.2")
REQUEST = Workload(images=(ImageSize(width=1024, height=768),), prompt_tokens=100, output_tokens=200)
AXES: dict[str, Any] = {
    "images": [f"{64 * k}x{48 * k}" for k in (4, 9)],
    "prompt_tokens": np.linspace(64, 8000, 50).astype(int),
    "output_tokens": np.linspace(1, 2000, 100).astype(int),
    "batch": [1, 2, 4, 8, 16, 32, 64, 96, 128, 256],
}


def test_numpy_kernel(benchmark: Any) -> None:
    """The yardstick: powers of arrays that stay in the cache, as laws are made of."""
    x = np.linspace(0.1, 2.0, 5_000)

    def kernel() -> float:
        total = 0.0
        for _ in range(2):
            total += float(((x**2.5 + 1.0) ** 0.4 * x).sum())
        return total

    benchmark(kernel)


@pytest.mark.parametrize("hardware", [TILED, PRIORS], ids=["tiled", "priors"])
@pytest.mark.parametrize("interval", [None, 0.9], ids=["values", "intervals"])
def test_predict(benchmark: Any, hardware: Any, interval: float | None) -> None:
    benchmark(predict, MODEL, hardware, ENGINE, REQUEST, interval=interval)


def test_break_even(benchmark: Any) -> None:
    benchmark(break_even, SMALL, MODEL, TILED, ENGINE, REQUEST, large_output_tokens=32)


def test_sweep_of_100_000_values(benchmark: Any) -> None:
    benchmark(sweep, MODEL, TILED, ENGINE, **AXES)


def test_sweep_of_10_000_intervals(benchmark: Any) -> None:
    axes = {**AXES, "output_tokens": AXES["output_tokens"][::10]}
    benchmark.pedantic(sweep, args=(MODEL, TILED, ENGINE), kwargs={**axes, "interval": 0.9}, rounds=3)
