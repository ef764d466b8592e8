"""Policies of both models on recorded answers."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from costmodel import plots
from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component, drawn, figure_slot, folded, notes, table
from costmodel.explore.controls import number
from costmodel.explore.results import Results
from costmodel.explore.state import State
from costmodel.explore.uploads import MOST_BYTES
from costmodel.explore.views.base import View, slots
from costmodel.plots.text import percent, seconds_interval
from costmodel.policy.results import PolicyChoice
from costmodel.units import MEBI

__all__ = ["POLICY"]

_NOTHING: tuple[str, dict[str, Any]] = ("", {"data": [], "layout": {"height": 0, "xaxis": {"visible": False}}})


def _layout(catalogue: Catalogue) -> Component:
    text = f"Load a trace file (.jsonl, up to {MOST_BYTES // MEBI} MiB)"
    upload = dcc.Upload(
        html.Button(text, type="button", className="button"), id="upload", max_size=MOST_BYTES, accept=".jsonl,.json"
    )
    goal = html.Div(
        [
            number("budget_s", "Latency budget (s, empty: none)", 0.001, 3600, step="any"),
            number("percentile", "Percentile of latency", 1, 99, step="any"),
        ],
        className="pair goal",
    )
    parts = html.Div(
        [figure_slot("pareto", wide=True), html.Div(id="policy-table", className="panel wide")],
        id="policy-results",
        className="grid",
    )
    return html.Div(
        [
            html.Div([upload, goal], className="switches"),
            html.Div(id="upload-problem"),
            html.Div(id="policy-notes"),
            parts,
        ]
    )


def _render(results: Results, state: State, token: str) -> tuple[Any, ...]:
    if not token:
        text = (
            "No trace file is loaded. It holds recorded answers of both models, one a line; the file is read on this "
            "machine and kept in memory only. An address does not carry it."
        )
        return *_NOTHING, "", notes([text], "hint"), {"display": "none"}
    choice = results.policy(state, token)
    loaded = results.uploads.loaded(token)
    source = "" if loaded is None else f"{loaded.name}: "
    said = [f"{source}{choice.items} items. {_chosen(choice)}"]
    return *drawn(plots.pareto_figure(choice)), _table(choice), [*notes(said, "hint"), *_doubts(choice, state)], {}


def _doubts(choice: PolicyChoice, state: State) -> list[Component]:
    doubts = list(choice.warnings)
    if (state.quantization, state.tp, state.batch) != ("none", 1, 1):
        doubts.insert(0, "Policies are timed one item at a time, in bf16 on one device.")
    return folded(f"What the data leave open: {len(doubts)}", doubts)


def _chosen(choice: PolicyChoice) -> str:
    if choice.goal.budget_s is None:
        return "Give a latency budget to choose a policy; without one, the front shows what can be had."
    if choice.chosen is None:
        return f"No policy stays within the budget; the fastest is {choice.pareto[0]}."
    return f"Most accurate within the budget: {choice.chosen}."


def _table(choice: PolicyChoice) -> Component:
    rows = [
        (
            each.name,
            percent(each.accuracy.value),
            seconds_interval(each.latency.percentile_s),
            seconds_interval(each.latency.mean_s),
            "on the front" if each.name in choice.pareto else "",
            each.summary,
        )
        for each in sorted(choice.candidates, key=lambda each: each.latency.percentile_s.value)
    ]
    header = ("policy", "accuracy", f"p{choice.goal.percentile:g} latency", "mean latency", "Pareto", "what it does")
    return table("Every policy that the traces cover", header, rows)


POLICY = View(
    "policy",
    _layout,
    (*slots("pareto"), ("policy-table", "children"), ("policy-notes", "children"), ("policy-results", "style")),
    _render,
)
