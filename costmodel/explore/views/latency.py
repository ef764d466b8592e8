"""Where the time goes, which answer is faster, whether it fits, and what bounds it."""

from __future__ import annotations

from typing import Any

from dash import html

from costmodel import plots
from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component, drawn, figure_slot, in_words
from costmodel.explore.results import Results
from costmodel.explore.state import State
from costmodel.explore.views.base import View, slots
from costmodel.words import bound_words, memory_words

__all__ = ["LATENCY"]

_FIGURES = ("breakdown", "curves", "surface", "equal", "memory")


def _layout(catalogue: Catalogue) -> Component:
    bounds = html.Section(
        [html.H2("What bounds it"), html.Div(id="bounds", className="columns")], className="panel words"
    )
    return html.Div([*(figure_slot(name) for name in _FIGURES), bounds], className="grid")


def _render(results: Results, state: State, token: str) -> tuple[Any, ...]:
    both = results.predictions(state)
    crossing = results.break_even(state)
    figures = (
        plots.breakdown_figure(both),
        plots.latency_figure(crossing),
        plots.surface_figure(results.surface(state)),
        plots.break_even_figure(crossing),
        plots.memory_figure(both),
    )
    words = [html.Div(in_words([*bound_words(each), memory_words(each)])) for each in both]
    return *(part for figure in figures for part in drawn(figure)), words


LATENCY = View("latency", _layout, (*slots(*_FIGURES), ("bounds", "children")), _render)
