"""A plan is data: it survives JSON, refuses what cannot be followed, and every interpreter reads it alike."""

from __future__ import annotations

import asyncio

import numpy as np
import policy_samples as samples
import pytest
from conftest import REPO
from made_profiles import LARGE, SMALL

from costmodel.errors import PolicyError, UnknownKeyError
from costmodel.policy.catalog import CATALOG, catalog, mutual_verification, plan_named
from costmodel.policy.choose import default_plans
from costmodel.policy.expected import Aggregates, aggregate, expect
from costmodel.policy.gates import Reply
from costmodel.policy.plan import Agree, Ask, Confident, Finished, Plan, Transfer, Vote
from costmodel.policy.replay import missing_traces, replay, replay_slowly
from costmodel.policy.run import Item, Outcome, Question, run_item, run_items, traces_of
from costmodel.policy.traces import TraceSet, key_of

SHORT = Ask(name="s", model="small", mode="short")
REASON = Ask(name="r", model="small", mode="reason")


def plans() -> tuple[Plan, ...]:
    return default_plans(samples.trace_set())


class Recording:
    """An engine that answers from traces."""

    def __init__(self, plan: Plan, recorded: TraceSet, *, fail_on: str | None = None) -> None:
        self.plan, self.recorded, self.fail_on = plan, recorded, fail_on
        self.handed: list[str | None] = []
        self.running = self.most_running = 0

    async def ask(self, question: Question) -> Reply:
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if question.item.item_id == self.fail_on:
            raise ConnectionError("the server is gone")
        self.handed.append(question.reasoning)
        column = self.recorded.columns[key_of(self.plan, question.ask)]
        index = self.recorded.items.index(question.item.item_id)
        tokens, cap = int(column.output_tokens[index]), question.ask.max_output_tokens
        return Reply(
            answer=column.answers[index],
            prompt_tokens=int(column.prompt_tokens[index]),
            output_tokens=min(tokens, cap or tokens),
            finished=cap is None or tokens <= cap,
            confidence=float(column.confidence[index]),
            reasoning=column.reasoning[index] or "",
        )


def items_of(recorded: TraceSet) -> list[Item]:
    return [Item(name, "?", sizes) for name, sizes in zip(recorded.items, recorded.images, strict=True)]


async def all_outcomes(plan: Plan, recorded: TraceSet, engine: Recording, concurrency: int = 3) -> list[Outcome]:
    return [each async for each in run_items(plan, items_of(recorded), engine, concurrency=concurrency)]


@pytest.mark.parametrize("plan", catalog(), ids=lambda plan: plan.name)
def test_a_plan_survives_json(plan: Plan) -> None:
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_the_catalogue_is_named_after_its_plans() -> None:
    assert {name: plan_named(name).name for name in CATALOG} == {name: name for name in CATALOG}
    with pytest.raises(UnknownKeyError, match=r"unknown policy 'mutual'; nearest: mutual-verification"):
        plan_named("mutual")


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ((SHORT, SHORT), "two steps are named 's'"),
        ((SHORT, Agree(name="a", first="s", second="x", answer="s"), REASON), "refers to 'x', expected an earlier Ask"),
        ((SHORT, Transfer(name="t", source="s"), REASON), "'t' hands on reasoning of 's', which does not reason"),
        ((Ask(name="t", model="large", mode="transfer"),), "nothing is handed to it"),
        ((SHORT, Confident(name="c", source="s", threshold=0.5)), "the last step is 'c', expected one that answers"),
        ((REASON, Finished(name="f", source="r"), SHORT), "asks whether 'r' finished, which has no cap"),
        ((Ask(name="s", model="small", mode="short", parallel=True),), "nothing to run in parallel with"),
        ((SHORT, Vote(name="v", among=("s", "v"))), "refers to 'v'"),
    ],
)
def test_a_plan_that_cannot_be_followed_is_refused(steps: tuple[object, ...], message: str) -> None:
    with pytest.raises(PolicyError, match=message) as caught:
        Plan(name="bad", summary="", steps=steps)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("plan", plans(), ids=lambda plan: plan.name)
@pytest.mark.parametrize("seed", [0, 1])
def test_interpreters_agree(plan: Plan, seed: int) -> None:
    recorded = samples.trace_set(seed=seed)
    result = replay(plan, recorded)
    routes = [plan.routes[i] for i in result.route]
    tokens = list(zip(result.output_tokens("small").tolist(), result.output_tokens("large").tolist(), strict=True))
    assert replay_slowly(plan, recorded) == (routes, result.correct.tolist(), tokens)

    outcomes = asyncio.run(all_outcomes(plan, recorded, Recording(plan, recorded)))
    by_item = {each.item.item_id: each for each in outcomes}
    ran = [by_item[name] for name in recorded.items]
    assert [each.route for each in ran] == routes
    assert [(each.output_tokens("small"), each.output_tokens("large")) for each in ran] == tokens

    means = expect(plan, aggregate(result))
    assert means.routes == pytest.approx(result.route_shares(), abs=1e-12)
    assert means.accuracy == pytest.approx(result.correct.mean(), abs=1e-12)
    for role in ("small", "large"):
        assert means.output_tokens[role] == pytest.approx(result.output_tokens(role).mean(), rel=1e-12)


def test_a_run_writes_the_traces_that_it_was_replayed_from() -> None:
    recorded, plan = samples.trace_set(), mutual_verification()
    outcomes = asyncio.run(all_outcomes(plan, recorded, Recording(plan, recorded)))
    for outcome in outcomes:
        written = traces_of(outcome, small=SMALL, large=LARGE, is_correct=lambda answer, item: answer == "A")
        assert len(written) == len(outcome.replies)
        for trace, ask in zip(written, (a for a in plan.asks if a.name in outcome.replies), strict=True):
            column = recorded.columns[key_of(plan, ask)]
            index = recorded.items.index(trace.item_id)
            assert (trace.answer, trace.output_tokens) == (column.answers[index], column.output_tokens[index])
            assert trace.correct == (trace.answer == "A")


def test_what_is_handed_on_is_what_the_selector_keeps() -> None:
    recorded = samples.trace_set()
    plan = mutual_verification(selector="last", keep_fraction=0.5)
    engine = Recording(plan, recorded)
    outcomes = asyncio.run(all_outcomes(plan, recorded, engine))
    assert any(each.route == "transferred" for each in outcomes)
    assert set(engine.handed) == {None, " So the answer follows."}


def test_items_run_together_and_what_was_finished_is_kept_when_an_engine_fails() -> None:
    recorded, plan = samples.trace_set(), plan_named("small-short")
    engine = Recording(plan, recorded)
    asyncio.run(all_outcomes(plan, recorded, engine, concurrency=5))
    assert engine.most_running == 5

    kept: list[str] = []

    async def keep() -> None:
        broken = Recording(plan, recorded, fail_on="item-7")
        async for outcome in run_items(plan, items_of(recorded), broken, concurrency=2):
            kept.append(outcome.item.item_id)  # noqa: PERF401 - a comprehension would lose them

    with pytest.raises(ConnectionError, match="gone"):
        asyncio.run(keep())
    assert set(kept) >= {f"item-{i}" for i in range(6)}


def test_asks_that_start_together_run_together() -> None:
    recorded = samples.trace_set(4)
    for parallel, most in ((True, 2), (False, 1)):
        plan = mutual_verification(parallel=parallel)
        engine = Recording(plan, recorded)
        asyncio.run(run_item(plan, items_of(recorded)[0], engine))
        assert engine.most_running == most


def test_what_is_not_recorded_is_not_made_up() -> None:
    recorded = samples.trace_set()
    plan = mutual_verification(selector="head-and-tail", keep_fraction=0.3)
    reason = missing_traces(plan, recorded)
    assert reason is not None
    assert reason.startswith("no traces of large/transfer of head-and-tail 0.3; recorded are")
    with pytest.raises(PolicyError, match="no traces of large/transfer"):
        replay(plan, recorded)
    silent = [trace.model_copy(update={"confidence": None}) for trace in samples.traces()]
    without = TraceSet.of(silent, small=SMALL, large=LARGE)
    assert missing_traces(plan_named("cascade"), without) == "the traces of small-short have no confidence"
    with pytest.raises(PolicyError, match="aggregates lack step 'small-short'"):
        expect(plan_named("small-short"), Aggregates(asks={}))
    with pytest.raises(PolicyError, match="concurrency is 0"):
        asyncio.run(all_outcomes(plan, recorded, Recording(plan, recorded), concurrency=0))


def test_a_cap_cuts_tokens_and_turns_what_is_longer_to_the_short_answer() -> None:
    recorded = samples.trace_set()
    result = replay(plan_named("small-budget"), recorded)
    reason, short = (recorded.columns[key_of(result.plan, ask)] for ask in result.plan.asks)
    over = reason.output_tokens > 256
    assert 0 < over.sum() < len(over)
    assert np.array_equal(
        result.output_tokens("small"), np.where(over, 256 + short.output_tokens, reason.output_tokens)
    )
    assert np.array_equal(result.correct, np.where(over, short.correct, reason.correct))


def test_the_page_on_adding_a_policy_shows_the_file_that_was_added() -> None:
    page = (REPO / "docs" / "adding-a-policy.md").read_text()
    assert (REPO / "costmodel" / "policy" / "catalog" / "escalate.py").read_text() in page
    steps = ("Ask", "Agree", "Confident", "Finished", "Transfer", "Vote")
    assert all(f"| `{step}` |" in page for step in steps)
    policies = (REPO / "docs" / "policies.md").read_text()
    assert all(f"`{name}`" in policies for name in CATALOG)
