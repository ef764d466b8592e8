"""Whether a model fits: weights, cache, activations and workspace beside the device's memory."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from costmodel.plots.text import prediction_names
from costmodel.plots.theme import GREY, LARGE, MEMORY_COLOURS, Figure, label, new_figure, note
from costmodel.predict import Prediction
from costmodel.units import GIB, format_bytes

__all__ = ["memory_figure"]

_ROW_HEIGHT = 92
_FRAME_HEIGHT = 150
_NAMES = {
    "weights_bytes": "weights",
    "kv_cache_bytes": "KV cache",
    "activations_bytes": "activations",
    "workspace_bytes": "workspace",
}


def memory_figure(predictions: Sequence[Prediction]) -> Figure:
    """Memory of every prediction on one device as a stacked bar, with the device's capacity as a line."""
    height = _FRAME_HEIGHT + _ROW_HEIGHT * len(predictions)
    figure = new_figure("Memory on each device", x="memory (GiB)", y="", height=height)
    rows = list(range(len(predictions)))
    for (field, name), colour in zip(_NAMES.items(), MEMORY_COLOURS, strict=True):
        sizes = [getattr(prediction.memory, field) for prediction in predictions]
        figure.add_trace(
            go.Bar(
                x=[size / GIB for size in sizes],
                y=rows,
                orientation="h",
                name=name,
                marker={"color": colour},
                customdata=[format_bytes(size) for size in sizes],
                hovertemplate=f"{name}: %{{customdata}}<extra></extra>",
            )
        )
    names = prediction_names(predictions)
    for row, prediction in enumerate(predictions):
        _name_row(figure, row, names[row], prediction)
        _draw_capacity(figure, row, prediction)
    furthest = max(max(p.memory.total_bytes, p.memory.capacity_bytes) for p in predictions) / GIB
    figure.update_layout(barmode="stack", bargap=0.6, legend_traceorder="normal")
    figure.update_xaxes(range=[0, 1.04 * furthest])
    figure.update_yaxes(visible=False, range=[len(predictions) - 0.5, -0.75])
    return figure


def _name_row(figure: Figure, row: int, name: str, prediction: Prediction) -> None:
    memory = prediction.memory
    verdict = "fits" if memory.fits else "<b>does not fit</b>"
    sizes = f"{format_bytes(memory.total_bytes)} of {format_bytes(memory.capacity_bytes)}"
    devices = f" on each of {prediction.num_devices} devices" if prediction.num_devices > 1 else ""
    text = f"<b>{label(name)}</b><br>{sizes}{devices}: {verdict}"
    figure.add_annotation(x=0, y=row - 0.22, text=text, align="left", xanchor="left", yanchor="bottom", showarrow=False)


def _draw_capacity(figure: Figure, row: int, prediction: Prediction) -> None:
    at, colour = prediction.memory.capacity_bytes / GIB, GREY if prediction.memory.fits else LARGE
    ends = {"x0": at, "x1": at, "y0": row - 0.28, "y1": row + 0.28}
    figure.add_shape(type="line", **ends, line={"color": colour, "width": 3})
    if row == 0:
        note(figure, "capacity", x=at, y=row - 0.3, xanchor="right", yanchor="bottom", xshift=2)
