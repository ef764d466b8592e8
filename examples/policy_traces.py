"""Write a made-up set of traces in the shape of a Qwen3-VL evaluation: nothing in it was measured on any model.

Usage: python examples/policy_traces.py examples/synthetic_traces.jsonl

Each item has a difficulty, and each way of asking a chance of being right that falls with it. Answers are option
letters, lengths are drawn around lengths of ordinary short and reasoned answers. The numbers are chosen so that no
policy is best at everything; they say nothing about real models.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from costmodel.policy.plan import Mode
from costmodel.policy.traces import Trace, write_traces
from costmodel.specs.images import ImageSize

SMALL, LARGE = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
OPTIONS = "ABCD"
SIZES = ((640, 480), (1024, 768), (480, 640), (1280, 720), (800, 800))

# Skill (in units of the spread of difficulty), median output tokens, spread of their logarithm.
KINDS: tuple[tuple[str, Mode, str, float, float, float, float], ...] = (
    (SMALL, "short", "all", 1.0, 0.1, 4, 0.3),
    (LARGE, "short", "all", 1.0, 0.8, 4, 0.3),
    (SMALL, "reason", "all", 1.0, 1.0, 260, 0.5),
    (LARGE, "reason", "all", 1.0, 1.9, 330, 0.5),
    (LARGE, "transfer", "all", 1.0, 1.5, 4, 0.3),
    (LARGE, "transfer", "last", 0.5, 1.35, 4, 0.3),
)
SAMPLES = 3


def made_up(items: int = 150, seed: int = 0) -> Iterator[Trace]:
    """Traces of a pair of models on ``items`` items."""
    rng = np.random.default_rng(seed)
    for index in range(items):
        width, height = SIZES[rng.integers(len(SIZES))]
        question = int(rng.integers(40, 120))
        difficulty = rng.normal()
        truth, lure = rng.permutation(list(OPTIONS))[:2]
        reasoned = 0
        for model, mode, selector, keep, skill, median, spread in KINDS:
            for sample in range(SAMPLES if (model, mode) == (SMALL, "reason") else 1):
                tokens = max(2, round(median * float(np.exp(spread * rng.normal() + 0.2 * difficulty))))
                margin = skill - difficulty + 0.6 * rng.normal()
                wrong = lure if rng.random() < 0.6 else rng.choice([x for x in OPTIONS if x != truth])
                if mode == "reason" and model == SMALL and sample == 0:
                    reasoned = tokens
                yield Trace(
                    item_id=f"synthetic-{index:03d}",
                    model=model,
                    mode=mode,
                    images=(ImageSize(width=width, height=height),),
                    prompt_tokens=question + (round(keep * reasoned) + 12 if mode == "transfer" else 0),
                    output_tokens=tokens,
                    answer=str(truth if margin > 0 else wrong),
                    correct=bool(margin > 0),
                    sample=sample,
                    selector=selector,
                    keep_fraction=keep,
                    confidence=round(float(1 / (1 + np.exp(-1.5 * margin - 0.8 * rng.normal()))), 3)
                    if mode == "short"
                    else None,
                    sources={"all": "synthetic"},
                )


if __name__ == "__main__":
    write_traces(Path(sys.argv[1]), made_up())
