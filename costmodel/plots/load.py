"""Latency over throughput, a point for each number of clients."""

from __future__ import annotations

import plotly.graph_objects as go

from costmodel.load import Load
from costmodel.plots.text import seconds_interval
from costmodel.plots.theme import MODEL_COLOURS, Figure, error_bars, new_figure, time_ticks, translucent
from costmodel.quantity import Quantity

__all__ = ["load_figure"]

_TIMES = {"ttft_s": "time to first token", "tpot_s": "time per further token", "total_s": "whole request"}
_MARGIN = 1.3


def load_figure(load: Load) -> Figure:
    """Three times of a request against the tokens that all clients get in a second."""
    figure = new_figure(
        f"{load.model} on {load.hardware}, {load.engine}",
        x="output tokens per second, all clients",
        y="time",
        height=520,
    )
    drawn: list[float] = []
    for (name, text), colour in zip(_TIMES.items(), MODEL_COLOURS, strict=False):
        times: list[Quantity] = [getattr(point, name) for point in load.points]
        drawn += [edge for time in times for edge in (time.low, time.high) if edge > 0]
        figure.add_trace(
            go.Scatter(
                x=[point.output_tokens_per_s.value for point in load.points],
                y=[time.value for time in times],
                error_y=error_bars(times, colour=translucent(colour, 0.6)),
                mode="lines+markers+text",
                text=[str(point.concurrency) for point in load.points],
                textposition="top center",
                name=text,
                line={"color": colour},
                customdata=[
                    f"{point.concurrency} clients, limited by {point.limit}<br>{text} {seconds_interval(time)}"
                    for point, time in zip(load.points, times, strict=True)
                ],
                hovertemplate="%{customdata}<br>%{x:.4g} tokens/s<extra></extra>",
            )
        )
    low, high = min(drawn) / _MARGIN, max(drawn) * _MARGIN
    values, texts = time_ticks(low, high)
    figure.update_yaxes(type="log", tickvals=values, ticktext=texts)
    return figure
