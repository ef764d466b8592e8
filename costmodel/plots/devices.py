"""The same request on several devices."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from costmodel.plots.text import seconds_interval, short_names
from costmodel.plots.theme import MODEL_COLOURS, Figure, error_bars, label, new_figure
from costmodel.predict import Prediction

__all__ = ["devices_figure"]

_ROW_HEIGHT = 30
_GAP_HEIGHT = 16
_FRAME_HEIGHT = 150


def devices_figure(predictions: Sequence[Prediction]) -> Figure:
    """Latency of every model on every device with its interval; hollow where the model does not fit."""
    models = list(dict.fromkeys(prediction.model for prediction in predictions))
    devices = list(dict.fromkeys(prediction.hardware for prediction in predictions))
    height = _FRAME_HEIGHT + len(devices) * (_GAP_HEIGHT + _ROW_HEIGHT * len(models))
    figure = new_figure("The same request on other devices", x="latency (s)", y="", height=height)
    names = short_names(models)
    for index, model in enumerate(models):
        chosen = [prediction for prediction in predictions if prediction.model == model]
        colour = MODEL_COLOURS[index % len(MODEL_COLOURS)]
        figure.add_trace(_bars(label(names[model]), chosen, devices, colour))
    figure.update_layout(barmode="group", bargap=0.3, bargroupgap=0.12, legend_traceorder="normal")
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(
        tickvals=list(range(len(devices))),
        ticktext=[label(device) for device in devices],
        autorange="reversed",
        showgrid=False,
    )
    return figure


def _bars(name: str, predictions: Sequence[Prediction], devices: Sequence[str], colour: str) -> Figure:
    totals = [prediction.latency.total_s for prediction in predictions]
    return go.Bar(
        x=[total.value for total in totals],
        y=[devices.index(prediction.hardware) for prediction in predictions],
        orientation="h",
        name=name,
        marker={
            "color": colour,
            "opacity": [1.0 if prediction.memory.fits else 0.35 for prediction in predictions],
            "pattern": {"shape": ["" if prediction.memory.fits else "/" for prediction in predictions]},
        },
        error_x=error_bars(totals, colour="#73777D"),
        customdata=[_hover(prediction) for prediction in predictions],
        hovertemplate=f"<b>{name}</b> %{{customdata}}<extra></extra>",
    )


def _hover(prediction: Prediction) -> str:
    fits = "" if prediction.memory.fits else "<br>does not fit in its memory"
    return f"on {label(prediction.hardware)}<br>{seconds_interval(prediction.latency.total_s)}{fits}"
