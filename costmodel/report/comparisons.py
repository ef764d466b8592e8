"""Sections that set things side by side: operators, devices, policies."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel import plots
from costmodel.plots.text import percent, seconds_interval, short_names
from costmodel.policy.results import PolicyChoice
from costmodel.predict import Prediction
from costmodel.report.markup import Html, element, table
from costmodel.report.page import FigureStore
from costmodel.roofline import Roofline
from costmodel.units import format_bytes

__all__ = ["device_section", "policy_section", "roofline_section"]


def roofline_section(rooflines: Sequence[Roofline], figures: FigureStore) -> Html:
    """Operators of stages under the ceilings of the device."""
    placed = (figures.place(plots.roofline_figure(each)) for each in rooflines)
    text = "Rates as predicted by the operator laws, without the host. The area of a mark is its share of the stage."
    return element(
        "section", element("h2", "Roofline"), element("p", text, class_="quiet"), element("div", *placed, class_="pair")
    )


def device_section(predictions: Sequence[Prediction], figures: FigureStore) -> Html:
    """The same request on several devices."""
    names = short_names(each.model for each in predictions)
    rows = [
        [
            each.hardware,
            names[each.model],
            seconds_interval(each.latency.total_s),
            seconds_interval(each.latency.ttft_s),
            format_bytes(each.memory.total_bytes),
            "yes" if each.memory.fits else "no",
        ]
        for each in predictions
    ]
    header = ["device", "model", "latency", "first token", "memory", "fits"]
    return element(
        "section",
        element("h2", "Other devices"),
        figures.place(plots.devices_figure(predictions)),
        table("The same request on each device", header, rows),
    )


def policy_section(choice: PolicyChoice, figures: FigureStore) -> Html:
    """What each policy costs and gets right."""
    rows = [
        [
            each.name,
            percent(each.accuracy.value),
            seconds_interval(each.latency.percentile_s),
            seconds_interval(each.latency.mean_s),
            "chosen" if each.name == choice.chosen else "on the front" if each.name in choice.pareto else "",
            each.summary,
        ]
        for each in sorted(choice.candidates, key=lambda each: each.latency.percentile_s.value)
    ]
    header = ["policy", "accuracy", f"p{choice.goal.percentile:g} latency", "mean latency", "standing", "what it does"]
    return element(
        "section",
        element("h2", "Policies"),
        figures.place(plots.pareto_figure(choice)),
        table(f"Every policy over {choice.items} recorded items", header, rows),
    )
