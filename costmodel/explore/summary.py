"""The headline of the page: a sentence or two, and four figures."""

from __future__ import annotations

import html as markup

from dash import html

from costmodel.errors import CostModelError
from costmodel.explore.components import Component, in_words
from costmodel.explore.results import Results
from costmodel.explore.state import State, parse_query
from costmodel.plots.text import seconds_interval, short_names, tokens_interval
from costmodel.predict import Prediction
from costmodel.units import format_bytes, format_seconds
from costmodel.words import break_even_words, emphasised

__all__ = ["cards", "first_paint", "headline"]


def headline(results: Results, state: State) -> list[Component]:
    """Which model is faster, in words."""
    return in_words(break_even_words(results.break_even(state)))


def first_paint(results: Results, query: str) -> str:
    """Headline as markup, for the moment before the scripts have run."""
    try:
        lines = break_even_words(results.break_even(parse_query(query, results.catalogue)[0]))
    except CostModelError as error:
        lines = [f"No prediction: {error}."]
    parts = (
        (
            (f"<strong>{markup.escape(text)}</strong>" if strong else markup.escape(text))
            for text, strong in emphasised(line)
        )
        for line in lines
    )
    sentences = "".join(f"<p>{''.join(line)}</p>" for line in parts)
    return _FIRST.replace("HEADLINE", sentences)


_FIRST = """
<div class="page"><header class="bar"><h1>costmodel explore</h1></header>
<div class="shell"><aside class="sidebar"></aside><main><div class="headline">HEADLINE</div>
<p class="quiet">The figures are being drawn.</p><noscript><p>They need JavaScript.</p></noscript></main></div></div>
"""


def cards(results: Results, state: State) -> list[Component]:
    """Latency of both models, the crossing, and memory."""
    both = results.predictions(state)
    crossing = results.break_even(state).break_even_output_tokens
    names = short_names(each.model for each in both)
    latencies = [
        _card(kind, names[each.model], _interval(each), f"first token {format_seconds(each.latency.ttft_s.value)}")
        for kind, each in zip(("small", "large"), both, strict=True)
    ]
    if crossing is None:
        even = _card("even", "Break-even", "none", "the small model is always slower")
    else:
        text = tokens_interval(crossing)
        even = _card("even", "Break-even", text, f"of the small model for {state.large_output} of the large one")
    return [*latencies, even, _memory(both)]


def _interval(prediction: Prediction) -> str:
    return seconds_interval(prediction.latency.total_s)


def _memory(both: tuple[Prediction, ...]) -> Component:
    sizes = [each.memory.total_bytes for each in both]
    capacity = both[0].memory.capacity_bytes
    too_large = [short_names([each.model])[each.model] for each in both if not each.memory.fits]
    if too_large:
        verdict = f"does not fit: {', '.join(too_large)}"
    elif sum(sizes) <= capacity:
        verdict = f"both fit together in {format_bytes(capacity)}"
    else:
        verdict = f"each fits alone in {format_bytes(capacity)}"
    return _card("bad" if too_large else "memory", "Memory of both", format_bytes(sum(sizes)), verdict)


def _card(kind: str, title: str, value: str, note: str) -> Component:
    """Value large, its interval small."""
    number, _, rest = value.partition(" [")
    parts = [html.Span(number, className="value")]
    if rest:
        parts.append(html.Span(f" [{rest}", className="interval"))
    return html.Div(
        [html.Div(title, className="card-title"), html.Div(parts), html.Div(note, className="quiet")],
        className=f"card {kind}",
    )
