"""The page, empty: header, configuration, headline, views."""

from __future__ import annotations

from dash import dcc, html

from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component
from costmodel.explore.controls import LENGTHS, configuration, segments
from costmodel.explore.state import DEFAULTS, VIEWS
from costmodel.explore.views import ALL_VIEWS, View
from costmodel.plots.theme import PAGE_CSS

__all__ = ["INDEX", "page"]

INDEX = """<!DOCTYPE html>
<html lang="en">
<head>
{%metas%}
<meta name="color-scheme" content="light dark">
<title>{%title%}</title>
<link rel="icon" href="data:,">
<script src="/assets/theme.js"></script>
{%css%}
<style>FIGURE_STYLE</style>
</head>
<body>
{%app_entry%}
<footer>{%config%}{%scripts%}{%renderer%}</footer>
</body>
</html>
""".replace("FIGURE_STYLE", PAGE_CSS)
"""Frame of the page; the theme is set before anything is drawn."""


def page(catalogue: Catalogue, *, token: str = "") -> Component:
    """All of it; ``token`` names traces that were loaded at the start."""
    return html.Div(
        [
            dcc.Location(id="url", refresh=False),
            dcc.Store(id="query"),
            dcc.Store(id="url-problems", data=[]),
            dcc.Store(id="token", data=token),
            dcc.Store(id="ignored"),
            dcc.Store(id="lengths", data=LENGTHS),
            html.A("Skip to the results", href="#results", className="skip"),
            _header(),
            html.Div(
                [
                    html.Aside(configuration(catalogue), className="sidebar", id="sidebar"),
                    html.Main([_headline(), _views(catalogue)], id="results", tabIndex=-1),
                ],
                className="shell",
            ),
        ],
        className="page",
    )


def _header() -> Component:
    return html.Header(
        [
            html.H1("costmodel explore"),
            html.Div(
                [
                    html.Button(
                        "Configuration",
                        id="toggle-configuration",
                        type="button",
                        className="button only-narrow",
                        **{"aria-expanded": "false", "aria-controls": "sidebar"},
                    ),
                    html.Button("Theme", id="toggle-theme", type="button", className="button", title="Dark or light"),
                ],
                className="buttons",
            ),
        ],
        className="bar",
    )


def _headline() -> Component:
    return html.Div(
        [
            html.Div(id="notices", role="status"),
            html.Section(
                [html.Div(id="headline", className="headline"), html.Div(id="cards", className="cards")],
                **{"aria-label": "In short"},
            ),
        ]
    )


def _views(catalogue: Catalogue) -> Component:
    parts = [_view(view, catalogue) for view in ALL_VIEWS]
    return html.Div([segments("view"), *parts], className="views")


def _view(view: View, catalogue: Catalogue) -> Component:
    body = html.Div(view.layout(catalogue), id=f"{view.key}-body")
    return html.Section(
        [html.Div(id=f"{view.key}-problem"), body],
        id=f"view-{view.key}",
        hidden=view.key != DEFAULTS.view,
        **{"aria-label": VIEWS[view.key]},
    )
