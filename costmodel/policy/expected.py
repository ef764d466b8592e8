"""First interpreter: a plan from mean lengths and rates alone, for what has no traces yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, TypeVar

import numpy as np
from pydantic import Field, NonNegativeFloat

from costmodel.errors import PolicyError
from costmodel.policy.plan import Ask, Gate, Plan
from costmodel.policy.replay import Replay
from costmodel.specs.base import Frozen

__all__ = ["Aggregates", "Expectation", "MeanTokens", "aggregate", "expect"]

_T = TypeVar("_T")

Probability = Annotated[float, Field(ge=0, le=1)]


class MeanTokens(Frozen):
    """Mean lengths of one ask, over the items that come this far."""

    prompt_tokens: NonNegativeFloat
    output_tokens: NonNegativeFloat


class Aggregates(Frozen):
    """What must be known of a plan to say what it does on average.

    Attributes
    ----------
    asks
        Mean lengths, by step.
    stops
        Probability that a gate stops an item that reaches it, by step.
    correct
        Probability of a correct answer, by route.
    """

    asks: dict[str, MeanTokens]
    stops: dict[str, Probability] = Field(default_factory=dict)
    correct: dict[str, Probability] = Field(default_factory=dict)


class Expectation(Frozen):
    """Means over items.

    Attributes
    ----------
    routes
        Probability of every route.
    asked
        Probability that a step is reached, by ask.
    output_tokens
        By model.
    accuracy
        ``None`` where the probability of a correct answer is not known for every route.
    """

    routes: dict[str, float]
    asked: dict[str, float]
    output_tokens: dict[str, float]
    accuracy: float | None


def expect(plan: Plan, aggregates: Aggregates) -> Expectation:
    """Means of a plan: probabilities multiply along the steps (equation 82).

    Raises
    ------
    PolicyError
        If the aggregates lack an ask or a gate of the plan.
    """
    reach, routes, asked = 1.0, {}, {}
    tokens = {"small": 0.0, "large": 0.0}
    for step in plan.steps:
        if isinstance(step, Ask):
            asked[step.name] = reach
            tokens[step.model] += reach * _known(plan, aggregates.asks, step.name).output_tokens
        elif isinstance(step, Gate):
            stops = _known(plan, aggregates.stops, step.name)
            routes[step.name] = reach * stops
            reach *= 1 - stops
    routes[plan.steps[-1].name] = reach
    accuracy = None
    if all(name in aggregates.correct or share == 0 for name, share in routes.items()):
        accuracy = sum(share * aggregates.correct[name] for name, share in routes.items() if share)
    return Expectation(routes=routes, asked=asked, output_tokens=tokens, accuracy=accuracy)


def _known(plan: Plan, values: Mapping[str, _T], name: str) -> _T:
    if name not in values:
        raise PolicyError(f"plan {plan.name}: the aggregates lack step {name!r}; they have {', '.join(values)}")
    return values[name]


def aggregate(result: Replay) -> Aggregates:
    """Aggregates of a replay: what :func:`expect` needs to give the same means again."""
    plan, reach = result.plan, np.ones(len(result.route), dtype=bool)
    stops: dict[str, float] = {}
    for index, name in enumerate(plan.routes[:-1]):
        here = result.route == index
        stops[name] = int(here.sum()) / int(reach.sum()) if reach.any() else 0.0
        reach = reach & ~here
    correct = {
        name: float(result.correct[result.route == index].mean())
        for index, name in enumerate(plan.routes)
        if (result.route == index).any()
    }
    asks = {
        used.ask.name: MeanTokens(
            prompt_tokens=float(used.prompt_tokens[used.asked].mean()) if used.asked.any() else 0.0,
            output_tokens=float(used.output_tokens[used.asked].mean()) if used.asked.any() else 0.0,
        )
        for used in result.used
    }
    return Aggregates(asks=asks, stops=stops, correct=correct)
