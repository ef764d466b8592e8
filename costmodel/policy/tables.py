"""A choice of policies as tables."""

from __future__ import annotations

from costmodel.policy.results import Candidate, PolicyChoice, Sensitivity
from costmodel.quantity import Quantity
from costmodel.render import Table
from costmodel.units import KILO, format_seconds

__all__ = ["policy_tables"]


def policy_tables(choice: PolicyChoice) -> tuple[Table, ...]:
    """Candidates from the fastest to the slowest, their routes, then what makes the choice flip."""
    tables = [_candidates(choice), _routes(choice)]
    if choice.sensitivity:
        tables.append(_flips(choice))
    return tuple(tables)


def _candidates(choice: PolicyChoice) -> Table:
    percentile = f"p{choice.goal.percentile:g}"
    order = _in_order(choice)
    columns = ["policy", "", "accuracy", "low", "high", percentile, "low", "high", "mean", "small tok", "large tok"]
    wanted = choice.goal.budget_s is not None or choice.goal.min_accuracy is not None
    priced = any(each.cost is not None for each in order)
    powered = any(each.energy_at_most_j is not None for each in order)
    columns += ["goal"] * wanted + ["cost/1000"] * priced + ["energy <="] * powered
    return Table(
        title=_title(choice),
        columns=tuple(columns),
        rows=tuple(
            (*_row(each, choice), *[_reached(each)] * wanted, *[_cost(each)] * priced, *[_energy(each)] * powered)
            for each in order
        ),
        footer=_footer(choice),
    )


def _in_order(choice: PolicyChoice) -> list[Candidate]:
    return sorted(choice.candidates, key=lambda each: each.latency.percentile_s.value)


def _reached(each: Candidate) -> str:
    """Whether a candidate reaches the goal, with a question mark where the intervals leave it open."""
    return ("yes" if each.feasible else "no") + ("?" if "(open)" in each.reason else "")


def _routes(choice: PolicyChoice) -> Table:
    return Table(
        title="routes",
        columns=("policy", "route", "share", "accuracy", "mean"),
        rows=tuple(
            (
                each.name,
                name,
                f"{route.share:.1%}",
                "" if route.accuracy is None else f"{route.accuracy:.1%}",
                "" if route.mean_s is None else format_seconds(route.mean_s),
            )
            for each in _in_order(choice)
            if len(each.routes) > 1
            for name, route in each.routes.items()
        ),
    )


def _title(choice: PolicyChoice) -> str:
    where = f"{choice.hardware}, {choice.engine}, {choice.dtype}"
    if choice.quantization != "none":
        where += f", {choice.quantization}"
    if choice.deployment.devices > 1:
        where = f"{choice.deployment.devices} x {where}"
    if choice.deployment.reuse_prefix:
        where += ", prefix reused"
    return f"{choice.small} and {choice.large} on {where}: {_verdict(choice)}"


def _verdict(choice: PolicyChoice) -> str:
    goal = choice.goal
    wanted = []
    if goal.budget_s is not None:
        wanted.append(f"p{goal.percentile:g} within {format_seconds(goal.budget_s)}")
    if goal.min_accuracy is not None:
        wanted.append(f"accuracy of {goal.min_accuracy:.1%} or more")
    if not wanted:
        return "the Pareto front"
    return f"{choice.chosen or 'no policy'} for {' and '.join(wanted)}"


def _row(each: Candidate, choice: PolicyChoice) -> tuple[str, ...]:
    mark = "=>" if each.name == choice.chosen else "*" if each.name in choice.pareto else ""
    return (
        each.name,
        mark,
        *(f"{value:.1%}" for value in _three(each.accuracy)),
        *(format_seconds(value) for value in _three(each.latency.percentile_s)),
        format_seconds(each.latency.mean_s.value),
        *(f"{each.output_tokens.get(role, 0.0):.0f}" for role in ("small", "large")),
    )


def _three(quantity: Quantity) -> tuple[float, float, float]:
    return quantity.value, quantity.low, quantity.high


def _cost(each: Candidate) -> str:
    return "" if each.cost is None else f"{each.cost * KILO:.3g}"


def _energy(each: Candidate) -> str:
    return "" if each.energy_at_most_j is None else f"{each.energy_at_most_j:.0f} J"


def _footer(choice: PolicyChoice) -> tuple[str, ...]:
    lines = [
        f"{choice.items} items; => chosen, * on the Pareto front; {choice.interval:.0%} intervals: accuracy by "
        "bootstrap over items, latency by the model's errors"
    ]
    lines += [f"not replayed: {skipped.name} ({skipped.reason})" for skipped in choice.skipped]
    return tuple(lines)


def _flips(choice: PolicyChoice) -> Table:
    return Table(
        title=f"what would change the choice of {choice.chosen}",
        columns=("if", "falls to", "then", "rises to", "then"),
        rows=tuple(
            (
                row.what,
                _at(row, row.below),
                _becomes(row.below, row.becomes_below),
                _at(row, row.above),
                _becomes(row.above, row.becomes_above),
            )
            for row in choice.sensitivity
        ),
    )


def _at(row: Sensitivity, change: float | None) -> str:
    if change is None:
        return "never"
    return f"{change * 100:+.1f} points" if row.unit == "points" else f"{change:.2f} x"


def _becomes(change: float | None, name: str | None) -> str:
    return "" if change is None else name or "no policy"
