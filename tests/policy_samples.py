"""Made-up traces for tests of policies: every kind of request, answers that agree now and then."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from made_profiles import LARGE, SMALL

from costmodel.policy.plan import Mode
from costmodel.policy.traces import Trace, TraceSet
from costmodel.specs.images import ImageSize

SIZES = (ImageSize(width=640, height=480), ImageSize(width=320, height=320), ImageSize(width=1024, height=512))
KINDS: tuple[tuple[str, Mode, int, str, float], ...] = (
    (SMALL, "short", 0, "all", 1.0),
    (LARGE, "short", 0, "all", 1.0),
    (SMALL, "reason", 0, "all", 1.0),
    (SMALL, "reason", 1, "all", 1.0),
    (SMALL, "reason", 2, "all", 1.0),
    (LARGE, "reason", 0, "all", 1.0),
    (LARGE, "transfer", 0, "all", 1.0),
    (LARGE, "transfer", 0, "last", 0.5),
)
ANSWERS = ("A", "(a)", "B", "B. blue", "The answer is C", "c.", "", "12 cm", "120 mm", "yes", "dog")


def traces(items: int = 40, seed: int = 0, kinds: Sequence[tuple[str, Mode, int, str, float]] = KINDS) -> list[Trace]:
    rng = np.random.default_rng(seed)
    made = []
    for index in range(items):
        images = tuple(SIZES[i] for i in rng.integers(len(SIZES), size=rng.integers(0, 3)))
        prompt = int(rng.integers(20, 90))
        for model, mode, sample, selector, keep in kinds:
            long = mode == "reason"
            made.append(
                Trace(
                    item_id=f"item-{index}",
                    model=model,
                    mode=mode,
                    images=images,
                    prompt_tokens=prompt + (int(rng.integers(50, 300)) if mode == "transfer" else 0),
                    output_tokens=int(rng.integers(40, 700)) if long else int(rng.integers(1, 9)),
                    answer=str(rng.choice(ANSWERS)),
                    correct=bool(rng.random() < 0.6),
                    reasoning="It is red. So the answer follows." if long else None,
                    sample=sample,
                    selector=selector,
                    keep_fraction=keep,
                    confidence=float(rng.random()),
                )
            )
    return made


def trace_set(items: int = 40, seed: int = 0) -> TraceSet:
    return TraceSet.of(traces(items, seed), small=SMALL, large=LARGE)
