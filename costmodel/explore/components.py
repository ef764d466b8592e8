"""Small pieces of the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

from dash import dcc, html

from costmodel.plots.theme import CONFIG, Figure, captioned
from costmodel.words import emphasised

__all__ = ["Component", "drawn", "figure_slot", "folded", "in_words", "notes", "sentence", "table"]

Component: TypeAlias = Any
"""A Dash component; Dash has no types."""


def figure_slot(name: str, *, wide: bool = False) -> Component:
    """Place of a figure, with its title as a caption; filled by the outputs ``NAME-title`` and ``NAME``."""
    graph = dcc.Graph(id=name, figure={"data": [], "layout": {}}, config=CONFIG, className="graph")
    caption = html.Figcaption("", id=f"{name}-title")
    return html.Figure([caption, graph], className="panel wide" if wide else "panel")


def drawn(figure: Figure) -> tuple[str, dict[str, Any]]:
    """Title and figure, as the two outputs of a slot."""
    title, content = captioned(figure)
    return title, content


def sentence(text: str) -> list[Component]:
    """Sentence of :mod:`costmodel.words`."""
    return [html.Strong(part) if strong else part for part, strong in emphasised(text)]


def in_words(lines: Iterable[str]) -> list[Component]:
    """Sentences as paragraphs."""
    return [html.P(sentence(line)) for line in lines]


def notes(lines: Iterable[str], kind: str) -> list[Component]:
    """Short lines that a reader should see first."""
    return [html.P(line, className=f"note {kind}") for line in lines]


def folded(summary: str, lines: Sequence[str]) -> list[Component]:
    """Lines that open on demand; nothing where there are none."""
    if not lines:
        return []
    return [html.Details([html.Summary(summary), html.Ul([html.Li(line) for line in lines])], className="note warning")]


def table(caption: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Component:
    """Table whose first column names the row; it scrolls by itself on a narrow screen."""
    head = html.Thead(html.Tr([html.Th(text, scope="col") for text in header]))
    body = [html.Tr([html.Th(row[0], scope="row"), *(html.Td(cell) for cell in row[1:])]) for row in rows]
    content = html.Table([html.Caption(caption), head, html.Tbody(body)])
    return html.Div(content, className="scroll", tabIndex=0, role="region", **{"aria-label": caption})
