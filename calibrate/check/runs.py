"""Real runs of two models, interleaved: designed cases, repeats in random order, anchors between them.

Each case is one request (an image of its own size, a prompt) that both models answer: the large one briefly, the small
one until it has surely taken longer, so that the measured break-even lies inside the small model's run.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from calibrate.engines.local_transformers import LocalModel, RunTimes, random_image
from calibrate.measure.device import Device
from calibrate.measure.journal import Journal
from calibrate.measure.samples import quiet_flags
from calibrate.measure.telemetry import Anchors, anchor_row
from costmodel.specs.images import ImageSize

__all__ = ["LEAST_QUIET_REPEATS", "LiveCase", "design_cases", "run_cases"]

_IMAGE_SIDES = (200, 560)
_PROMPT_TOKENS = (12, 200)
_WARM_UP_TOKENS = 4

LEAST_QUIET_REPEATS = 2
"""Undisturbed runs that a case needs to count."""


@dataclass(frozen=True, slots=True)
class LiveCase:
    """One request to both models.

    Attributes
    ----------
    output_tokens
        By model name.
    """

    case_id: str
    image: ImageSize
    prompt_tokens: int
    output_tokens: dict[str, int]


def design_cases(
    count: int, *, large_output_tokens: tuple[int, ...], seed: int
) -> list[tuple[str, ImageSize, int, int]]:
    """Held-out requests: case, image, prompt tokens, output tokens of the large model.

    Image sides and prompt lengths are log-uniform, one from each of ``count`` equal parts of their range, in
    independent order; none of them is a size that calibration measures.
    """
    rng = random.Random(f"held-out {seed}")
    columns = [_strata(count, *_IMAGE_SIDES, rng) for _ in range(2)]
    prompts = _strata(count, *_PROMPT_TOKENS, rng)
    return [
        (
            f"live-{index}",
            ImageSize(width=columns[0][index], height=columns[1][index]),
            prompts[index],
            large_output_tokens[index % len(large_output_tokens)],
        )
        for index in range(count)
    ]


def _strata(count: int, low: int, high: int, rng: random.Random) -> list[int]:
    ratio = (high / low) ** (1 / count)
    values = [round(low * ratio ** (index + rng.random())) for index in range(count)]
    rng.shuffle(values)
    return values


def run_cases(
    cases: Sequence[LiveCase],
    models: Mapping[str, LocalModel],
    device: Device,
    journal: Journal,
    *,
    repeats: int,
    budget_s: float,
    seed: int,
    progress: Callable[[float, str], None],
) -> None:
    """Run every case on every model until each has ``repeats`` runs and enough of them undisturbed.

    What the journal already holds is not run again.

    Parameters
    ----------
    budget_s
        When this much time is used, no further run is begun.
    """
    anchors = Anchors(device)
    for name, model in models.items():
        progress(0.0, f"warm-up {name}")
        for case in cases[:2]:
            _request(case, model, output_tokens=_WARM_UP_TOKENS, seed=seed)
    started = time.monotonic()
    rng = random.Random(seed)
    journal.append({"op": "start"})
    journal.append(anchor_row(anchors, device))
    while todo := _missing(cases, models, journal, repeats):
        rng.shuffle(todo)
        for case, name in todo:
            elapsed = time.monotonic() - started
            if elapsed > budget_s:
                return
            progress(min(elapsed / budget_s, 1.0), f"{case.case_id} {name}")
            journal.append(_run_once(case, name, models[name], seed))
            journal.append(anchor_row(anchors, device))


def _missing(
    cases: Sequence[LiveCase], models: Mapping[str, LocalModel], journal: Journal, repeats: int
) -> list[tuple[LiveCase, str]]:
    """Cases with the fewest runs, then those with too few undisturbed ones."""
    rows = list(journal)
    runs, quiet = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
    for row, flag in zip(rows, quiet_flags(rows), strict=True):
        if row.get("op") == "run":
            runs[row["case_id"], row["model"]] += 1
            quiet[row["case_id"], row["model"]] += flag
    every = [(case, name) for case in cases for name in models]
    fewest = min(runs[case.case_id, name] for case, name in every)
    if fewest < repeats:
        return [(case, name) for case, name in every if runs[case.case_id, name] == fewest]
    return [(case, name) for case, name in every if quiet[case.case_id, name] < LEAST_QUIET_REPEATS]


def _request(case: LiveCase, model: LocalModel, *, output_tokens: int, seed: int) -> RunTimes:
    image = random_image(case.image, seed=seed)
    return model.run([image], prompt_tokens=case.prompt_tokens, output_tokens=output_tokens)


def _run_once(case: LiveCase, name: str, model: LocalModel, seed: int) -> dict[str, object]:
    cpu_start, wall_start = time.process_time(), time.perf_counter()
    times = _request(case, model, output_tokens=case.output_tokens[name], seed=seed)
    wall_s, cpu_s = time.perf_counter() - wall_start, time.process_time() - cpu_start
    return {
        "op": "run",
        "case_id": case.case_id,
        "model": name,
        "images": str(case.image),
        "prompt_tokens": case.prompt_tokens,
        "output_tokens": case.output_tokens[name],
        **asdict(times),
        "latency_s": times.total_s,
        "cpu_share": cpu_s / wall_s if model.device.kind == "cpu" else 1.0,
    }
