"""Predictions against real runs."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from costmodel.plots.text import percent, seconds_interval, short_names
from costmodel.plots.theme import (
    GREY,
    MODEL_COLOURS,
    STAGE_SYMBOLS,
    Figure,
    error_bars,
    label,
    new_figure,
    time_ticks,
    translucent,
)
from costmodel.units import format_seconds
from costmodel.validation import Validation, ValidationRow

__all__ = ["error_figure", "parity_figure", "parity_of_rows"]

_TOLERANCE = 0.1
_MARGIN = 1.3
_STAGE_WIDTH = 0.8


def parity_figure(validation: Validation) -> Figure:
    """Predicted against measured time of every stage of every case, both axes logarithmic."""
    return parity_of_rows(validation.rows)


def parity_of_rows(every_row: Sequence[ValidationRow]) -> Figure:
    """As :func:`parity_figure`, from rows alone."""
    figure = new_figure("Predicted against measured", x="measured time", y="predicted time", height=560)
    rows = [row for row in every_row if row.measured_s > 0 and row.predicted.low > 0]
    if not rows:
        return figure
    times = [time for row in rows for time in (row.measured_s, row.predicted.low, row.predicted.high)]
    low, high = min(times) / _MARGIN, max(times) * _MARGIN
    _add_tolerance(figure, low, high)
    for stage, model, colour, chosen in _groups(rows):
        figure.add_trace(
            go.Scatter(
                x=[row.measured_s for row in chosen],
                y=[row.predicted.value for row in chosen],
                error_y=error_bars([row.predicted for row in chosen], colour=translucent(colour, 0.6)),
                mode="markers",
                marker={"color": colour, "symbol": STAGE_SYMBOLS.get(stage, "circle"), "size": 8},
                name=f"{label(model)} {stage}",
                legendgroup=stage,
                showlegend=False,
                customdata=[_hover(row) for row in chosen],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    _add_legend(figure, rows)
    values, texts = time_ticks(low, high)
    axis = {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": values,
        "ticktext": texts,
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure


def error_figure(validation: Validation) -> Figure:
    """Signed error of every case, by stage, beside the noise floor of the runs themselves."""
    figure = new_figure("Error by stage", x="", y="error of the prediction (%)", height=500)
    stages = [stage for stage in STAGE_SYMBOLS if any(row.stage == stage for row in validation.rows)]
    cases = list(dict.fromkeys(row.case_id for row in validation.rows))
    _add_noise_floor(figure, validation, stages)
    for stage, model, colour, chosen in _groups(validation.rows):
        figure.add_trace(
            go.Scatter(
                x=[stages.index(stage) + _offset(cases.index(row.case_id), len(cases)) for row in chosen],
                y=[row.error * 100 for row in chosen],
                mode="markers",
                marker={"color": colour, "symbol": STAGE_SYMBOLS.get(stage, "circle"), "size": 8},
                name=f"{label(model)} {stage}",
                legendgroup=label(model),
                showlegend=False,
                customdata=[_hover(row) for row in chosen],
                hovertemplate="%{customdata}<extra></extra>",
            )
        )
    names = short_names(row.model for row in validation.rows)
    for model, colour in _colours(validation.rows).items():
        figure.add_trace(_legend_entry(label(names[model]), colour, "circle", group=label(model)))
    figure.update_xaxes(
        tickvals=list(range(len(stages))), ticktext=stages, range=[-0.5, len(stages) - 0.5], showgrid=False
    )
    return figure


def _groups(rows: Sequence[ValidationRow]) -> list[tuple[str, str, str, list[ValidationRow]]]:
    """Stage, model, colour and rows of every group of points."""
    stages = [stage for stage in STAGE_SYMBOLS if any(row.stage == stage for row in rows)]
    return [
        (stage, model, colour, chosen)
        for stage in stages
        for model, colour in _colours(rows).items()
        if (chosen := [row for row in rows if (row.stage, row.model) == (stage, model)])
    ]


def _colours(rows: Sequence[ValidationRow]) -> dict[str, str]:
    models = dict.fromkeys(row.model for row in rows)
    return {model: MODEL_COLOURS[index % len(MODEL_COLOURS)] for index, model in enumerate(models)}


def _hover(row: ValidationRow) -> str:
    return (
        f"<b>{label(row.case_id)}</b>, {row.stage}<br>{label(row.model)}<br>"
        f"measured {format_seconds(row.measured_s)}, {len(row.repeats_s)} run(s)<br>"
        f"predicted {seconds_interval(row.predicted)}<br>error {percent(row.error, signed=True)}"
    )


def _add_tolerance(figure: Figure, low: float, high: float) -> None:
    """Diagonal of a perfect prediction, and the band around it."""
    lower, upper = 1 - _TOLERANCE, 1 + _TOLERANCE
    figure.add_trace(
        go.Scatter(
            x=[low, high, high, low],
            y=[low * lower, high * lower, high * upper, low * upper],
            fill="toself",
            fillcolor=translucent(GREY, 0.25),
            mode="lines",
            line={"width": 0},
            name=f"±{percent(_TOLERANCE)}",
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=[low, high],
            y=[low, high],
            mode="lines",
            line={"color": GREY, "width": 1.5, "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _add_legend(figure: Figure, rows: Sequence[ValidationRow]) -> None:
    """One entry a model (colour) and one a stage (symbol), not one a pair; a stage's hides its points."""
    names = short_names(row.model for row in rows)
    for model, colour in _colours(rows).items():
        figure.add_trace(_legend_entry(label(names[model]), colour, "circle", group=f"model {label(model)}"))
    for stage, symbol in STAGE_SYMBOLS.items():
        if any(row.stage == stage for row in rows):
            figure.add_trace(_legend_entry(stage, GREY, symbol, group=stage))


def _legend_entry(name: str, colour: str, symbol: str, *, group: str) -> Figure:
    return go.Scatter(
        x=[None],
        y=[None],
        mode="markers",
        marker={"color": colour, "symbol": symbol, "size": 9},
        name=name,
        legendgroup=group,
        hoverinfo="skip",
    )


def _add_noise_floor(figure: Figure, validation: Validation, stages: Sequence[str]) -> None:
    """Grey bars of the noise floor, dashes at the limit, a bar at the mean error."""
    scores = {score.stage: score for score in validation.stages}
    half = _STAGE_WIDTH / 2
    shown = [(index, scores[stage]) for index, stage in enumerate(stages) if stage in scores]
    figure.add_trace(
        go.Bar(
            x=[index for index, _ in shown],
            y=[200 * score.noise_floor for _, score in shown],
            base=[-100 * score.noise_floor for _, score in shown],
            width=_STAGE_WIDTH,
            marker={"color": translucent(GREY, 0.3), "line": {"width": 0}},
            name="noise floor of the runs",
            customdata=[percent(score.noise_floor) for _, score in shown],
            hovertemplate="noise floor ±%{customdata}<extra></extra>",
        )
    )
    bias = [(index, 100 * score.bias) for index, score in shown]
    figure.add_trace(_dashes("mean error", bias, half=half, dash="solid"))
    limits = [(index, sign * 100 * s.limit) for index, s in shown if s.limit is not None for sign in (1, -1)]
    if limits:
        figure.add_trace(_dashes("limit of the mean", limits, half=half, dash="dash"))


def _dashes(name: str, levels: Sequence[tuple[int, float]], *, half: float, dash: str) -> Figure:
    """Horizontal strokes over the width of a stage."""
    x = [edge for index, _ in levels for edge in (index - half, index + half, None)]
    y = [value for _, level in levels for value in (level, level, None)]
    return go.Scatter(
        x=x, y=y, mode="lines", line={"color": GREY, "width": 2, "dash": dash}, name=name, hoverinfo="skip"
    )


def _offset(index: int, count: int) -> float:
    """Place of a case within its stage."""
    return 0.0 if count < 2 else (index / (count - 1) - 0.5) * (_STAGE_WIDTH - 0.1)
