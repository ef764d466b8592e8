"""Designed requests to an endpoint, and what came of them.

The fit gets a dozen requests that vary prompt, answer and image independently; others, of sizes in between, are held
out. Every prompt begins with words of its own, so that no server can use what it remembers of another.
"""

from __future__ import annotations

import itertools
import math
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibrate.check.endpoint_guard import Guard
from calibrate.engines.case_runs import CaseRequest, good_request, missing_runs, run_requests
from calibrate.engines.pictures import random_picture
from calibrate.engines.protocol import Engine, Request
from calibrate.measure.journal import Journal
from costmodel.cases import Case
from costmodel.errors import EndpointError
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

__all__ = [
    "HELD_OUT_PREFIX",
    "EndpointDesign",
    "MeasuredCase",
    "design_requests",
    "measured_cases",
    "request_of",
    "run_design",
    "visual_tokens_around",
    "warm_up",
]

_SYLLABLES = ("ba", "de", "fi", "go", "lu", "ma", "ne", "pi", "ro", "su", "ta", "vo")
_WARM_UP_TOKENS = 4

HELD_OUT_PREFIX = "held-out"
"""Beginning of the names of requests that no fit sees."""


@dataclass(frozen=True, slots=True)
class EndpointDesign:
    """What to ask.

    Attributes
    ----------
    prompt_words, output_tokens
        Every pair of them is asked; words, for only the server knows its tokens.
    images
        Sizes that take turns over the pairs, each with one pair more without an image.
    fit
        Whether there are requests to fit on; a check of a profile has none.
    held_out
        Requests of lengths in between, which no fit sees.
    repeats
        Runs of each request.
    """

    prompt_words: tuple[int, ...] = (12, 48, 120, 300)
    output_tokens: tuple[int, ...] = (4, 16, 40)
    images: tuple[ImageSize, ...] = ()
    fit: bool = True
    held_out: int = 6
    repeats: int = 3
    seed: int = 0


@dataclass(frozen=True, slots=True)
class MeasuredCase:
    """One request with the times of its repeats, in seconds.

    Attributes
    ----------
    workload
        With the tokens that the server counted; visual tokens and those around them taken off.
    prompt_tokens_total
        All tokens that the decoder reads.
    """

    case_id: str
    workload: Workload
    prompt_tokens_total: int
    ttft_s: tuple[float, ...]
    decode_s: tuple[float, ...]

    @property
    def held_out(self) -> bool:
        """Whether no fit may see it."""
        return self.case_id.startswith(HELD_OUT_PREFIX)

    def case(self, *, model: str, hardware: str, engine: str, dtype: str) -> Case:
        """As a row of a case table: medians."""
        steps = self.workload.output_tokens - 1
        measured = {"ttft": _median(self.ttft_s), "total": _median(self.total_s)}
        if steps:
            measured["tpot"] = _median(self.decode_s) / steps
        return Case(
            case_id=self.case_id,
            model=model,
            hardware=hardware,
            engine=engine,
            dtype=dtype,
            quantization="none",
            num_devices=1,
            workload=self.workload,
            measured_s=measured,
        )

    @property
    def total_s(self) -> tuple[float, ...]:
        """Whole requests."""
        return tuple(first + rest for first, rest in zip(self.ttft_s, self.decode_s, strict=True))


def _median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def design_requests(design: EndpointDesign, model: ModelSpec | None = None) -> list[CaseRequest]:
    """The requests of a design; a model tells how many tokens its images must have at least."""
    rng = random.Random(f"design {design.seed}")
    pairs = list(itertools.product(design.prompt_words, design.output_tokens)) if design.fit else []
    sizes: list[ImageSize | None] = [None, *design.images] if design.images else [None]
    chosen = [
        (f"fit-{i}", words, tokens, sizes[i % len(sizes)]) for i, (words, tokens) in enumerate(_mixed(pairs, sizes))
    ]
    chosen += [
        (
            f"{HELD_OUT_PREFIX}-{i}",
            _between(design.prompt_words, rng),
            _between(design.output_tokens, rng),
            sizes[i % len(sizes)],
        )
        for i in range(design.held_out)
    ]
    return [request_of(*each, model=model, seed=design.seed) for each in chosen]


def _mixed(pairs: list[tuple[int, int]], sizes: Sequence[object]) -> list[tuple[int, int]]:
    """The pairs in an order in which a turn over the sizes gives each size short and long prompts."""
    return pairs if len(sizes) == 1 else random.Random(1).sample(pairs, len(pairs))


def _between(values: Sequence[int], rng: random.Random) -> int:
    """Log-uniform over the range of the fit, its ends left out."""
    low, high = min(values), max(values)
    return round(low * math.exp(math.log(high / low) * rng.uniform(0.15, 0.95)))


def request_of(
    case_id: str, words: int, tokens: int, image: ImageSize | None, *, model: ModelSpec | None, seed: int, **facts: Any
) -> CaseRequest:
    """One request with words of its own; ``facts`` are written with its rows."""
    rng = random.Random(f"{case_id} {seed}")
    text = " ".join("".join(rng.choices(_SYLLABLES, k=2)) for _ in range(words))
    pictures = (random_picture(image, seed=seed),) if image else ()
    visual = model.visual_tokens(image.width, image.height) if image and model else 0
    return CaseRequest(
        case_id,
        Request(text, tokens, images=pictures, ignore_eos=True, reuse_prefix=False),
        {"images": str(image) if image else "", "words": words, "asked_tokens": tokens, **facts},
        least_prompt_tokens=max(visual, 1),
    )


async def run_design(
    engine: Engine,
    requests: Sequence[CaseRequest],
    journal: Journal,
    design: EndpointDesign,
    progress: Callable[[float, str], None] = lambda share, text: None,
    guard: Guard | None = None,
) -> None:
    """Warm the server up, then run what the journal lacks, with anchors between the requests.

    Raises
    ------
    EndpointError
        If the warm-up fails: the rest would as well.
    """
    if not missing_runs(requests, journal, design.repeats):
        return
    watch = guard or Guard()
    await warm_up(engine, requests)
    journal.append({"op": "start"})
    watch.mark(journal)
    await run_requests(
        engine,
        requests,
        journal,
        repeats=design.repeats,
        seed=design.seed,
        progress=progress,
        after=lambda: watch.mark(journal),
    )


async def warm_up(engine: Engine, requests: Sequence[CaseRequest]) -> None:
    """The first and the last of the requests with a brief answer."""
    for case in (requests[0], requests[-1]):
        await engine.ask(Request(case.request.prompt, _WARM_UP_TOKENS, case.request.images, reuse_prefix=False))


def measured_cases(rows: Sequence[Mapping[str, Any]], model: ModelSpec | None = None) -> list[MeasuredCase]:
    """The good runs of a journal, by request.

    Raises
    ------
    EndpointError
        If no run was good; says what became of them.
    """
    good: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        if good_request(row) and "beside" not in row:
            good[row["case_id"]][row["repeat"]] = row
    if not good:
        reasons = [str(row["reason"]) for row in rows if row.get("reason")]
        raise EndpointError(f"no request gave a usable measurement: {reasons[-1] if reasons else 'none was run'}")
    return [_measured(case_id, list(runs.values()), model) for case_id, runs in sorted(good.items())]


def _measured(case_id: str, runs: Sequence[Mapping[str, Any]], model: ModelSpec | None) -> MeasuredCase:
    first = runs[0]
    images = tuple(ImageSize.parse(text) for text in str(first["images"]).split(";") if text)
    total = int(first["prompt_tokens_total"])
    text = max(total - visual_tokens_around(model, images), 0)
    return MeasuredCase(
        case_id,
        Workload(images=images, prompt_tokens=text, output_tokens=int(first["output_tokens"])),
        total,
        tuple(float(run["ttft_s"]) for run in runs),
        tuple(float(run["decode_s"]) for run in runs),
    )


def visual_tokens_around(model: ModelSpec | None, images: Sequence[ImageSize]) -> int:
    """Tokens that images add to a prompt."""
    rule = model.image_rule if model else None
    layouts = [rule.layout(image) for image in images] if rule else []
    return sum(layout.visual_tokens + layout.extra_text_tokens for layout in layouts)
