"""Figures from plain results: the one place that makes them, for files, the report and the page.

Every function takes a result as :mod:`costmodel` returns it, and gives a plotly figure. Plotly is imported
only when this package is.
"""

from __future__ import annotations

from costmodel.plots.breakdown import breakdown_figure
from costmodel.plots.breakeven import break_even_figure, latency_figure
from costmodel.plots.devices import devices_figure
from costmodel.plots.kernels import kernel_figure
from costmodel.plots.load import load_figure
from costmodel.plots.memory import memory_figure
from costmodel.plots.policy import pareto_figure, surface_figure
from costmodel.plots.roofline import roofline_figure
from costmodel.plots.theme import CONFIG, PAGE_CSS, Figure, write_figure
from costmodel.plots.validation import error_figure, parity_figure, parity_of_rows

__all__ = [
    "CONFIG",
    "PAGE_CSS",
    "Figure",
    "break_even_figure",
    "breakdown_figure",
    "devices_figure",
    "error_figure",
    "kernel_figure",
    "latency_figure",
    "load_figure",
    "memory_figure",
    "pareto_figure",
    "parity_figure",
    "parity_of_rows",
    "roofline_figure",
    "surface_figure",
    "write_figure",
]
