"""Third interpreter: a plan with real engines, item by item, several items at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from costmodel.errors import PolicyError
from costmodel.policy.agreement import agree
from costmodel.policy.gates import Reply, stop
from costmodel.policy.plan import Ask, Plan, Step, Transfer, groups
from costmodel.policy.selectors import select, split_tokens
from costmodel.policy.traces import Trace
from costmodel.specs.images import ImageSize

__all__ = ["Engine", "Item", "Outcome", "Question", "run_item", "run_items", "traces_of"]


@dataclass(frozen=True, slots=True)
class Item:
    """One question of a data set.

    Attributes
    ----------
    image_paths
        For the engine; nothing here opens them.
    """

    item_id: str
    question: str
    images: tuple[ImageSize, ...] = ()
    image_paths: tuple[str, ...] = ()
    reference: str | None = None


@dataclass(frozen=True, slots=True)
class Question:
    """What an engine is asked.

    Attributes
    ----------
    reasoning
        Text of another model's reasoning that joins the prompt; ``None`` where nothing is handed over.
    """

    item: Item
    ask: Ask
    reasoning: str | None = None


class Engine(Protocol):
    """Whatever can answer: a server, a local model, or a recording."""

    async def ask(self, question: Question) -> Reply:
        """Ask the model that ``question.ask`` names, once."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a plan did with one item.

    Attributes
    ----------
    source
        Name of the ask whose answer was given.
    replies
        By ask, in the order in which they were asked.
    """

    plan: Plan
    item: Item
    route: str
    source: str
    replies: dict[str, Reply]

    @property
    def answer(self) -> str:
        """The answer given."""
        return self.replies[self.source].answer

    def output_tokens(self, role: str) -> int:
        """Tokens that one of the models generated."""
        models = {ask.name: ask.model for ask in self.plan.asks}
        return sum(reply.output_tokens for name, reply in self.replies.items() if models[name] == role)


async def run_item(plan: Plan, item: Item, engine: Engine) -> Outcome:
    """Follow a plan on one item; asks that start together run together."""
    replies: dict[str, Reply] = {}
    handed: dict[str, str] = {}
    for group in groups(plan):
        asks = [step for step in group if isinstance(step, Ask)]
        questions = [Question(item, ask, handed[ask.context] if ask.context else None) for ask in asks]
        answered = await asyncio.gather(*(engine.ask(question) for question in questions))
        replies |= {ask.name: reply for ask, reply in zip(asks, answered, strict=True)}
        for step in group:
            source = _after(step, plan, replies, handed)
            if source is not None:
                return Outcome(plan, item, step.name, source, replies)
    last = plan.steps[-1].name
    return Outcome(plan, item, last, last, replies)


def _after(step: Step, plan: Plan, replies: dict[str, Reply], handed: dict[str, str]) -> str | None:
    if isinstance(step, Transfer):
        handed[step.name] = _selected(step, replies[step.source])
        return None
    return stop(step, replies, lambda a, b: agree(a, b, matcher=plan.answer_agreement))


def _selected(transfer: Transfer, reply: Reply) -> str:
    tokens = reply.reasoning_tokens or split_tokens(reply.reasoning)
    return select(
        tokens,
        transfer.selector,
        transfer.keep_fraction,
        logprobs=reply.reasoning_logprobs,
        attention=reply.reasoning_attention,
    ).text


async def run_items(
    plan: Plan, items: Iterable[Item], engine: Engine, *, concurrency: int = 1
) -> AsyncIterator[Outcome]:
    """Follow a plan on many items; outcomes come as they are finished.

    An engine that fails ends the run with its error; what was finished before has been given out by then.

    Raises
    ------
    PolicyError
        If ``concurrency`` is below 1.
    """
    if concurrency < 1:
        raise PolicyError(f"concurrency is {concurrency}, expected 1 or more")
    waiting = iter(items)
    running: set[asyncio.Task[Outcome]] = set()
    try:
        while True:
            while len(running) < concurrency and (item := next(waiting, None)) is not None:
                running.add(asyncio.create_task(run_item(plan, item, engine)))
            if not running:
                return
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            failed = [task for task in done if task.exception() is not None]
            for task in done.difference(failed):
                yield task.result()
            for task in failed:
                task.result()
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def traces_of(
    outcome: Outcome, *, small: str, large: str, is_correct: Callable[[str, Item], bool], **extra: Any
) -> list[Trace]:
    """Every answer of an outcome as a trace, for ``costmodel policy`` and ``costmodel validate``."""
    names = {"small": small, "large": large}
    traces = []
    for ask in outcome.plan.asks:
        reply = outcome.replies.get(ask.name)
        if reply is None:
            continue
        transfer = outcome.plan.transfer_of(ask)
        handed = {"selector": transfer.selector, "keep_fraction": transfer.keep_fraction} if transfer else {}
        traces.append(
            Trace(
                item_id=outcome.item.item_id,
                model=names[ask.model],
                mode=ask.mode,
                images=outcome.item.images,
                prompt_tokens=reply.prompt_tokens,
                output_tokens=reply.output_tokens,
                answer=reply.answer,
                correct=is_correct(reply.answer, outcome.item),
                reasoning=reply.reasoning or None,
                ttft_s=reply.ttft_s,
                total_s=reply.total_s,
                sample=ask.sample,
                confidence=reply.confidence,
                **{**handed, **extra},
            )
        )
    return traces
