"""Colours, fonts and shared pieces of every figure."""

from __future__ import annotations

import copy
import html
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

from costmodel.errors import CostModelError, InputError
from costmodel.files import write_atomic
from costmodel.quantity import Quantity
from costmodel.units import format_rate, format_seconds

try:
    import plotly.graph_objects as go
except ImportError as _error:
    raise CostModelError("figures need plotly: pip install 'vlm-costmodel[plot]'") from _error

__all__ = [
    "CONFIG",
    "GREY",
    "LARGE",
    "MEMORY_COLOURS",
    "MODEL_COLOURS",
    "PAGE_CSS",
    "SMALL",
    "STAGE_COLOURS",
    "STAGE_SYMBOLS",
    "Figure",
    "band",
    "captioned",
    "error_bars",
    "label",
    "new_figure",
    "note",
    "si_ticks",
    "time_ticks",
    "translucent",
    "write_figure",
]

Figure: TypeAlias = Any
"""A ``plotly.graph_objects.Figure``; plotly has no types."""

# Okabe & Ito's palette, which the common kinds of colour blindness can tell apart, without its black, which
# vanishes on a dark page, and its yellow, which does on a white one.
_BLUE, _VERMILLION, _GREEN, _PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_SKY, _ORANGE = "#56B4E9", "#E69F00"

SMALL, LARGE = _BLUE, _VERMILLION
MODEL_COLOURS = (_BLUE, _VERMILLION, _GREEN, _PURPLE, _SKY, _ORANGE)
STAGE_COLOURS = {"preprocess": _ORANGE, "encode": _SKY, "prefill": _GREEN, "decode": _PURPLE}
MEMORY_COLOURS = (_BLUE, _ORANGE, _SKY, _GREEN)
STAGE_SYMBOLS = {
    "preprocess": "triangle-up",
    "encode": "square",
    "prefill": "diamond",
    "decode": "cross",
    "total": "circle",
}

# Contrast about 4.5 to white and 4 to a dark page; PAGE_CSS sharpens it where the page's colours are known.
GREY = "#73777D"
_GRID = "rgba(128,128,128,0.22)"
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Liberation Sans', Arial, sans-serif"

_TITLE_SPACE, _CAPTIONED_MARGIN = 30, 28

CONFIG: dict[str, Any] = {
    "responsive": True,
    "displaylogo": False,
    "modeBarButtons": [["toImage", "zoom2d", "resetScale2d"]],
}
"""Second argument of ``Plotly.newPlot`` and of ``write_html``."""

PAGE_CSS = """
.js-plotly-plot .main-svg text:not(.bartext) { fill: var(--figure-text) !important; }
.js-plotly-plot .main-svg .annotation-text-g .bg { fill: var(--figure-back) !important; }
.js-plotly-plot .main-svg .hoverlayer text { fill: #fff !important; }
"""
"""Gives figures the colours of the page around them, which sets ``--figure-text`` and ``--figure-back``."""

_AXIS = {
    "gridcolor": _GRID,
    "zerolinecolor": _GRID,
    "linecolor": GREY,
    "ticks": "outside",
    "tickcolor": GREY,
    "automargin": True,
    "title": {"standoff": 8, "font": {"size": 13}},
}

_LEGEND = {"orientation": "h", "x": 0, "xanchor": "left", "y": 0, "yref": "container", "yanchor": "bottom"}

_TEMPLATE = go.layout.Template(
    layout={
        "font": {"family": _FONT, "size": 13, "color": GREY},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "title": {
            "x": 0,
            "xref": "paper",
            "yref": "container",
            "font": {"size": 16},
            "automargin": True,
            "pad": {"t": 12, "b": 10},
        },
        "margin": {"l": 8, "r": 16, "t": 32, "b": 8},
        "legend": _LEGEND,
        "hoverlabel": {
            "bgcolor": "#23272E",
            "bordercolor": "#23272E",
            "font": {"color": "#FFFFFF", "size": 13},
        },
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": GREY, "activecolor": _BLUE},
        # A finger on a figure scrolls the page; zooming is a button away.
        "dragmode": False,
        "xaxis": _AXIS,
        "yaxis": _AXIS,
    }
)


def new_figure(title: str, *, x: str, y: str, height: int) -> Figure:
    """Empty figure in the common style; axis titles carry the unit."""
    # Plotly checks a template whenever it is set: a copy of a figure that has it is faster.
    figure = copy.deepcopy(_empty_figure())
    axes = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}}
    figure.update_layout({"title": {"text": title}, "height": height, **axes})
    return figure


@cache
def _empty_figure() -> Figure:
    return go.Figure(layout={"template": _TEMPLATE})


def captioned(figure: Figure) -> tuple[str, dict[str, Any]]:
    """Title, and the figure without it: a page sets it as a caption, which wraps on a narrow screen."""
    content: dict[str, Any] = json.loads(figure.to_json())
    layout = content["layout"]
    caption = html.unescape(layout.pop("title")["text"])
    layout["height"] -= _TITLE_SPACE
    layout["margin"] = {**layout.get("margin", {}), "t": _CAPTIONED_MARGIN}
    return caption, content


def label(text: str) -> str:
    """Make plotly show a text literally: names come from files, and plotly reads tags and links in texts."""
    return html.escape(text, quote=False)


def translucent(colour: str, opacity: float) -> str:
    """Colour of a band behind a line."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def error_bars(quantities: Sequence[Quantity], *, colour: str) -> dict[str, Any]:
    """Interval of every quantity as plotly's asymmetric error bars."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [q.high - q.value for q in quantities],
        "arrayminus": [q.value - q.low for q in quantities],
        "color": colour,
        "thickness": 1.5,
        "width": 4,
    }


def band(x: Sequence[float], low: Sequence[float], high: Sequence[float], *, colour: str, group: str) -> Figure:
    """Area between two curves, as one closed outline."""
    return go.Scatter(
        x=[*x, *reversed(x)],
        y=[*low, *reversed(high)],
        fill="toself",
        fillcolor=translucent(colour, 0.2),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
        name=f"{group} interval",
    )


def note(figure: Figure, text: str, **place: Any) -> None:
    """Put a text into the figure, on a ground that keeps it readable over lines and bands."""
    figure.add_annotation(text=text, bgcolor="rgba(255,255,255,0.8)", **{"showarrow": False, **place})


def time_ticks(low_s: float, high_s: float) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic time axis, with their units; denser where the axis is short."""
    decades = math.log10(high_s / low_s)
    steps = (1, 2, 5) if decades < 2 else (1, 3) if decades < 3.5 else (1,)
    values = [value for value in _log_grid(low_s, high_s, steps) if low_s <= value <= high_s]
    return values, [format_seconds(value) for value in values]


def si_ticks(low: float, high: float) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic axis at powers of ten, with decimal prefixes."""
    decades = math.log10(high / low)
    steps = (1, 3) if decades < 3 else (1,)
    values = [value for value in _log_grid(low, high, steps) if low <= value <= high]
    return values, [format_rate(value, "").strip() for value in values]


def _log_grid(low: float, high: float, steps: Sequence[int]) -> Iterator[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return (step * 10.0**exponent for exponent, step in itertools.product(exponents, steps))


def write_figure(path: Path, figure: Figure) -> None:
    """Write a figure by the suffix of ``path``: a self-contained HTML page, or a picture (needs kaleido and a Chrome).

    Raises
    ------
    InputError
        If the suffix is neither.
    """
    if path.suffix == ".html":
        write_atomic(path, figure.to_html(include_plotlyjs="inline", config=CONFIG))
    elif path.suffix in (".png", ".svg", ".pdf"):
        figure.write_image(path, width=860, height=560, scale=1.5)
    else:
        raise InputError(f"figure {path.name}: got suffix {path.suffix!r}, expected .html, .png, .svg or .pdf")
