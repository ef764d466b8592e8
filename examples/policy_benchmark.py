"""How long replaying takes: ten policies over a hundred thousand recorded answers, and the whole choice.

Usage: python examples/policy_benchmark.py [answers]
"""

from __future__ import annotations

import sys
import time

import numpy as np

from costmodel import load_engine, load_hardware, load_model
from costmodel.policy.catalog import catalog
from costmodel.policy.choose import choose_policy
from costmodel.policy.goals import Goal
from costmodel.policy.replay import missing_traces, replay
from costmodel.policy.traces import Column, TraceKey, TraceSet
from costmodel.specs.images import ImageSize

SMALL, LARGE = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
KEYS = (
    TraceKey("small", "short"),
    TraceKey("large", "short"),
    *(TraceKey("small", "reason", sample) for sample in range(3)),
    TraceKey("large", "reason"),
    TraceKey("large", "transfer"),
)
PLANS = 10


def made_up(answers: int) -> TraceSet:
    """Answers of random letters and lengths on as many items as come to ``answers`` in all."""
    rng, items = np.random.default_rng(0), answers // len(KEYS)
    sizes = [ImageSize(width=int(w), height=int(h)) for w, h in rng.integers(300, 1500, (200, 2))]
    return TraceSet(
        small=SMALL,
        large=LARGE,
        items=tuple(f"item-{i}" for i in range(items)),
        images=tuple((sizes[i],) for i in rng.integers(len(sizes), size=items)),
        columns={key: _column(rng, items, long=key.mode == "reason") for key in KEYS},
    )


def _column(rng: np.random.Generator, items: int, *, long: bool) -> Column:
    right = rng.random(items) < 0.7
    letters = np.where(right, "A", rng.choice(list("BCD"), items))
    return Column(
        answers=tuple(letters.tolist()),
        reasoning=(None,) * items,
        correct=right,
        prompt_tokens=rng.integers(20, 200, items),
        output_tokens=rng.integers(50, 600, items) if long else rng.integers(1, 9, items),
        confidence=rng.random(items),
        total_s=np.full(items, np.nan),
    )


def main(answers: int) -> None:
    """Print the times."""
    traces = made_up(answers)
    plans = [plan for plan in catalog() if missing_traces(plan, traces) is None][:PLANS]
    start = time.perf_counter()
    for plan in plans:
        replay(plan, traces)
    replayed_s = time.perf_counter() - start
    models = (load_model(SMALL), load_model(LARGE))
    hardware, engine = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
    start = time.perf_counter()
    choose_policy(*models, traces, hardware, engine, goal=Goal(budget_s=3), plans=plans, with_sensitivity=False)
    chosen_s = time.perf_counter() - start
    print(f"{len(plans)} policies over {answers} answers ({len(traces)} items): replayed in {replayed_s:.2f} s")
    print(f"the whole choice, latencies with intervals and bootstrap included: {chosen_s:.2f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
