"""Which of two models is faster, and from which answer length on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from costmodel.breakeven import BreakEven
from costmodel.plots.text import probability, seconds_interval, short_names, tokens_interval
from costmodel.plots.theme import (
    GREY,
    LARGE,
    MODEL_COLOURS,
    SMALL,
    Figure,
    band,
    error_bars,
    label,
    new_figure,
    note,
)
from costmodel.quantity import Quantity

__all__ = ["break_even_figure", "latency_figure"]

_CURVE = MODEL_COLOURS[2]


def latency_figure(result: BreakEven) -> Figure:
    """Latency of both models against output tokens, with the crossing and the large model's answer."""
    figure = new_figure("Latency against answer length", x="output tokens", y="latency (s)", height=460)
    names = short_names((result.small, result.large))
    lengths = [point.output_tokens for point in result.latencies]
    curves = (
        (label(names[result.large]), LARGE, [point.large_s for point in result.latencies]),
        (label(names[result.small]), SMALL, [point.small_s for point in result.latencies]),
    )
    for name, colour, quantities in curves:
        _add_curve(figure, name, colour, lengths, quantities)
    span, top = _view(result)
    _mark_large_answer(figure, result)
    _mark_crossing(figure, result, span=span)
    _mark_small_answer(figure, result, top=top)
    figure.update_xaxes(range=[0, span], tick0=0, dtick=1 if span < 8 else None)
    figure.update_yaxes(range=[0, top])
    return figure


def break_even_figure(result: BreakEven) -> Figure:
    """Small-model tokens that cost as much as N large-model tokens."""
    figure = new_figure(
        "Answer lengths of equal latency",
        x="output tokens of the large model",
        y="output tokens of the small model",
        height=460,
    )
    points = [
        (point.large_output_tokens, point.small_output_tokens)
        for point in result.curve
        if point.small_output_tokens is not None
    ]
    longest = max([point.large_output_tokens for point in result.curve], default=1)
    if points:
        _add_equal_time(figure, [tokens for tokens, _ in points], [quantity for _, quantity in points])
    else:
        _say(figure, "the small model is slower at every length")
    _add_line(figure, "same length", [0, longest], [0, longest], colour=GREY, dash="dot")
    _mark_request(figure, result)
    _name_regions(figure, result)
    figure.update_xaxes(range=[0, longest])
    figure.update_yaxes(rangemode="tozero")
    return figure


def _view(result: BreakEven) -> tuple[float, float]:
    """Token and time range that the figure opens with: what was asked for, and a little more on the right."""
    crossing = result.break_even_output_tokens
    wanted = max(result.large_output_tokens, result.small_output_tokens or 1, crossing.high if crossing else 1)
    lengths = [point.output_tokens for point in result.latencies]
    span = min(1.2 * wanted, float(max(lengths))) if wanted > 1 else float(max(lengths))
    highs = [max(point.small_s.high, point.large_s.high) for point in result.latencies]
    return span, 1.05 * float(np.interp(span, lengths, highs))


def _add_curve(figure: Figure, name: str, colour: str, lengths: list[int], quantities: list[Quantity]) -> None:
    figure.add_trace(
        band(lengths, [q.low for q in quantities], [q.high for q in quantities], colour=colour, group=name)
    )
    figure.add_trace(
        go.Scatter(
            x=lengths,
            y=[q.value for q in quantities],
            mode="lines",
            line={"color": colour, "width": 2.5},
            name=name,
            legendgroup=name,
            customdata=[seconds_interval(q) for q in quantities],
            hovertemplate="%{x} tokens: %{customdata}",
        )
    )


def _mark_large_answer(figure: Figure, result: BreakEven) -> None:
    tokens, seconds = float(result.large_output_tokens), result.large_s.value
    crossing = result.break_even_output_tokens
    end = crossing.value if crossing else tokens
    _add_line(figure, "", [tokens, tokens, end], [0, seconds, seconds], colour=GREY, dash="dot")
    text = f"large: {_count(result.large_output_tokens)}"
    figure.add_trace(_marker(text, (tokens, seconds), LARGE, "diamond"))


def _mark_crossing(figure: Figure, result: BreakEven, *, span: float) -> None:
    crossing = result.break_even_output_tokens
    if crossing is None:
        _say(figure, "no break-even: the small model is slower even with one token")
        return
    at = (crossing.value, result.large_s.value)
    text = f"break-even: {tokens_interval(crossing)}"
    _add_line(figure, "", [at[0], at[0]], [0, at[1]], colour=SMALL, dash="dot")
    marker = _marker(text, at, SMALL, "circle")
    marker.update(error_x=error_bars([crossing], colour=SMALL), showlegend=False)
    figure.add_trace(marker)
    # Below the curves there is room at every width, on the side of the mark that is farther from the edge.
    share = at[0] / span
    anchor = "left" if share < 0.37 else "right" if share > 0.63 else "center"
    shift = {"left": 4, "right": -4}.get(anchor, 0)
    note(figure, text, x=at[0], y=0.02, yref="paper", xanchor=anchor, yanchor="bottom", xshift=shift)


def _mark_small_answer(figure: Figure, result: BreakEven, *, top: float) -> None:
    tokens, chance = result.small_output_tokens, result.probability_large_faster
    if tokens is None:
        return
    text = f"small: {_count(tokens)}"
    if chance is not None:
        text += f" (large faster: {label(probability(chance))})"
    _add_line(figure, text, [tokens, tokens], [0, top], colour=SMALL, dash="dash")


def _add_equal_time(figure: Figure, tokens: list[int], quantities: list[Quantity]) -> None:
    name = "same latency"
    figure.add_trace(band(tokens, [q.low for q in quantities], [q.high for q in quantities], colour=_CURVE, group=name))
    figure.add_trace(
        go.Scatter(
            x=tokens,
            y=[q.value for q in quantities],
            mode="lines+markers",
            line={"color": _CURVE, "width": 2.5},
            marker={"size": 5},
            name=name,
            legendgroup=name,
            customdata=[tokens_interval(q) for q in quantities],
            hovertemplate="%{x} large tokens take as long<br>as %{customdata} small ones<extra></extra>",
        )
    )


def _mark_request(figure: Figure, result: BreakEven) -> None:
    crossing = result.break_even_output_tokens
    if crossing is None:
        return
    at = (float(result.large_output_tokens), crossing.value)
    text = f"{_count(result.large_output_tokens)} take as long as {tokens_interval(crossing)}"
    marker = _marker(text, at, LARGE, "diamond")
    marker.update(error_y=error_bars([crossing], colour=LARGE))
    figure.add_trace(marker)
    note(
        figure,
        tokens_interval(crossing),
        x=at[0],
        y=at[1],
        xanchor="right",
        yanchor="bottom",
        xshift=-6,
        yshift=16,
    )


def _name_regions(figure: Figure, result: BreakEven) -> None:
    if result.break_even_output_tokens is None:
        return
    for text, x, y, xanchor, yanchor in (
        ("large model faster", 0.02, 0.98, "left", "top"),
        ("small model faster", 0.98, 0.03, "right", "bottom"),
    ):
        figure.add_annotation(
            text=f"<i>{text}</i>",
            x=x,
            y=y,
            xref="paper",
            yref="paper",
            xanchor=xanchor,
            yanchor=yanchor,
            showarrow=False,
        )


def _add_line(figure: Figure, name: str, x: Sequence[float], y: Sequence[float], *, colour: str, dash: str) -> None:
    """Thin line for reference; without a name it is not in the legend."""
    figure.add_trace(
        go.Scatter(
            x=list(x),
            y=list(y),
            mode="lines",
            line={"color": colour, "dash": dash, "width": 1.5},
            name=name,
            showlegend=bool(name),
            hoverinfo="skip",
        )
    )


def _count(tokens: int) -> str:
    return "1 token" if tokens == 1 else f"{tokens} tokens"


def _marker(name: str, at: tuple[float, float], colour: str, symbol: str) -> Figure:
    return go.Scatter(
        x=[at[0]],
        y=[at[1]],
        mode="markers",
        marker={"color": colour, "size": 11, "symbol": symbol, "line": {"color": "#FFFFFF", "width": 1.5}},
        name=name,
        hovertemplate=f"{name}<extra></extra>",
    )


def _say(figure: Figure, text: str) -> None:
    figure.add_annotation(text=text, x=0.5, y=0.03, xref="paper", yref="paper", yanchor="bottom", showarrow=False)
