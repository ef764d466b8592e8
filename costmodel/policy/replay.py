"""Second interpreter: a plan over recorded answers, all items at once, and a slow readable reference of the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import PolicyError
from costmodel.policy.agreement import agree
from costmodel.policy.gates import Reply, stop
from costmodel.policy.plan import Agree, Ask, Confident, Finished, Gate, Plan, Role, Vote
from costmodel.policy.traces import TraceKey, TraceSet, key_of

__all__ = ["Replay", "Used", "missing_traces", "replay", "replay_slowly"]

Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Used:
    """One ask of a plan over all items.

    Attributes
    ----------
    asked
        Items that came this far.
    output_tokens
        After the cap of the step.
    """

    ask: Ask
    key: TraceKey
    asked: Bools
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Replay:
    """What a plan would have done.

    Attributes
    ----------
    route
        Of every item, as index into ``plan.routes``.
    correct
        Whether the answer that the plan gave was correct.
    """

    plan: Plan
    route: NDArray[np.int64]
    correct: Bools
    used: tuple[Used, ...]

    def output_tokens(self, role: Role) -> NDArray[np.int64]:
        """Tokens that one of the models generated, by item."""
        parts = [used.output_tokens * used.asked for used in self.used if used.ask.model == role]
        return np.sum(parts, axis=0) if parts else np.zeros(len(self.route), dtype=np.int64)

    def route_shares(self) -> dict[str, float]:
        """Share of the items on every route."""
        counts = np.bincount(self.route, minlength=len(self.plan.routes))
        return {name: int(count) / len(self.route) for name, count in zip(self.plan.routes, counts, strict=True)}


def missing_traces(plan: Plan, traces: TraceSet) -> str | None:
    """Why a plan can't be replayed; nothing where it can."""
    for ask in plan.asks:
        key = key_of(plan, ask)
        if key not in traces.columns:
            recorded = ", ".join(str(known) for known in sorted(traces.columns, key=str))
            return f"no traces of {key}; recorded are {recorded}"
    for step in plan.steps:
        if isinstance(step, Confident) and np.isnan(_confidence(plan, step, traces)).any():
            return f"the traces of {step.source} have no confidence"
    return None


def _confidence(plan: Plan, gate: Confident, traces: TraceSet) -> NDArray[np.float64]:
    source = plan.step(gate.source)
    if not isinstance(source, Ask):
        raise PolicyError(f"plan {plan.name}: {gate.source!r} is not an ask")
    return traces.columns[key_of(plan, source)].confidence


def replay(plan: Plan, traces: TraceSet) -> Replay:
    """Follow a plan on every item of recorded traces.

    Raises
    ------
    PolicyError
        If something that the plan asks for is not recorded.
    """
    missing = missing_traces(plan, traces)
    if missing is not None:
        raise PolicyError(f"plan {plan.name}: {missing}")
    count = len(traces)
    active, route = np.ones(count, dtype=bool), np.full(count, len(plan.routes) - 1)
    correct = np.zeros(count, dtype=bool)
    used: list[Used] = []
    keys = {ask.name: key_of(plan, ask) for ask in plan.asks}
    gates = 0
    for step in plan.steps:
        if isinstance(step, Ask):
            used.append(_use(step, keys[step.name], active, traces))
        elif isinstance(step, Gate):
            stops = active & _holds(step, plan, keys, traces)
            answer = step.answer if isinstance(step, Agree) else step.source
            correct |= stops & traces.columns[keys[answer]].correct
            route[stops] = gates
            gates += 1
            active = active & ~stops
    return Replay(plan, route, correct | (active & _last_correct(plan, keys, traces)), tuple(used))


def _use(ask: Ask, key: TraceKey, active: Bools, traces: TraceSet) -> Used:
    column = traces.columns[key]
    tokens = column.output_tokens
    if ask.max_output_tokens is not None:
        tokens = np.minimum(tokens, ask.max_output_tokens)
    return Used(ask, key, active.copy(), column.prompt_tokens, tokens)


def _holds(gate: Gate, plan: Plan, keys: dict[str, TraceKey], traces: TraceSet) -> Bools:
    if isinstance(gate, Agree):
        return traces.agreement(keys[gate.first], keys[gate.second], plan.answer_agreement)
    column = traces.columns[keys[gate.source]]
    if isinstance(gate, Confident):
        return np.asarray(column.confidence >= gate.threshold)
    return np.asarray(column.output_tokens <= _cap(plan, gate))


def _cap(plan: Plan, gate: Finished) -> int:
    source = plan.step(gate.source)
    if not isinstance(source, Ask) or source.max_output_tokens is None:
        raise PolicyError(f"plan {plan.name}: {gate.source!r} has no cap")
    return source.max_output_tokens


def _last_correct(plan: Plan, keys: dict[str, TraceKey], traces: TraceSet) -> Bools:
    last = plan.steps[-1]
    if isinstance(last, Ask):
        return traces.columns[keys[last.name]].correct
    if not isinstance(last, Vote):
        raise PolicyError(f"plan {plan.name}: the last step gives no answer")
    votes = [
        np.sum([traces.agreement(keys[one], keys[other], plan.answer_agreement) for other in last.among], axis=0)
        for one in last.among
    ]
    winner = np.argmax(votes, axis=0)
    correct: Bools = np.stack([traces.columns[keys[name]].correct for name in last.among])
    return np.asarray(correct[winner, np.arange(len(traces))])


def replay_slowly(plan: Plan, traces: TraceSet) -> tuple[list[str], list[bool], list[tuple[int, int]]]:
    """The same, item by item and step by step: what :func:`replay` is compared with.

    Returns
    -------
    tuple
        Route, whether it was correct, and tokens generated by (small, large), of each item.
    """
    routes, correct, tokens = [], [], []
    for index in range(len(traces)):
        route, answer, replies = _follow(plan, traces, index)
        routes.append(route)
        correct.append(bool(traces.columns[key_of(plan, answer)].correct[index]))
        by_role = {"small": 0, "large": 0}
        for ask, reply in replies:
            by_role[ask.model] += reply.output_tokens
        tokens.append((by_role["small"], by_role["large"]))
    return routes, correct, tokens


def _follow(plan: Plan, traces: TraceSet, index: int) -> tuple[str, Ask, Sequence[tuple[Ask, Reply]]]:
    asked: dict[str, Reply] = {}
    for step in plan.steps:
        if isinstance(step, Ask):
            asked[step.name] = _recorded(plan, step, traces, index)
            continue
        source = stop(step, asked, lambda a, b: agree(a, b, matcher=plan.answer_agreement))
        if source is not None:
            return step.name, _ask(plan, source), [(_ask(plan, name), reply) for name, reply in asked.items()]
    last = plan.steps[-1].name
    return last, _ask(plan, last), [(_ask(plan, name), reply) for name, reply in asked.items()]


def _ask(plan: Plan, name: str) -> Ask:
    return next(ask for ask in plan.asks if ask.name == name)


def _recorded(plan: Plan, ask: Ask, traces: TraceSet, index: int) -> Reply:
    column = traces.columns[key_of(plan, ask)]
    tokens, cap = int(column.output_tokens[index]), ask.max_output_tokens
    confidence = float(column.confidence[index])
    return Reply(
        answer=column.answers[index],
        prompt_tokens=int(column.prompt_tokens[index]),
        output_tokens=tokens if cap is None else min(tokens, cap),
        finished=cap is None or tokens <= cap,
        confidence=None if np.isnan(confidence) else confidence,
        reasoning=column.reasoning[index] or "",
    )
