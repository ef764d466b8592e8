"""Run a plan over items: every finished item goes to a journal, so that a run that dies goes on where it stopped."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibrate.measure.journal import Journal
from calibrate.policies.engine import Pair
from costmodel.errors import (
    EndpointAuthError,
    EndpointBusyError,
    EndpointError,
    EndpointServerError,
    EndpointUnreachableError,
    PolicyError,
)
from costmodel.policy.agreement import agree
from costmodel.policy.plan import Plan
from costmodel.policy.run import Item, Outcome, run_item, traces_of
from costmodel.policy.traces import Trace

__all__ = ["GOOD", "ItemRun", "finished_runs", "run_plan", "unfinished"]

GOOD = "ok"

# After these every other item would fail as well, retries included.
_HOPELESS = (EndpointAuthError, EndpointUnreachableError, EndpointServerError, EndpointBusyError)

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ItemRun:
    """What became of one item.

    Attributes
    ----------
    asks
        Name of the ask of each trace.
    total_s
        From question to answer, as the caller measured it.
    """

    item_id: str
    route: str
    source: str
    asks: tuple[str, ...]
    traces: tuple[Trace, ...]
    total_s: float

    @property
    def answered(self) -> Trace:
        """The trace whose answer was given."""
        return self.traces[self.asks.index(self.source)]


async def run_plan(
    plan: Plan,
    items: Sequence[Item],
    pair: Pair,
    journal: Journal,
    *,
    matcher: str = "auto",
    concurrency: int = 1,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> None:
    """Follow a plan on every item that the journal has no finished run of.

    An item that its engine refuses, or that times out, is recorded as such and asked again by the next run.

    Raises
    ------
    EndpointError
        If an engine is gone for good; finished items are kept.
    PolicyError
        If ``concurrency`` is below 1.
    """
    if concurrency < 1:
        raise PolicyError(f"concurrency is {concurrency}, expected 1 or more")
    known = {run.item_id for run in finished_runs(journal)}
    queue = iter([item for item in items if item.item_id not in known])
    done = len(known)

    async def work() -> None:
        nonlocal done
        for item in queue:
            journal.append(await _run(plan, item, pair, matcher))
            done += 1
            progress(done / len(items), item.item_id)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(work())
    except* EndpointError as failed:
        raise _first(failed) from None
    except* PolicyError as failed:
        raise _first(failed) from None


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _run(plan: Plan, item: Item, pair: Pair, matcher: str) -> dict[str, Any]:
    loop = asyncio.get_running_loop()
    start = loop.time()
    try:
        outcome = await run_item(plan, item, pair)
    except _HOPELESS:
        raise
    except EndpointError as error:
        return {"op": "item", "item_id": item.item_id, "outcome": error.outcome, "reason": str(error)}
    return _row(outcome, pair, matcher, total_s=loop.time() - start)


def _row(outcome: Outcome, pair: Pair, matcher: str, *, total_s: float) -> dict[str, Any]:
    traces = traces_of(
        outcome,
        small=pair.sides["small"].model,
        large=pair.sides["large"].model,
        is_correct=lambda answer, item: agree(answer, item.reference or "", matcher=matcher),
    )
    return {
        "op": "item",
        "item_id": outcome.item.item_id,
        "outcome": GOOD,
        "route": outcome.route,
        "source": outcome.source,
        "asks": [ask.name for ask in outcome.plan.asks if ask.name in outcome.replies],
        "total_s": total_s,
        "traces": [trace.model_dump(mode="json", exclude_defaults=True) for trace in traces],
    }


def finished_runs(rows: Journal | Sequence[Row]) -> tuple[ItemRun, ...]:
    """Items that came to an answer, in the order in which they did."""
    return tuple(
        ItemRun(
            item_id=row["item_id"],
            route=row["route"],
            source=row["source"],
            asks=tuple(row["asks"]),
            traces=tuple(Trace.model_validate(trace) for trace in row["traces"]),
            total_s=row["total_s"],
        )
        for row in rows
        if row.get("op") == "item" and row["outcome"] == GOOD
    )


def unfinished(rows: Journal | Sequence[Row]) -> Counter[str]:
    """How many items failed how, the last attempt counting."""
    last = {row["item_id"]: str(row["outcome"]) for row in rows if row.get("op") == "item"}
    return Counter(outcome for outcome in last.values() if outcome != GOOD)
