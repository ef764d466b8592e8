"""Operators under the ceilings of a device."""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from costmodel.plots.text import percent, short_names
from costmodel.plots.theme import GREY, MODEL_COLOURS, Figure, label, new_figure, note, si_ticks
from costmodel.roofline import Roofline, RooflinePoint
from costmodel.units import format_rate, format_seconds

__all__ = ["roofline_figure"]

_KINDS = {
    "gemm": ("matrix product", MODEL_COLOURS[0], "circle"),
    "moe": ("experts", MODEL_COLOURS[3], "pentagon"),
    "attention_context": ("attention", MODEL_COLOURS[1], "diamond"),
    "attention_generation": ("attention", MODEL_COLOURS[1], "diamond"),
    "attention_encoder": ("attention", MODEL_COLOURS[1], "diamond"),
}
_OTHER = ("other", MODEL_COLOURS[2], "square")
_SMALLEST, _LARGEST = 8.0, 36.0


def roofline_figure(roofline: Roofline) -> Figure:
    """Predicted rate of every operator over its FLOPs per byte; an area is a share of the stage's device time."""
    name = short_names([roofline.model])[roofline.model]
    title = f"Roofline of {roofline.stage}: {label(name)}"
    figure = new_figure(title, x="FLOP per byte moved", y="rate (FLOP/s)", height=500)
    points = [point for point in roofline.points if point.flops > 0 and point.bytes > 0]
    x, y = _ranges(roofline, points)
    _add_ceilings(figure, roofline, x)
    for kind in dict.fromkeys(_KINDS.get(point.kind, _OTHER) for point in points):
        _add_points(figure, kind, [point for point in points if _KINDS.get(point.kind, _OTHER) == kind])
    left_out = sum(point.share for point in roofline.points if point not in points)
    if roofline.points:
        text = f"not drawn: {percent(left_out)} of the time,<br>kernels without FLOPs" if left_out else ""
    else:
        text = "nothing runs on the device in this stage"
    if text:
        figure.add_annotation(
            text=text,
            x=0.99,
            y=0.02,
            xref="paper",
            yref="paper",
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            align="right",
        )
    for update, (low, high) in ((figure.update_xaxes, x), (figure.update_yaxes, y)):
        values, texts = si_ticks(low, high)
        update(type="log", range=[math.log10(low), math.log10(high)], tickvals=values, ticktext=texts)
    return figure


def _ranges(roofline: Roofline, points: list[RooflinePoint]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both axes: every point, and where the ceilings meet."""
    peaks = list(roofline.peak_flops_per_s.values()) or [roofline.memory_bytes_per_s]
    intensities = [point.flops / point.bytes for point in points] + [
        peak / roofline.memory_bytes_per_s for peak in peaks
    ]
    rates = [point.flops / point.time_s for point in points] + peaks
    return (min(intensities) / 3, max(intensities) * 6), (min(rates) / 4, max(rates) * 3)


def _add_ceilings(figure: Figure, roofline: Roofline, x: tuple[float, float]) -> None:
    bandwidth = roofline.memory_bytes_per_s
    for dtype, peak in roofline.peak_flops_per_s.items():
        intensities = np.array([x[0], peak / bandwidth, x[1]])
        figure.add_trace(
            go.Scatter(
                x=intensities,
                y=np.minimum(intensities * bandwidth, peak),
                mode="lines",
                line={"color": GREY, "width": 2},
                name=f"ceiling, {label(dtype)}",
                hoverinfo="skip",
                showlegend=False,
            )
        )
        text = f"{label(dtype)} peak {format_rate(peak, 'FLOP/s')}"
        note(figure, text, x=math.log10(x[1]), y=math.log10(peak), xanchor="right", yanchor="bottom")
    top = max(roofline.peak_flops_per_s.values(), default=bandwidth * x[1])
    # On the slope, a third of the way up: clear of the corner and of the operators at one FLOP a byte.
    at = math.sqrt(x[0] * min(top / bandwidth, x[1]))
    text = f"memory {format_rate(bandwidth, 'B/s')}"
    place = {"x": math.log10(at), "y": math.log10(at * bandwidth), "xanchor": "right", "yanchor": "bottom"}
    note(figure, text, **place, xshift=-6)


def _add_points(figure: Figure, kind: tuple[str, str, str], points: list[RooflinePoint]) -> None:
    name, colour, symbol = kind
    figure.add_trace(
        go.Scatter(
            x=[point.flops / point.bytes for point in points],
            y=[point.flops / point.time_s for point in points],
            mode="markers",
            name=name,
            marker={
                "color": colour,
                "symbol": symbol,
                "opacity": 0.8,
                "size": [_SMALLEST + (_LARGEST - _SMALLEST) * math.sqrt(point.share) for point in points],
                "line": {"color": "#FFFFFF", "width": 1},
            },
            customdata=[_hover(point) for point in points],
            hovertemplate="%{customdata}<extra></extra>",
        )
    )


def _hover(point: RooflinePoint) -> str:
    return (
        f"<b>{label(point.op)}</b> in {label(point.component)}<br>"
        f"{format_seconds(point.time_s)} in {point.executions} runs, {percent(point.share)} of the device time<br>"
        f"{format_rate(point.flops / point.time_s, 'FLOP/s')}, {format_rate(point.bytes / point.time_s, 'B/s')}<br>"
        f"bound by {point.bound}"
    )
