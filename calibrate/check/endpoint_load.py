"""Requests beside each other: bursts, which tell what a step of several requests costs, and closed loops, which check.

A burst is a number of equal requests sent at once: between the last first token and the first end, all of them decode
together. A loop keeps a number of requests in flight; its answers differ in length, so that their phases spread. All
rows of a burst or a loop have the field ``beside``: how many requests went together.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from calibrate.check.endpoint_guard import Guard, undisturbed_flags
from calibrate.check.endpoint_runs import EndpointDesign, MeasuredCase, request_of, warm_up
from calibrate.engines.case_runs import CaseRequest, good_request, run_all
from calibrate.engines.protocol import Engine
from calibrate.measure.journal import Journal
from costmodel.specs.workload import Workload

__all__ = [
    "Batch",
    "MeasuredLoop",
    "design_bursts",
    "design_loops",
    "measured_bursts",
    "measured_loops",
    "run_batches",
    "share_of_quiet_loops",
]

Row = Mapping[str, Any]

_BURST_WORDS, _BURST_TOKENS = 12, 20
_BURSTS = 3
# Words of the prompt and mean tokens of the answer of each loop.
_LOOP_SHAPES = ((16, 24), (60, 12))
_LOOPS = 2
# Requests of a loop that count, beside those while it fills and empties.
_COUNTED = 6
# Below this share of undisturbed batches, all of them count.
_LEAST_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class Batch:
    """Requests that run with ``beside`` of them in flight."""

    name: str
    beside: int
    requests: tuple[CaseRequest, ...]


@dataclass(frozen=True, slots=True)
class MeasuredLoop:
    """A loop with the mean times of its requests, one of each run of the loop, in seconds."""

    name: str
    clients: int
    workload: Workload
    ttft_s: tuple[float, ...]
    tpot_s: tuple[float, ...]
    total_s: tuple[float, ...]


def design_bursts(sizes: Sequence[int], design: EndpointDesign) -> list[Batch]:
    """Bursts of every size."""
    return [
        _batch(f"burst-{size}-{index}", size, [(_BURST_WORDS, _BURST_TOKENS)] * size, design)
        for size in sizes
        for index in range(_BURSTS)
    ]


def design_loops(clients: Sequence[int], design: EndpointDesign) -> list[Batch]:
    """Every shape at every number of clients, more than once."""
    batches = []
    for words, tokens in _LOOP_SHAPES:
        for count in clients:
            for index in range(_LOOPS):
                rng = random.Random(f"{words} {count} {design.seed}")
                # As many short as long answers, half to one and a half times the mean.
                shares = [0.5 + (i + 0.5) / (_COUNTED + 2 * count) for i in range(_COUNTED + 2 * count)]
                rng.shuffle(shares)
                lengths = [(words, max(round(tokens * share), 2)) for share in shares]
                batches.append(_batch(f"loop-{words}x{tokens}-{count}-{index}", count, lengths, design))
    return batches


def _batch(name: str, beside: int, lengths: Sequence[tuple[int, int]], design: EndpointDesign) -> Batch:
    requests = tuple(
        request_of(f"{name}/{i}", words, tokens, None, model=None, seed=design.seed, beside=beside, batch=name)
        for i, (words, tokens) in enumerate(lengths)
    )
    return Batch(name, beside, requests)


async def run_batches(
    engine: Engine,
    batches: Sequence[Batch],
    journal: Journal,
    *,
    progress: Callable[[float, str], None] = lambda share, text: None,
    guard: Guard | None = None,
    seed: int = 0,
) -> None:
    """Run the batches that the journal does not hold as a whole, in random order, anchors between them."""
    held = {run.name for run in _runs(list(journal))}
    todo = [batch for batch in batches if batch.name not in held]
    if not todo:
        return
    watch = guard or Guard()
    await warm_up(engine, todo[0].requests)
    journal.append({"op": "start"})
    watch.mark(journal)
    random.Random(seed).shuffle(todo)
    for number, batch in enumerate(todo):
        journal.append({"op": "batch", "batch": batch.name})
        await run_all(engine, [(case, 0) for case in batch.requests], journal, concurrency=batch.beside)
        journal.append({"op": "batch_end", "batch": batch.name})
        watch.mark(journal)
        progress((number + 1) / len(todo), batch.name)


@dataclass(frozen=True, slots=True)
class _Run:
    """A batch that ran from beginning to end, with every request good."""

    name: str
    beside: int
    rows: tuple[Row, ...]
    quiet: bool


def _runs(rows: Sequence[Row]) -> Iterator[_Run]:
    """Batches of a journal; those that were interrupted, or had a fault, are passed over."""
    flags = undisturbed_flags(rows)
    begun: list[tuple[Row, bool]] = []
    for row, flag in zip(rows, flags, strict=True):
        if row.get("op") == "batch":
            begun = []
        elif "beside" in row:
            begun.append((row, flag))
        elif row.get("op") == "batch_end" and begun and all(good_request(each) for each, _ in begun):
            quiet = all(each for _, each in begun)
            yield _Run(str(row["batch"]), int(begun[0][0]["beside"]), tuple(each for each, _ in begun), quiet)


def _chosen(rows: Sequence[Row], kind: str) -> list[_Run]:
    """The undisturbed ones, unless too few are."""
    runs = [run for run in _runs(rows) if run.name.startswith(kind)]
    quiet = [run for run in runs if run.quiet]
    return quiet if len(quiet) >= _LEAST_SHARE * len(runs) else runs


def measured_bursts(rows: Sequence[Row]) -> list[MeasuredCase]:
    """Steps of several requests together; the time of a step is taken where all of them decode."""
    found: dict[int, list[tuple[Row, list[float]]]] = {}
    for run in _chosen(rows, "burst-"):
        start_s, end_s = max(row["ttft_s"] for row in run.rows), min(row["total_s"] for row in run.rows)
        for row in run.rows:
            inside = [time_s for time_s in row["piece_s"] if start_s <= time_s <= end_s]
            if len(inside) > 1:
                found.setdefault(run.beside, []).append((row, inside))
    return [_burst_case(size, pieces) for size, pieces in sorted(found.items())]


def _burst_case(size: int, pieces: Sequence[tuple[Row, list[float]]]) -> MeasuredCase:
    prompt = round(fmean(row["prompt_tokens_total"] for row, _ in pieces))
    output = round(fmean(row["output_tokens"] for row, _ in pieces))
    steps = [(times[-1] - times[0]) / (len(times) - 1) for _, times in pieces]
    return MeasuredCase(
        f"burst-{size}",
        Workload(prompt_tokens=prompt, output_tokens=output, batch=size),
        prompt,
        (),
        tuple(step_s * (output - 1) for step_s in steps),
    )


def measured_loops(rows: Sequence[Row]) -> list[MeasuredLoop]:
    """Loops by shape and number of clients; requests that ended while a loop filled or emptied are left out."""
    runs: dict[str, list[tuple[_Run, Sequence[Row]]]] = {}
    for run in _chosen(rows, "loop-"):
        inner = run.rows[run.beside : len(run.rows) - run.beside]
        runs.setdefault(run.name.rpartition("-")[0], []).append((run, inner))
    return [_loop(name, parts) for name, parts in sorted(runs.items())]


def _loop(name: str, parts: Sequence[tuple[_Run, Sequence[Row]]]) -> MeasuredLoop:
    rows = [row for _, inner in parts for row in inner]

    def means(field: str) -> tuple[float, ...]:
        return tuple(fmean(row[field] for row in inner) for _, inner in parts)

    decode_s, steps = means("decode_s"), tuple(fmean(row["output_tokens"] - 1 for row in inner) for _, inner in parts)
    return MeasuredLoop(
        name,
        parts[0][0].beside,
        Workload(
            prompt_tokens=round(fmean(row["prompt_tokens_total"] for row in rows)),
            output_tokens=round(fmean(row["output_tokens"] for row in rows)),
        ),
        means("ttft_s"),
        tuple(time_s / count for time_s, count in zip(decode_s, steps, strict=True)),
        means("total_s"),
    )


def share_of_quiet_loops(rows: Sequence[Row]) -> float | None:
    """Share of the loops that were undisturbed; ``None`` where nothing watched."""
    runs = [run for run in _runs(rows) if run.name.startswith("loop-")]
    watched = any(row.get("op") == "anchor" for row in rows)
    return sum(run.quiet for run in runs) / len(runs) if watched and runs else None
