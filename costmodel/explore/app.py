"""Build the page and serve it: to this machine only unless told otherwise, and asking no other machine for anything."""

from __future__ import annotations

import logging
from pathlib import Path

from costmodel.errors import CostModelError, InputError
from costmodel.explore.uploads import MOST_BYTES
from costmodel.units import MEBI

try:
    import flask
    from dash import Dash
    from werkzeug.serving import BaseWSGIServer, make_server
except ImportError as _error:
    raise CostModelError("the page needs dash: pip install 'vlm-costmodel[web]'") from _error

from costmodel.explore.callbacks import connect
from costmodel.explore.layout import INDEX, page
from costmodel.explore.results import Results
from costmodel.explore.summary import first_paint

__all__ = ["LOOPBACK", "make_app", "server_of"]

LOOPBACK = ("127.0.0.1", "localhost", "::1")

# Base64 is 4/3 of the file; the rest of a request is small.
_MOST_REQUEST_BYTES = MOST_BYTES * 3 // 2 + MEBI
_HERE = Path(__file__).parent


def make_app(results: Results, *, token: str = "", hosts: tuple[str, ...] | None = None) -> Dash:
    """Build the page.

    Parameters
    ----------
    token
        Traces that are loaded from the start.
    hosts
        Host names that requests may name; any where not given. On loopback this keeps out pages of other origins that
        point a name of theirs at this machine.
    """
    app = _Page(
        results,
        __name__,
        assets_folder=str(_HERE / "assets"),
        assets_ignore="theme.js",
        title="costmodel explore",
        update_title="",
        serve_locally=True,
        compress=False,
        index_string=INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
    )
    app.layout = page(results.catalogue, token=token)
    connect(app, results)
    app.server.config["MAX_CONTENT_LENGTH"] = _MOST_REQUEST_BYTES
    _guard(app, hosts)
    return app


class _Page(Dash):  # type: ignore[misc]
    """Dash, with the answer in the page itself: it is read while the scripts are still being loaded."""

    def __init__(self, results: Results, *arguments: object, **options: object) -> None:
        self._results = results
        super().__init__(*arguments, **options)

    def interpolate_index(self, **parts: str) -> str:
        """Put the headline where React will put the page."""
        query = flask.request.query_string.decode("ascii", "replace") if flask.has_request_context() else ""
        parts["app_entry"] = f'<div id="react-entry-point">{first_paint(self._results, query)}</div>'
        return str(super().interpolate_index(**parts))


def _guard(app: Dash, hosts: tuple[str, ...] | None) -> None:
    """Headers that let the browser itself refuse requests to other machines, and a check of the host asked for."""
    scripts = " ".join(f"'{digest}'" if not digest.startswith("'") else digest for digest in app.csp_hashes())
    policy = (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; connect-src 'self'; "
        "img-src 'self' data: blob:; font-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )

    def check_host() -> tuple[str, int] | None:
        name = flask.request.host.rsplit(":", 1)[0].strip("[]") if ":" in flask.request.host else flask.request.host
        return None if hosts is None or name in hosts else ("this page is served to this machine only\n", 403)

    def add_headers(response: flask.Response) -> flask.Response:
        response.headers["Content-Security-Policy"] = policy
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        return response

    app.server.before_request(check_host)
    app.server.after_request(add_headers)


def server_of(app: Dash, *, host: str, port: int) -> BaseWSGIServer:
    """Server that listens already; port 0 takes a free one.

    Raises
    ------
    InputError
        If the address is taken, or not this machine's.
    """
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    try:
        return make_server(host, port, app.server, threaded=True)
    except (OSError, SystemExit) as error:
        reason = error.strerror if isinstance(error, OSError) else "address in use"
        raise InputError(
            f"can't listen on {host}:{port}: {reason}; choose another --port, or 0 for a free one"
        ) from None
