"""Operators of a stage under the ceilings of the device."""

from __future__ import annotations

from typing import Any

from dash import html

from costmodel import plots
from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component, drawn, figure_slot, table
from costmodel.explore.controls import segments
from costmodel.explore.results import Results
from costmodel.explore.state import State
from costmodel.explore.views.base import View, slots
from costmodel.plots.text import percent
from costmodel.roofline import Roofline
from costmodel.units import format_rate, format_seconds

__all__ = ["ROOFLINE"]

_MOST_ROWS = 12


def _layout(catalogue: Catalogue) -> Component:
    switches = html.Div(
        [
            segments("role"),
            segments("stage"),
        ],
        className="switches",
    )
    operators = html.Div(id="operators", className="panel wide")
    return html.Div([switches, html.Div([figure_slot("roofline", wide=True), operators], className="grid")])


def _render(results: Results, state: State, token: str) -> tuple[Any, ...]:
    found = results.roofline(state, state.role, state.stage)
    return *drawn(plots.roofline_figure(found)), _operators(found)


def _operators(roofline: Roofline) -> Component:
    rows = [
        (
            f"{point.op} ({point.component})",
            percent(point.share),
            format_seconds(point.time_s),
            str(point.executions),
            format_rate(point.flops / point.time_s, "FLOP/s") if point.flops else "none",
            format_rate(point.bytes / point.time_s, "B/s"),
            point.bound,
        )
        for point in roofline.points[:_MOST_ROWS]
    ]
    header = ("operator", "share", "time", "runs", "rate", "memory rate", "bound by")
    left = len(roofline.points) - len(rows)
    caption = f"Longest operators of the stage{f'; {left} more are shorter' if left > 0 else ''}"
    return table(caption, header, rows)


ROOFLINE = View("roofline", _layout, (*slots("roofline"), ("operators", "children")), _render)
