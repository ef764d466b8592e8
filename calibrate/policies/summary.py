"""What a run of a policy came to, route by route, and what the predictions say of the same requests."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from calibrate.policies.runner import ItemRun
from costmodel.policy.bootstrap import wilson
from costmodel.policy.latency import Deployment, ModelClock, ask_groups
from costmodel.policy.plan import Plan, Role
from costmodel.policy.serving import Served
from costmodel.render import Table
from costmodel.specs.base import Frozen
from costmodel.units import format_seconds

__all__ = ["PolicyRun", "RouteRun", "predicted_s", "run_tables", "summarise"]


class RouteRun(Frozen):
    """Items that took one way through a plan.

    Attributes
    ----------
    accuracy, low, high
        With the 90 % score interval.
    measured_s, predicted_s
        Medians over items; predicted only where a profile was given.
    error
        Median over items of predicted / measured - 1.
    """

    route: str
    items: int
    share: float
    accuracy: float
    low: float
    high: float
    small_tokens: float
    large_tokens: float
    measured_s: float
    predicted_s: float | None = None
    error: float | None = None


class PolicyRun(Frozen):
    """What ``costmodel run --format json`` prints.

    Attributes
    ----------
    failed
        Items without an answer, by what happened.
    routes
        The whole comes first, under the name ``all``.
    """

    schema_version: int = 1
    policy: str
    small: str
    large: str
    items: int
    failed: dict[str, int]
    routes: tuple[RouteRun, ...]


def predicted_s(plan: Plan, runs: Sequence[ItemRun], served: dict[Role, Served], *, dtype: str) -> np.ndarray:
    """Predicted latency of every item, of the requests that were really made.

    Asks that start together are counted in turn: both models on one device.
    """
    clocks: dict[Role, ModelClock] = {}
    taken: dict[tuple[Role, int, int], float] = {}
    for role, each in served.items():
        rows = [
            (i, j, t) for i, run in enumerate(runs) for j, t in enumerate(run.traces) if _role(plan, run, j) == role
        ]
        if not rows:
            continue
        prompts = np.array([t.prompt_tokens for _, _, t in rows], dtype=float)
        outputs = np.array([t.output_tokens for _, _, t in rows], dtype=float)
        clocks[role] = ModelClock(
            each,
            [t.images for _, _, t in rows],
            longest_context=int((prompts + outputs).max()),
            dtype=dtype,
        )
        seconds = np.asarray(clocks[role].ask(prompts, outputs).value_s)
        taken |= {(role, i, j): float(s) for (i, j, _), s in zip(rows, seconds, strict=True)}
    total = np.zeros(len(runs))
    for (_, i, _), seconds_of in taken.items():
        total[i] += seconds_of
    return total


def _role(plan: Plan, run: ItemRun, index: int) -> Role:
    return next(ask.model for ask in plan.asks if ask.name == run.asks[index])


def measured_s(plan: Plan, run: ItemRun, deployment: Deployment | None = None) -> float:
    """Latency of one item from the times of its requests: in turn on one device, together on two."""
    devices = (deployment or Deployment()).devices
    by_name = dict(zip(run.asks, run.traces, strict=True))
    total = 0.0
    for asks in ask_groups(plan):
        spans: dict[Role, float] = {}
        for ask in asks:
            if ask.name in by_name:
                spans[ask.model] = spans.get(ask.model, 0.0) + (by_name[ask.name].total_s or 0.0)
        if spans:
            total += max(spans.values()) if devices > 1 else sum(spans.values())
    return total


def summarise(
    plan: Plan,
    runs: Sequence[ItemRun],
    failed: dict[str, int],
    *,
    small: str,
    large: str,
    predicted: np.ndarray | None = None,
) -> PolicyRun:
    """Means and medians of every route."""
    everything = list(range(len(runs)))
    parts = [("all", everything)]
    if len(plan.routes) > 1:
        parts += [(name, [i for i in everything if runs[i].route == name]) for name in plan.routes]
    routes = tuple(_route(plan, name, runs, which, predicted) for name, which in parts if which)
    return PolicyRun(policy=plan.name, small=small, large=large, items=len(runs), failed=failed, routes=routes)


def _route(plan: Plan, name: str, runs: Sequence[ItemRun], which: list[int], predicted: np.ndarray | None) -> RouteRun:
    right = sum(runs[i].answered.correct for i in which) / len(which)
    low, high = wilson(right, len(which), 0.9)
    tokens = {role: np.mean([_tokens(plan, runs[i], role) for i in which]) for role in ("small", "large")}
    ratios = None if predicted is None else [float(predicted[i]) / runs[i].total_s for i in which]
    return RouteRun(
        route=name,
        items=len(which),
        share=len(which) / len(runs),
        accuracy=right,
        low=low,
        high=high,
        small_tokens=float(tokens["small"]),
        large_tokens=float(tokens["large"]),
        measured_s=median(runs[i].total_s for i in which),
        predicted_s=None if predicted is None else float(np.median(predicted[which])),
        error=None if ratios is None else median(ratios) - 1,
    )


def _tokens(plan: Plan, run: ItemRun, role: str) -> int:
    return sum(t.output_tokens for j, t in enumerate(run.traces) if _role(plan, run, j) == role)


def run_tables(result: PolicyRun) -> tuple[Table, ...]:
    """Routes as a table."""
    checked = any(route.predicted_s is not None for route in result.routes)
    columns = ("route", "share", "accuracy", "low", "high", "small tok", "large tok", "measured")
    failed = ", ".join(f"{count} {outcome}" for outcome, count in result.failed.items())
    return (
        Table(
            title=f"{result.policy}: {result.small} and {result.large}, {result.items} items",
            columns=columns + (("predicted", "error") if checked else ()),
            rows=tuple(_cells(route, checked) for route in result.routes),
            footer=("accuracy with 90 % interval; times are medians over items",)
            + ((f"not answered: {failed}; run the same command again to ask them again",) if failed else ()),
        ),
    )


def _cells(route: RouteRun, checked: bool) -> tuple[str, ...]:
    cells = (
        route.route,
        f"{route.share:.1%}",
        *(f"{value:.1%}" for value in (route.accuracy, route.low, route.high)),
        f"{route.small_tokens:.1f}",
        f"{route.large_tokens:.1f}",
        format_seconds(route.measured_s),
    )
    if not checked or route.predicted_s is None or route.error is None:
        return cells
    return (*cells, format_seconds(route.predicted_s), f"{route.error:+.1%}")
