"""Controls of the page: each sets one field of :class:`~costmodel.explore.state.State` and has its name as id."""

from __future__ import annotations

from collections.abc import Sequence

from dash import dcc, html

from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component
from costmodel.explore.state import DEFAULTS, VIEWS
from costmodel.image_rules.layout import MAX_SIDE_PIXELS
from costmodel.program import QUANTIZATIONS
from costmodel.roofline import STAGES

__all__ = ["LENGTHS", "SEGMENTS", "choice", "choices", "configuration", "field", "number", "segments"]

LENGTHS = tuple(sorted({round(2 ** (step / 4)) for step in range(53)}))
"""Output lengths that the sliders step through; the box beside takes any."""

SEGMENTS: dict[str, tuple[str, dict[str, str]]] = {
    "view": ("View", VIEWS),
    "role": ("Model", {"small": "Small model", "large": "Large model"}),
    "stage": ("Stage", {stage: stage.capitalize() for stage in STAGES}),
}
"""Label and options of the controls whose options are buttons."""

_TYPING_S = 0.4
"""How long after the last key a number counts."""


def configuration(catalogue: Catalogue) -> Component:
    """All controls beside the results, in groups."""
    models = catalogue.model_names
    return html.Form(
        [
            _group("Models", choice("small", "Small model", models), choice("large", "Large model", models)),
            _group(
                "Answers",
                _length("large_output", "Output tokens, large"),
                _length("small_output", "Output tokens, small"),
            ),
            _group(
                "Request",
                _pair(
                    number("width", "Image width (px)", 1, MAX_SIDE_PIXELS),
                    number("height", "Height (px)", 1, MAX_SIDE_PIXELS),
                ),
                _pair(number("images", "Images", 0, 64), number("batch", "Batch", 1, 1024)),
                number("prompt_tokens", "Prompt (text tokens)", 0, 262144),
            ),
            _group(
                "Device and engine",
                choice("hardware", "GPU", catalogue.hardware_keys),
                choice("engine", "Engine", catalogue.engine_keys),
                _pair(
                    choice("quantization", "Quantisation", ("none", *QUANTIZATIONS)),
                    number("tp", "Tensor parallel", 1, 64),
                ),
            ),
        ],
        id="configuration",
        className="configuration",
        **{"aria-label": "Configuration"},
    )


def field(name: str, label: str, control: Component) -> Component:
    """Label above a control."""
    return html.Div([html.Label(label, htmlFor=name, id=f"{name}-label"), control], className="field")


def choice(name: str, label: str, options: Sequence[str]) -> Component:
    """One of several names, with a search."""
    menu = dcc.Dropdown(
        list(options), getattr(DEFAULTS, name), id=name, clearable=False, searchable=len(options) > 5, optionHeight=34
    )
    return field(name, label, menu)


def choices(name: str, label: str, options: Sequence[str]) -> Component:
    """Several of many names."""
    menu = dcc.Dropdown(list(options), list(getattr(DEFAULTS, name)), id=name, multi=True, optionHeight=34)
    return field(name, label, menu)


def number(name: str, label: str, low: float, high: float, *, step: float | str = 1) -> Component:
    """Number within bounds; those are checked on the server, which says what was wrong."""
    box = dcc.Input(
        id=name,
        type="number",
        value=getattr(DEFAULTS, name),
        min=low,
        max=high,
        step=step,
        debounce=_TYPING_S,
        inputMode="numeric",
    )
    return field(name, label, box)


def segments(name: str) -> Component:
    """One of a few, all in sight: buttons, and a hidden box that holds the value."""
    label, options = SEGMENTS[name]
    buttons = [
        html.Button(text, id=f"{name}--{value}", type="button", **{"aria-pressed": "false"})
        for value, text in options.items()
    ]
    held = dcc.Input(id=name, type="hidden", value=getattr(DEFAULTS, name))
    return html.Div([*buttons, held], className="segments", role="group", **{"aria-label": label})


def _length(name: str, label: str) -> Component:
    """Output length: a slider over the usual ones, and a box for any."""
    slider = dcc.Input(
        id=f"{name}-slider", type="range", min=0, max=len(LENGTHS) - 1, step=1, value=0, className="slider"
    )
    named = html.Label(f"{label}: slider", htmlFor=f"{name}-slider", className="hidden-text")
    return html.Div([number(name, label, 1, 65536), named, slider], className="length")


def _pair(*members: Component) -> Component:
    return html.Div(list(members), className="pair")


def _group(title: str, *members: Component) -> Component:
    return html.Fieldset([html.Legend(title), *members], className="group")
