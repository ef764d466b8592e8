"""One self-contained HTML file: style, scripts and figures are inside, it asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from string import Template
from typing import Any

from plotly.offline import get_plotlyjs

from costmodel.plots import CONFIG, PAGE_CSS, Figure
from costmodel.plots.theme import captioned
from costmodel.report.markup import Html, element, join

__all__ = ["FigureStore", "render_page"]

_HERE = Path(__file__).parent


class FigureStore:
    """The figures of a page: each is placed where it belongs, its data is kept for the end of the page."""

    def __init__(self) -> None:
        self._data: list[Html] = []

    def place(self, figure: Figure) -> Html:
        """Put a figure here; its title becomes a caption, which wraps on a narrow screen."""
        name = f"figure-{len(self._data)}"
        caption, content = captioned(figure)
        layout = content["layout"]
        content["config"] = CONFIG
        self._data.append(_data_block(name, content))
        plot = element("div", class_="plot", data_figure=name, style=f"min-height:{layout['height']}px")
        return element("figure", element("figcaption", caption), plot)

    @property
    def data(self) -> tuple[Html, ...]:
        """Data of every figure placed, as script elements that run nothing."""
        return tuple(self._data)


def render_page(title: str, sections: Sequence[Html], figures: FigureStore) -> str:
    """Whole page. Its policy admits the page's own scripts by their hash, and no request."""
    scripts = [get_plotlyjs(), _resource("page.js")] if figures.data else []
    template = Template(_resource("page.html"))
    return template.substitute(
        title=join([title]),
        style=_resource("page.css") + PAGE_CSS,
        script_sources=" ".join(f"'sha256-{_sha256(script)}'" for script in scripts) or "'none'",
        body="\n".join(sections),
        scripts="\n".join([*figures.data, *(f"<script>{script}</script>" for script in scripts)]),
    )


def _data_block(name: str, content: dict[str, Any]) -> Html:
    text = json.dumps(content, allow_nan=False)
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Html(f'<script type="application/json" id="{name}">{text}</script>')


def _resource(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8").strip()


def _sha256(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
