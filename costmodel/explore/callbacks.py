"""What happens when a control changes: on the server where a result is needed, in the browser where not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dash import ClientsideFunction, Dash, Input, Output, State, ctx, dcc, no_update
from dash.exceptions import PreventUpdate

from costmodel.errors import CostModelError, TraceError
from costmodel.explore.components import notes
from costmodel.explore.controls import SEGMENTS
from costmodel.explore.export import csv_text, json_text, report_text
from costmodel.explore.results import Results
from costmodel.explore.state import FIELDS, VIEWS, parse_query, parse_values, to_query
from costmodel.explore.state import State as PageState
from costmodel.explore.summary import cards, headline
from costmodel.explore.views import ALL_VIEWS, View
from costmodel.explore.views.share import DOWNLOADS

__all__ = ["connect"]

_CONTROLS = [Input(name, "value") for name in FIELDS]
_HIDDEN = {"display": "none"}


def connect(app: Dash, results: Results) -> None:
    """Register every callback."""
    _connect_address(app, results)
    _connect_headline(app, results)
    for view in ALL_VIEWS:
        _connect_view(app, results, view)
    _connect_upload(app, results)
    _connect_downloads(app, results)
    _connect_browser(app)


def _state(results: Results, values: Sequence[object]) -> PageState:
    return parse_values(dict(zip(FIELDS, values, strict=True)), results.catalogue)[0]


def _connect_address(app: Dash, results: Results) -> None:
    """Address to controls when the page is opened, controls to address ever after."""

    def open_address(query: str | None) -> tuple[object, ...]:
        state, problems = parse_query(query or "", results.catalogue)
        values = [getattr(state, name) for name in FIELDS]
        return *(list(value) if isinstance(value, tuple) else value for value in values), problems

    def collect(url_problems: list[str] | None, *values: object) -> tuple[str, list[Any]]:
        state, problems = parse_values(dict(zip(FIELDS, values, strict=True)), results.catalogue)
        # What was wrong with the address is told until a control is changed.
        opened = any(each["prop_id"].startswith("url-problems") for each in ctx.triggered)
        said = [*((url_problems or []) if opened else []), *problems]
        return to_query(state), notes(said, "warning")

    filled = [Output(name, "value") for name in FIELDS]
    app.callback(*filled, Output("url-problems", "data"), Input("url", "search"))(open_address)
    outputs = Output("query", "data"), Output("notices", "children")
    app.callback(*outputs, Input("url-problems", "data"), *_CONTROLS)(collect)


def _connect_headline(app: Dash, results: Results) -> None:
    def summarise(*values: object) -> tuple[list[Any], list[Any]]:
        state = _state(results, values)
        try:
            return headline(results, state), cards(results, state)
        except CostModelError as error:
            return notes([f"No prediction: {error}."], "error"), []

    app.callback(Output("headline", "children"), Output("cards", "children"), *_CONTROLS)(summarise)


def _connect_view(app: Dash, results: Results, view: View) -> None:
    outputs = [Output(name, prop) for name, prop in view.outputs]
    unchanged = [no_update] * len(outputs)

    def draw(token: str | None, *values: object) -> tuple[Any, ...]:
        state = _state(results, values)
        if state.view != view.key:
            raise PreventUpdate
        try:
            return [], {}, *view.render(results, state, token or "")
        except TraceError as error:
            # Traces are loaded in the view itself: its controls stay.
            return notes([f"{error}."], "error"), {}, *unchanged
        except CostModelError as error:
            return notes([f"{error}."], "error"), _HIDDEN, *unchanged

    frame = Output(f"{view.key}-problem", "children"), Output(f"{view.key}-body", "style")
    app.callback(*frame, *outputs, Input("token", "data"), *_CONTROLS)(draw)


def _connect_upload(app: Dash, results: Results) -> None:
    def load(contents: str | None, name: str | None) -> tuple[Any, list[Any]]:
        if not contents:
            raise PreventUpdate
        try:
            return results.uploads.add_encoded(contents, (name or "file")[:80]), []
        except TraceError as error:
            return no_update, notes([f"{error}."], "error")

    outputs = Output("token", "data"), Output("upload-problem", "children")
    app.callback(*outputs, Input("upload", "contents"), State("upload", "filename"), prevent_initial_call=True)(load)


def _connect_downloads(app: Dash, results: Results) -> None:
    """One callback a file: two files may be asked for at the same time."""
    makers: dict[str, Callable[[PageState, str], str]] = {
        "json": lambda state, token: json_text(results, state, token),
        "csv": lambda state, token: csv_text(results, state),
        "html": lambda state, token: report_text(results, state, token),
    }
    for kind in DOWNLOADS:
        _connect_download(app, results, kind, makers[kind])


def _connect_download(app: Dash, results: Results, kind: str, make: Callable[[PageState, str], str]) -> None:
    def download(clicks: int | None, token: str | None, *values: object) -> tuple[Any, list[Any]]:
        if not clicks:
            raise PreventUpdate
        try:
            return dcc.send_string(make(_state(results, values), token or ""), f"costmodel.{kind}"), []
        except CostModelError as error:
            return no_update, notes([f"{error}."], "error")

    app.callback(
        Output(f"download-{kind}-file", "data"),
        Output("download-problem", "children", allow_duplicate=True),
        Input(f"download-{kind}", "n_clicks"),
        State("token", "data"),
        *(State(name, "value") for name in FIELDS),
        prevent_initial_call=True,
    )(download)


def _connect_browser(app: Dash) -> None:
    """Callbacks of ``assets/page.js``."""

    def local(name: str, *arguments: Any, **options: Any) -> None:
        app.clientside_callback(ClientsideFunction("page", name), *arguments, **options)

    local("address", Output("link", "children"), Input("query", "data"))
    local("show", [Output(f"view-{key}", "hidden") for key in VIEWS], Input("view", "value"))
    for name, (_, options) in SEGMENTS.items():
        clicks = [Input(f"{name}--{value}", "n_clicks") for value in options]
        local("choose", Output(name, "value", allow_duplicate=True), clicks, prevent_initial_call=True)
        local("press", [Output(f"{name}--{value}", "aria-pressed") for value in options], Input(name, "value"))
    for name in ("large_output", "small_output"):
        local(
            "length",
            Output(name, "value", allow_duplicate=True),
            Output(f"{name}-slider", "value"),
            Input(f"{name}-slider", "value"),
            Input(name, "value"),
            State("lengths", "data"),
            prevent_initial_call=True,
        )
    local("theme", Output("ignored", "data"), Input("toggle-theme", "n_clicks"), prevent_initial_call=True)
    local(
        "configuration",
        Output("sidebar", "className"),
        Output("toggle-configuration", "aria-expanded"),
        Input("toggle-configuration", "n_clicks"),
        prevent_initial_call=True,
    )
    local(
        "pictures",
        Output("ignored", "data", allow_duplicate=True),
        Input("download-png", "n_clicks"),
        prevent_initial_call=True,
    )
