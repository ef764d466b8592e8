"""Draw the figures of docs/model.md from the shipped profiles; needs a Chrome or Chromium for kaleido.

Usage: python examples/explain.py docs/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import plotly.graph_objects as go

from costmodel import ImageSize, Workload, break_even, load_engine, load_hardware, load_model, predict
from costmodel.laws import law_named
from costmodel.ops import Gemm
from costmodel.plots import Figure, breakdown_figure, latency_figure
from costmodel.plots.theme import GREY, LARGE, SMALL, error_bars, new_figure
from costmodel.units import MICRO, MILLI

SMALL_MODEL, LARGE_MODEL = load_model("Qwen/Qwen3-VL-2B-Instruct"), load_model("Qwen/Qwen3-VL-8B-Instruct")
H100, VLLM = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
IMAGE = (ImageSize(width=1024, height=768),)


def request(output_tokens: int) -> Workload:
    """One image, a short prompt."""
    return Workload(images=IMAGE, prompt_tokens=100, output_tokens=output_tokens)


def stages() -> Figure:
    """A small model that reasons beside a large one that answers briefly."""
    reasoning = predict(SMALL_MODEL, H100, VLLM, request(400))
    brief = predict(LARGE_MODEL, H100, VLLM, request(32))
    return breakdown_figure([reasoning, brief])


def operator() -> Figure:
    """Time of one GEMM over its rows, between its two limits."""
    rows = np.geomspace(1, 8192, 60).round()
    fit, sheet = H100.laws["gemm/bf16"], H100.datasheet
    op = Gemm("gate and up", m=rows, n=24576.0, k=4096.0, dtype="bf16")
    figure = new_figure(
        "One operator: the MLP of a layer of the large model",
        x="rows: tokens computed together",
        y="time (µs)",
        height=420,
    )
    lines = {
        "the law, as fitted": (law_named(fit.law).time_s(op, fit.values, sheet), SMALL, "solid"),
        "reading the weights at the peak of the memory": (op.bytes / sheet.memory_bytes_per_s, GREY, "dash"),
        "multiplying at the peak of the datasheet": (op.flops / sheet.flops_per_s("bf16"), GREY, "dot"),
    }
    for name, (time_s, colour, dash) in lines.items():
        trace = go.Scatter(x=rows, y=np.asarray(time_s) / MICRO, name=name, line={"color": colour, "dash": dash})
        figure.add_trace(trace)
    figure.update_xaxes(type="log", dtick=1)
    figure.update_yaxes(type="log", dtick=1)
    return figure


def host() -> Figure:
    """Time of a token under an engine that keeps out of the way and under one that does not."""
    engines = {"vllm-0.7.2": VLLM, "hf-eager": load_engine("hf-eager")}
    figure = new_figure("One output token: the engine decides the ratio", x="", y="time a token (ms)", height=380)
    times = {
        key: [predict(model, H100, engine, request(200)).latency.tpot_s for model in (SMALL_MODEL, LARGE_MODEL)]
        for key, engine in engines.items()
    }
    ratios = {key: large.value / small.value for key, (small, large) in times.items()}
    for index, (model, colour) in enumerate(((SMALL_MODEL, SMALL), (LARGE_MODEL, LARGE))):
        figure.add_trace(
            go.Bar(
                x=[f"{key}: {ratios[key]:.1f} times" for key in times],
                y=[pair[index].value / MILLI for pair in times.values()],
                name=model.name,
                marker={"color": colour},
            )
        )
    figure.update_layout(barmode="group", bargap=0.4)
    return figure


def crossing() -> Figure:
    """Latency over output tokens, and where both models are equally fast."""
    return latency_figure(break_even(SMALL_MODEL, LARGE_MODEL, H100, VLLM, request(1), large_output_tokens=32))


def tiers() -> Figure:
    """The same request by tier: what a calibration does to the interval."""
    datasheet = H100.model_copy(update={"laws": {}})
    totals = {
        "datasheet only": predict(LARGE_MODEL, datasheet, VLLM, request(32)).latency,
        "kernels measured": predict(LARGE_MODEL, H100, VLLM, request(32)).latency,
    }
    figure = new_figure("The same prediction from two tiers", x="", y="decode (ms)", height=380)
    quantities = [latency.decode_s.model_copy(update=_scaled(latency.decode_s)) for latency in totals.values()]
    figure.add_trace(
        go.Scatter(
            x=list(totals),
            y=[quantity.value for quantity in quantities],
            error_y=error_bars(quantities, colour=SMALL),
            mode="markers",
            marker={"color": SMALL, "size": 11},
            showlegend=False,
        )
    )
    figure.update_yaxes(rangemode="tozero")
    figure.update_xaxes(range=[-0.7, 1.7])
    return figure


def _scaled(quantity: object) -> dict[str, float]:
    return {name: getattr(quantity, name) / MILLI for name in ("value", "low", "high")}


FIGURES = {"stages": stages, "operator": operator, "host": host, "crossing": crossing, "tiers": tiers}


def main(out: Path) -> None:
    """Write every figure."""
    out.mkdir(parents=True, exist_ok=True)
    for name, draw in FIGURES.items():
        figure = draw()
        height = max(figure.layout.height or 0, 360)
        figure.write_image(out / f"explained-{name}.svg", width=720, height=height)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
