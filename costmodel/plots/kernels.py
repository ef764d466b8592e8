"""Laws against kernels: predicted over measured time of single operators."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from costmodel.plots.theme import GREY, MODEL_COLOURS, Figure, new_figure, time_ticks, translucent

__all__ = ["kernel_figure"]

Seconds = Sequence[float] | NDArray[np.float64]

_MOST_POINTS = 1500
# Operators beyond the palette take its colours again with another symbol.
_SYMBOLS = ("circle", "cross-thin-open", "diamond-open")
_RATIO_TICKS = (0.5, 0.7, 0.9, 1.0, 1.1, 1.4, 2.0)


def kernel_figure(title: str, points: Mapping[str, tuple[Seconds, Seconds]]) -> Figure:
    """Ratio of predicted to measured time over the measured time, a colour an operator.

    Parameters
    ----------
    points
        Operator → measured and predicted seconds. Of a large table every n-th point is drawn.
    """
    figure = new_figure(title, x="measured time", y="predicted / measured", height=520)
    drawn: list[float] = []
    for index, (name, (measured, predicted)) in enumerate(points.items()):
        step = max(1, len(measured) // _MOST_POINTS)
        times = np.asarray(measured, dtype=float)[::step]
        ratios = np.asarray(predicted, dtype=float)[::step] / times
        drawn += times.tolist()
        figure.add_trace(
            go.Scattergl(
                x=times,
                y=ratios,
                mode="markers",
                name=name,
                marker={
                    "size": 4,
                    "color": translucent(MODEL_COLOURS[index % len(MODEL_COLOURS)], 0.45),
                    "symbol": _SYMBOLS[index // len(MODEL_COLOURS) % len(_SYMBOLS)],
                },
                hovertemplate=f"{name}<br>%{{x:.3g}} s, ratio %{{y:.2f}}<extra></extra>",
            )
        )
    for ratio, dash in ((0.9, "dot"), (1.0, "solid"), (1.1, "dot")):
        figure.add_hline(y=ratio, line={"color": GREY, "width": 1, "dash": dash})
    figure.update_layout(legend_itemsizing="constant")
    values, texts = time_ticks(min(drawn), max(drawn))
    figure.update_xaxes(type="log", tickvals=values, ticktext=texts)
    ends = [math.log10(_RATIO_TICKS[0]), math.log10(_RATIO_TICKS[-1])]
    labels = [f"{tick:g}" for tick in _RATIO_TICKS]
    figure.update_yaxes(type="log", tickvals=list(_RATIO_TICKS), ticktext=labels, range=ends)
    return figure
