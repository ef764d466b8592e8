"""The same request on several GPUs."""

from __future__ import annotations

from typing import Any

from dash import html

from costmodel import plots
from costmodel.errors import InputError
from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component, drawn, figure_slot, notes, table
from costmodel.explore.controls import choices
from costmodel.explore.results import Results
from costmodel.explore.state import State
from costmodel.explore.views.base import View, slots
from costmodel.plots.text import seconds_interval, short_names
from costmodel.predict import Prediction
from costmodel.units import format_bytes

__all__ = ["DEVICES"]


def _layout(catalogue: Catalogue) -> Component:
    compared = choices("devices", "GPUs beside the chosen one (up to 7)", catalogue.hardware_keys)
    parts = [figure_slot("side-by-side", wide=True), html.Div(id="device-table", className="panel wide")]
    return html.Div([compared, html.Div(id="device-notes"), html.Div(parts, className="grid")])


def _render(results: Results, state: State, token: str) -> tuple[Any, ...]:
    found, problems = results.across_devices(state)
    if not found:
        raise InputError("; ".join(problems))
    return *drawn(plots.devices_figure(found)), _table(found), notes(problems, "warning")


def _table(found: list[Prediction]) -> Component:
    names = short_names(each.model for each in found)
    rows = [
        (
            f"{each.hardware}: {names[each.model]}",
            seconds_interval(each.latency.total_s),
            seconds_interval(each.latency.ttft_s),
            seconds_interval(each.latency.tpot_s),
            format_bytes(each.memory.total_bytes),
            "yes" if each.memory.fits else "no",
            _tier(each),
        )
        for each in found
    ]
    header = ("device and model", "latency", "first token", "per token", "memory", "fits", "device laws from")
    return table("The same request on each device", header, rows)


def _tier(prediction: Prediction) -> str:
    tiers = set(prediction.sources.values()) & {"slices", "kernels", "datasheet"}
    return ", ".join(sorted(tiers)) or "engine"


DEVICES = View(
    "devices", _layout, (*slots("side-by-side"), ("device-table", "children"), ("device-notes", "children")), _render
)
