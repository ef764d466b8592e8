"""Take it away: link, command lines, Python, files."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component, table
from costmodel.explore.export import command_lines, python_call
from costmodel.explore.results import Results
from costmodel.explore.state import State
from costmodel.explore.views.base import View
from costmodel.plots.text import prediction_names, seconds_interval
from costmodel.predict import Prediction

__all__ = ["DOWNLOADS", "SHARE"]

DOWNLOADS = {"json": "JSON", "csv": "CSV", "html": "Report (HTML)"}
"""Files that the server makes."""

_STAGES = ("preprocess", "encode", "prefill", "decode", "ttft", "tpot", "total")


def _layout(catalogue: Catalogue) -> Component:
    files = [
        html.Button(text, id=f"download-{key}", type="button", className="button") for key, text in DOWNLOADS.items()
    ]
    pictures = html.Button("Figures (PNG)", id="download-png", type="button", className="button")
    return html.Div(
        [
            *(dcc.Download(id=f"download-{key}-file") for key in DOWNLOADS),
            _panel(
                "Files",
                html.Div([*files, pictures], className="buttons"),
                html.Div(id="download-problem"),
                html.P(_FILE_WORDS, className="quiet"),
            ),
            _code("link", "Link to this view"),
            _code("commands", "Command lines"),
            _code("python", "Python"),
            html.Div(id="numbers", className="panel wide"),
            html.Div(id="sources", className="panel wide"),
        ],
        className="grid",
    )


_FILE_WORDS = (
    "JSON holds the results whole, CSV the stages and curves; the report is one file with the same figures. "
    "Pictures are made in the browser, of the figures of every view that was opened."
)


def _panel(title: str, *content: Component) -> Component:
    return html.Section([html.H2(title), *content], className="panel wide")


def _code(name: str, title: str) -> Component:
    copy = dcc.Clipboard(target_id=name, title=f"Copy: {title}", className="copy", id=f"{name}-copy")
    return html.Section(
        [html.Div([html.H2(title), copy], className="code-head"), html.Pre("", id=name, tabIndex=0)],
        className="panel wide",
    )


def _render(results: Results, state: State, token: str) -> tuple[Any, ...]:
    loaded = results.uploads.loaded(token) if token else None
    both = results.predictions(state)
    commands = "\n\n".join(command_lines(state, traces=loaded.name if loaded else None))
    return commands, python_call(state), _numbers(both), _sources(both)


def _numbers(both: tuple[Prediction, ...]) -> Component:
    rows = [(stage, *(seconds_interval(getattr(each.latency, f"{stage}_s")) for each in both)) for stage in _STAGES]
    return table("Time of each stage with its 90 % interval", ("stage", *prediction_names(both)), rows)


def _sources(both: tuple[Prediction, ...]) -> Component:
    groups = dict.fromkeys(group for each in both for group in each.sources)
    rows = [(group, *(each.sources.get(group, "not used") for each in both)) for group in groups]
    return table("Where each group of coefficients comes from", ("coefficients", *prediction_names(both)), rows)


SHARE = View(
    "share",
    _layout,
    (("commands", "children"), ("python", "children"), ("numbers", "children"), ("sources", "children")),
    _render,
)
