"""Figures of the experiment: accuracy against latency, and where the framework wins."""

from __future__ import annotations

from typing import Any

from plotly.subplots import make_subplots

from costmodel.plots.theme import GREY, LARGE, MODEL_COLOURS, SMALL, Figure, new_figure

__all__ = ["experiment_figure", "regime_figure"]

_TITLES = {"colour": "colours: both models can see them", "mark": "marks: the small model can't see half of them"}
_COLOURS = {"small": SMALL, "large": LARGE}
# Where a name stands beside its point, so that neighbours do not cover each other.
_PLACES = {
    "cascade": "bottom right",
    "escalate": "top right",
    "always-transfer": "top left",
    "mutual-verification": "bottom right",
    "self-consistency": "bottom left",
}


def experiment_figure(found: dict[str, list[dict[str, Any]]]) -> Figure:
    """Measured latency as a filled mark, the predicted one as an open mark joined to it."""
    plain = new_figure("", x="", y="", height=520)
    figure = make_subplots(rows=1, cols=len(found), subplot_titles=[_TITLES[kind] for kind in found])
    figure.update_layout(plain.layout.template.layout, font=plain.layout.font, showlegend=True, height=520)
    for column, rows in enumerate(found.values(), start=1):
        # A budget that no answer reached is the same policy as the reasoning itself.
        shown = [row for row in rows if row["routes"].get("within-budget", {"share": 0})["share"] < 1]
        for number, row in enumerate(shown):
            place = _PLACES.get(row["policy"], "bottom center")
            _add_point(figure, row, column=column, place=place, legend=not number and column == 1)
        # Room on the right for the name of the slowest.
        widest = 1250 * max(row["measured_mean_s"] for row in shown)
        figure.update_xaxes(title_text="latency of an item, mean (ms)", range=[0, widest], row=1, col=column)
        figure.update_xaxes(title_font={"size": 13}, row=1, col=column)
    figure.update_yaxes(title_text="accuracy (%)", row=1, col=1)
    figure.update_layout(
        plot_bgcolor="white",
        paper_bgcolor="white",
        legend={"orientation": "h", "y": -0.18},
        margin={"l": 60, "r": 30, "t": 50, "b": 90},
    )
    figure.update_xaxes(gridcolor="#E3E3E3", linecolor=GREY)
    figure.update_yaxes(gridcolor="#E3E3E3", linecolor=GREY)
    return figure


def _add_point(figure: Figure, row: dict[str, Any], *, column: int, place: str, legend: bool) -> None:
    import plotly.graph_objects as go

    role = row["policy"].partition("-")[0]
    colour = _COLOURS.get(role, MODEL_COLOURS[2])
    measured, predicted = 1000 * row["measured_mean_s"], 1000 * row["predicted_mean_s"]
    accuracy = 100 * row["accuracy"]
    error = {
        "type": "data",
        "array": [100 * (row["high"] - row["accuracy"])],
        "arrayminus": [100 * (row["accuracy"] - row["low"])],
        "color": colour,
        "thickness": 1,
        "width": 0,
    }
    line = go.Scatter(
        x=[measured, predicted], y=[accuracy] * 2, mode="lines", line={"color": colour, "width": 1}, showlegend=False
    )
    figure.add_trace(line, row=1, col=column)
    figure.add_trace(
        go.Scatter(
            x=[predicted],
            y=[accuracy],
            mode="markers",
            marker={"symbol": "circle-open", "color": colour, "size": 11},
            name="predicted",
            showlegend=legend,
        ),
        row=1,
        col=column,
    )
    figure.add_trace(
        go.Scatter(
            x=[measured],
            y=[accuracy],
            mode="markers+text",
            text=[row["policy"]],
            textposition=place,
            textfont={"size": 11, "color": colour},
            marker={"color": colour, "size": 8},
            error_y=error,
            name="measured",
            showlegend=legend,
        ),
        row=1,
        col=column,
    )


def regime_figure(cells: list[dict[str, Any]]) -> Figure:
    """Accuracy of the framework minus that of each rival, cell by cell, with intervals."""
    import plotly.graph_objects as go

    figure = new_figure("Mutual verification against its rivals", x="accuracy gained (points)", y="", height=620)
    names = [cell["name"] for cell in cells]
    rivals = (("small-reason", SMALL), ("large-short", LARGE), ("large-reason", MODEL_COLOURS[3]))
    for offset, (rival, colour) in enumerate(rivals):
        gaps = [cell["against"][rival] for cell in cells]
        figure.add_trace(
            go.Scatter(
                x=[100 * gap["value"] for gap in gaps],
                y=[index + 0.22 * (offset - 1) for index in range(len(cells))],
                mode="markers",
                name=f"against {rival}",
                marker={"color": colour, "size": 7},
                error_x={
                    "type": "data",
                    "array": [100 * (gap["high"] - gap["value"]) for gap in gaps],
                    "arrayminus": [100 * (gap["value"] - gap["low"]) for gap in gaps],
                    "thickness": 1,
                    "width": 0,
                },
            )
        )
    figure.update_yaxes(tickvals=list(range(len(cells))), ticktext=names, autorange="reversed")
    figure.add_vline(x=0, line={"color": GREY, "width": 1})
    figure.update_layout(height=90 + 34 * len(cells), margin={"l": 190})
    return figure
