"""Where the time of a request goes."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from costmodel.plots.text import prediction_names, seconds_interval
from costmodel.plots.theme import GREY, STAGE_COLOURS, Figure, error_bars, label, new_figure
from costmodel.predict import Prediction

__all__ = ["breakdown_figure"]

_ROW_HEIGHT = 96
_FRAME_HEIGHT = 190
_WHISKER_OFFSET = 0.25


def breakdown_figure(predictions: Sequence[Prediction]) -> Figure:
    """Stages of every prediction as a stacked bar, and the interval of the total as a whisker."""
    figure = new_figure(
        "Where the time goes", x="time (s)", y="", height=_FRAME_HEIGHT + _ROW_HEIGHT * len(predictions)
    )
    rows = list(range(len(predictions)))
    for stage, colour in STAGE_COLOURS.items():
        figure.add_trace(_stage_bars(predictions, stage, colour))
    totals = [prediction.latency.total_s for prediction in predictions]
    figure.add_trace(
        go.Scatter(
            x=[total.value for total in totals],
            y=[row + _WHISKER_OFFSET for row in rows],
            error_x=error_bars(totals, colour=GREY),
            mode="markers",
            marker={"color": GREY, "size": 7, "symbol": "circle"},
            name="total, with interval",
            customdata=[seconds_interval(total) for total in totals],
            hovertemplate="total: %{customdata}<extra></extra>",
        )
    )
    _name_rows(figure, predictions)
    figure.update_layout(
        barmode="stack", bargap=0.6, legend_traceorder="normal", uniformtext={"mode": "hide", "minsize": 11}
    )
    figure.update_xaxes(rangemode="tozero")
    figure.update_yaxes(visible=False, range=[len(predictions) - 0.5, -0.75])
    return figure


def _stage_bars(predictions: Sequence[Prediction], stage: str, colour: str) -> Figure:
    quantities = [getattr(prediction.latency, f"{stage}_s") for prediction in predictions]
    return go.Bar(
        x=[quantity.value for quantity in quantities],
        y=list(range(len(predictions))),
        orientation="h",
        name=stage,
        marker={"color": colour},
        text=[stage] * len(predictions),
        textposition="inside",
        insidetextanchor="middle",
        insidetextfont={"color": "#14161A"},
        textangle=0,
        customdata=[seconds_interval(quantity) for quantity in quantities],
        hovertemplate=f"{stage}: %{{customdata}}<extra></extra>",
    )


def _name_rows(figure: Figure, predictions: Sequence[Prediction]) -> None:
    """Names above the bars, not beside them: they keep their width on a narrow screen."""
    names = prediction_names(predictions)
    for row, prediction in enumerate(predictions):
        lengths = f"{prediction.prompt_tokens_total} + {prediction.workload.output_tokens} tokens"
        total = seconds_interval(prediction.latency.total_s)
        figure.add_annotation(
            x=0,
            y=row - 0.22,
            text=f"<b>{label(names[row])}</b>, {lengths}<br>{total}",
            align="left",
            xanchor="left",
            yanchor="bottom",
            showarrow=False,
        )
