"""Policies: what each costs and gets right, and where one way of answering is the faster one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import plotly.graph_objects as go

from costmodel.plots.text import percent, seconds_interval, short_names
from costmodel.plots.theme import (
    GREY,
    LARGE,
    MODEL_COLOURS,
    SMALL,
    Figure,
    label,
    new_figure,
    note,
    time_ticks,
    translucent,
)
from costmodel.policy.results import Candidate, PolicyChoice
from costmodel.policy.surfaces import Surface
from costmodel.quantity import Quantity
from costmodel.units import format_seconds

__all__ = ["pareto_figure", "surface_figure"]

_CHOSEN = MODEL_COLOURS[2]
_UNCERTAIN = (0.05, 0.95)
_MOST_DOUBLINGS = 3

# Size of a figure that labels are laid out for, of a letter, and of a mark, in pixels; directions tried for a label.
_WIDTH, _HEIGHT, _LETTER, _LINE, _MARK = 760, 420, 6.2, 14, 8
_SIDES = tuple((side, sign * rise) for rise in (9, 30, 50, 70, 90) for side in ("left", "right") for sign in (1, -1))
_FAR = 3.0


def pareto_figure(choice: PolicyChoice) -> Figure:
    """Accuracy against latency of every candidate with intervals, the front, the goal and what was chosen."""
    goal = choice.goal
    figure = new_figure(
        "Accuracy against latency of the policies",
        x=f"latency, p{goal.percentile:g} over items",
        y="accuracy (%)",
        height=520,
    )
    front = [each for name in choice.pareto for each in choice.candidates if each.name == name]
    rest = [each for each in choice.candidates if each.name not in choice.pareto]
    _add_front(figure, front)
    groups = (
        ("beaten by another policy", rest, GREY, "circle-open"),
        ("on the Pareto front", [each for each in front if each.name != choice.chosen], SMALL, "circle"),
        ("chosen", [each for each in front + rest if each.name == choice.chosen], _CHOSEN, "star"),
    )
    for name, members, colour, symbol in groups:
        if members:
            _add_points(figure, name, members, colour=colour, symbol=symbol)
    low = min(each.latency.percentile_s.low for each in choice.candidates) / 1.3
    high = max(each.latency.percentile_s.high for each in choice.candidates) * 1.8
    bottom = 100 * min(each.accuracy.low for each in choice.candidates) - 4
    _name_points(figure, choice, x=(math.log10(low), math.log10(high)), y=(bottom, 104))
    _draw_goal(figure, choice)
    values, texts = time_ticks(low, high)
    figure.update_xaxes(type="log", range=[math.log10(low), math.log10(high)], tickvals=values, ticktext=texts)
    figure.update_yaxes(range=[bottom, 104])
    return figure


def _add_front(figure: Figure, front: Sequence[Candidate]) -> None:
    figure.add_trace(
        go.Scatter(
            x=[each.latency.percentile_s.value for each in front],
            y=[100 * each.accuracy.value for each in front],
            mode="lines",
            line={"color": SMALL, "width": 1.5, "shape": "hv", "dash": "dot"},
            hoverinfo="skip",
            showlegend=False,
        )
    )


def _add_points(figure: Figure, name: str, members: Sequence[Candidate], *, colour: str, symbol: str) -> None:
    latencies = [each.latency.percentile_s for each in members]
    accuracies = [_percent(each.accuracy) for each in members]
    figure.add_trace(
        go.Scatter(
            x=[quantity.value for quantity in latencies],
            y=[quantity.value for quantity in accuracies],
            error_x=_bars(latencies, colour),
            error_y=_bars(accuracies, colour),
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 15 if symbol == "star" else 9, "line": {"width": 1.5}},
            name=name,
            customdata=[
                (
                    label(each.name),
                    seconds_interval(each.latency.percentile_s),
                    percent(each.accuracy.value),
                    each.reason,
                )
                for each in members
            ],
            hovertemplate=f"{'<br>'.join(f'%{{customdata[{i}]}}' for i in range(4))}<extra></extra>",
        )
    )


def _bars(quantities: Sequence[Quantity], colour: str) -> dict[str, object]:
    """Thin error bars: a dozen of them cross each other."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [q.high - q.value for q in quantities],
        "arrayminus": [q.value - q.low for q in quantities],
        "color": translucent(colour, 0.55),
        "thickness": 1.2,
        "width": 2,
    }


def _percent(share: Quantity) -> Quantity:
    return Quantity(value=100 * share.value, low=100 * share.low, high=100 * share.high)


def _name_points(figure: Figure, choice: PolicyChoice, *, x: tuple[float, float], y: tuple[float, float]) -> None:
    """Put each name beside its point, on the side where it covers least of what is there already."""
    points = {each.name: _pixels(each, x, y) for each in choice.candidates}
    taken = [_box(at, "", _SIDES[0]) for at in points.values()]
    if choice.goal.budget_s is not None:
        line = (math.log10(choice.goal.budget_s) - x[0]) / (x[1] - x[0]) * _WIDTH
        taken.append((line - _MARK, 0, line + _MARK, _HEIGHT))
    names = []
    first = sorted(choice.candidates, key=lambda each: (each.name != choice.chosen, each.name not in choice.pareto))
    for each in first:
        boxes = [_box(points[each.name], each.name, side) for side in _SIDES]
        covered = [
            sum(_overlap(box, other) for other in taken) + _outside(box) + _FAR * abs(rise)
            for box, (_, rise) in zip(boxes, _SIDES, strict=True)
        ]
        best = covered.index(min(covered))
        taken.append(boxes[best])
        standing = {"chosen": each.name == choice.chosen, "front": each.name in choice.pareto}
        names.append(_point_name(each, _SIDES[best], **standing))
    # All at once: plotly checks those there are with every one that is added.
    figure.update_layout(annotations=names)


def _point_name(each: Candidate, side: tuple[str, int], *, chosen: bool, front: bool) -> dict[str, object]:
    """Annotation with the name beside a point, and a thin line to it where it is farther away."""
    xanchor, rise = side
    return {
        "x": math.log10(each.latency.percentile_s.value),
        "y": 100 * each.accuracy.value,
        "text": f"<b>{label(each.name)}</b>" if chosen else label(each.name),
        "font": {"size": 12 if front else 10},
        "showarrow": True,
        "arrowhead": 0,
        "arrowwidth": 0.8 if abs(rise) > _LINE else 0.1,
        "arrowcolor": translucent(GREY, 0.8 if abs(rise) > _LINE else 0.0),
        "ax": _MARK if xanchor == "left" else -_MARK,
        "ay": -rise,
        "xanchor": xanchor,
        "yanchor": "middle",
        "standoff": 4,
    }


Box = tuple[float, float, float, float]


def _pixels(each: Candidate, x: tuple[float, float], y: tuple[float, float]) -> tuple[float, float]:
    across = (math.log10(each.latency.percentile_s.value) - x[0]) / (x[1] - x[0])
    up = (100 * each.accuracy.value - y[0]) / (y[1] - y[0])
    return across * _WIDTH, up * _HEIGHT


def _box(at: tuple[float, float], text: str, side: tuple[str, int]) -> Box:
    """Left, bottom, right and top of a label beside a point; of the mark alone where there is no text."""
    if not text:
        return at[0] - _MARK, at[1] - _MARK, at[0] + _MARK, at[1] + _MARK
    width = _LETTER * len(text)
    left = at[0] + _MARK if side[0] == "left" else at[0] - _MARK - width
    middle = at[1] + side[1]
    return left, middle - _LINE / 2, left + width, middle + _LINE / 2


def _overlap(one: Box, other: Box) -> float:
    across = min(one[2], other[2]) - max(one[0], other[0])
    up = min(one[3], other[3]) - max(one[1], other[1])
    return max(across, 0.0) * max(up, 0.0)


def _outside(box: Box) -> float:
    return _LINE * (max(-box[0], 0.0) + max(box[2] - _WIDTH, 0.0))


def _draw_goal(figure: Figure, choice: PolicyChoice) -> None:
    goal = choice.goal
    if goal.budget_s is not None:
        figure.add_vline(x=goal.budget_s, line={"color": LARGE, "width": 1.5, "dash": "dash"})
        text = f"budget {format_seconds(goal.budget_s)}"
        note(
            figure, text, x=math.log10(goal.budget_s), y=0.01, yref="paper", xanchor="left", yanchor="bottom", xshift=4
        )
    if goal.min_accuracy is not None:
        figure.add_hline(y=100 * goal.min_accuracy, line={"color": LARGE, "width": 1.5, "dash": "dash"})
        text = f"floor {percent(goal.min_accuracy)}"
        note(figure, text, x=0.01, xref="paper", y=100 * goal.min_accuracy, xanchor="left", yanchor="bottom")


def surface_figure(surface: Surface) -> Figure:
    """Ratio of two latencies as colour, their break-even as a line, and where it can't be told which is faster."""
    names = short_names((surface.first, surface.second))
    first, second = (label(names[name]) for name in (surface.first, surface.second))
    figure = new_figure(surface.title, x=surface.x_label, y=surface.y_label, height=480)
    figure.add_trace(_ratios(surface, first, second))
    for share in _UNCERTAIN:
        figure.add_trace(_line(surface, _probits(surface), NormalDist().inv_cdf(share), dash="dot", width=1.5))
    figure.add_trace(_line(surface, _doublings(surface), 0.0, dash="solid", width=3))
    figure.update_xaxes(range=[min(surface.x), max(surface.x)], constrain="domain")
    figure.update_yaxes(range=[min(surface.y), max(surface.y)])
    _name_sides(figure, surface, first, second)
    _explain_lines(figure)
    return figure


def _doublings(surface: Surface) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(math.log2(value) for value in row) for row in surface.ratio)


def _probits(surface: Surface) -> tuple[tuple[float, ...], ...]:
    """Probability in standard deviations: smooth where the probability itself jumps between two grid points."""
    nearest = 1e-15
    law = NormalDist()
    return tuple(
        tuple(law.inv_cdf(min(max(value, nearest), 1 - nearest)) for value in row) for row in surface.probability
    )


def _ratios(surface: Surface, first: str, second: str) -> Figure:
    farthest = max(abs(value) for row in _doublings(surface) for value in row)
    most = min(max(math.ceil(farthest), 1), _MOST_DOUBLINGS)
    ticks = range(-most, most + 1)
    return go.Heatmap(
        x=surface.x,
        y=surface.y,
        z=_doublings(surface),
        zmin=-most,
        zmax=most,
        zsmooth="best",
        colorscale=[[0, LARGE], [0.5, "#F7F7F7"], [1, SMALL]],
        colorbar={
            "title": {"text": f"time of {first} / {second}", "side": "right", "font": {"size": 12}},
            "tickvals": list(ticks),
            "ticktext": [f"1/{2**-i}" if i < 0 else f"{2**i}" for i in ticks],
            "thickness": 14,
        },
        customdata=[list(zip(*rows, strict=True)) for rows in zip(surface.ratio, surface.probability, strict=True)],
        hovertemplate="x %{x}, y %{y}<br>time ratio %{customdata[0]:.2f}<br>faster with probability "
        "%{customdata[1]:.0%}<extra></extra>",
    )


def _line(surface: Surface, z: Sequence[Sequence[float]], level: float, *, dash: str, width: float) -> Figure:
    return go.Contour(
        x=surface.x,
        y=surface.y,
        z=z,
        contours={"start": level, "end": level, "size": 1, "coloring": "none"},
        line={"color": "#222222", "width": width, "dash": dash},
        showscale=False,
        hoverinfo="skip",
        showlegend=False,
    )


def _name_sides(figure: Figure, surface: Surface, first: str, second: str) -> None:
    """Names where each is clearly the faster one."""
    for name, wanted in ((first, 1.0), (second, 0.0)):
        place = _clearest(surface, wanted)
        if place is not None:
            share = (place[0] - min(surface.x)) / (max(surface.x) - min(surface.x))
            anchor = "left" if share < 0.25 else "right" if share > 0.75 else "center"
            note(figure, f"{name}<br>faster", x=place[0], y=place[1], xanchor=anchor)


def _clearest(surface: Surface, wanted: float) -> tuple[float, float] | None:
    """Middle of the clearer half of one side; nothing where there is no such side."""
    inside = [
        (x, y, abs(doublings))
        for y, row, shares in zip(surface.y, _doublings(surface), surface.probability, strict=True)
        for x, doublings, share in zip(surface.x, row, shares, strict=True)
        if abs(share - wanted) < _UNCERTAIN[0]
    ]
    if not inside:
        return None
    middle = sorted(clear for _, _, clear in inside)[len(inside) // 2]
    clear = [(x, y) for x, y, far in inside if far >= middle]
    centre = (sum(x for x, _ in clear) / len(clear), sum(y for _, y in clear) / len(clear))
    spans = (max(surface.x) - min(surface.x), max(surface.y) - min(surface.y))
    return min(clear, key=lambda at: sum(((a - c) / s) ** 2 for a, c, s in zip(at, centre, spans, strict=True)))


def _explain_lines(figure: Figure) -> None:
    for name, dash, width in (("equally fast", "solid", 3), ("between: can't be told (5 to 95 %)", "dot", 1.5)):
        # In the figure they lie on colours, in the legend on the page, which may be dark.
        line = {"color": GREY, "dash": dash, "width": width}
        figure.add_trace(go.Scatter(x=[None], y=[None], mode="lines", line=line, name=name))
