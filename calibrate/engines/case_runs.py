"""Runs requests against an engine, one after the other or a few at a time; every outcome goes to a journal.

What a journal holds as good is not run again: a run that was interrupted, or met a server that failed, goes on there.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from calibrate.engines.outcomes import GOOD, judge
from calibrate.engines.protocol import Answer, Engine, Request
from calibrate.measure.journal import Journal
from costmodel.errors import EndpointAuthError, EndpointError, EndpointUnreachableError

__all__ = ["CaseRequest", "good_request", "missing_runs", "outcome_counts", "run_all", "run_requests"]

# After these every other request would fail as well.
_HOPELESS = (EndpointAuthError, EndpointUnreachableError)


@dataclass(frozen=True, slots=True)
class CaseRequest:
    """A request with a name.

    Attributes
    ----------
    facts
        Written with each of its rows, for those who read them.
    least_prompt_tokens
        See :func:`calibrate.engines.outcomes.judge`.
    """

    case_id: str
    request: Request
    facts: Mapping[str, Any]
    least_prompt_tokens: int = 1


async def run_requests(
    engine: Engine,
    cases: Sequence[CaseRequest],
    journal: Journal,
    *,
    repeats: int = 1,
    concurrency: int = 1,
    seed: int = 0,
    progress: Callable[[float, str], None] = lambda share, text: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Run every case ``repeats`` times, in random order, and append a row for each.

    Parameters
    ----------
    concurrency
        Requests in flight at once.
    after
        Called after each row.

    Raises
    ------
    EndpointError
        If nobody answers at all, or the key is refused; rows until then are kept.
    """
    todo = missing_runs(cases, journal, repeats)
    random.Random(seed).shuffle(todo)
    await run_all(engine, todo, journal, concurrency=concurrency, progress=progress, after=after)


async def run_all(
    engine: Engine,
    todo: Sequence[tuple[CaseRequest, int]],
    journal: Journal,
    *,
    concurrency: int = 1,
    progress: Callable[[float, str], None] = lambda share, text: None,
    after: Callable[[], None] = lambda: None,
) -> None:
    """Run these repeats of these cases in this order, whatever the journal holds; as :func:`run_requests`."""
    queue, total = iter(todo), max(len(todo), 1)
    done = 0

    async def work() -> None:
        nonlocal done
        for case, repeat in queue:
            row = await _run(engine, case)
            journal.append({"op": "request", "case_id": case.case_id, "repeat": repeat, **row})
            done += 1
            progress(done / total, case.case_id)
            after()

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(max(concurrency, 1)):
                group.create_task(work())
    except* _HOPELESS as failed:
        raise failed.exceptions[0] from None


def missing_runs(cases: Sequence[CaseRequest], journal: Journal, repeats: int) -> list[tuple[CaseRequest, int]]:
    """Cases and repeats that a journal holds no good run of."""
    good = {(row["case_id"], row["repeat"]) for row in journal if good_request(row)}
    return [(case, repeat) for repeat in range(repeats) for case in cases if (case.case_id, repeat) not in good]


def good_request(row: Mapping[str, Any]) -> bool:
    """Whether a row of a journal is a request that was measured."""
    return row.get("op") == "request" and row["outcome"] == GOOD


async def _run(engine: Engine, case: CaseRequest) -> dict[str, Any]:
    try:
        answer = await engine.ask(case.request)
    except _HOPELESS:
        raise
    except EndpointError as error:
        return {**case.facts, "outcome": error.outcome, "reason": str(error)}
    outcome, reason = judge(case.request, answer, least_prompt_tokens=case.least_prompt_tokens)
    return {**case.facts, "outcome": outcome, "reason": reason, **_measured(answer)}


def _measured(answer: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens_total": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "output_tokens": answer.tokens,
        "finish_reason": answer.finish_reason,
        "attempts": answer.attempts,
        "ttft_s": answer.ttft_s,
        "decode_s": answer.decode_s,
        "total_s": answer.total_s,
        "piece_s": list(answer.piece_s),
        "server": asdict(answer.server),
    }


def outcome_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many requests ended how; of a request that was run again, the last time."""
    last = {(row["case_id"], row["repeat"]): str(row["outcome"]) for row in rows if row.get("op") == "request"}
    return {outcome: list(last.values()).count(outcome) for outcome in sorted(set(last.values()))}
