"""Figures show the numbers of the results they were made from."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import report_samples as samples

from costmodel.errors import InputError
from costmodel.plots.text import (
    percent,
    prediction_names,
    probability,
    seconds_interval,
    short_names,
    tokens_interval,
)
from costmodel.quantity import Quantity

pytest.importorskip("plotly", reason="plotly is not installed (extra: plot)")

from costmodel import plots
from costmodel.plots.theme import LARGE, MODEL_COLOURS, SMALL, STAGE_COLOURS, time_ticks

STAGES = ("preprocess", "encode", "prefill", "decode")
HOSTILE = "<a href='https://example.org'>x</a>%{y}"


def trace(figure: Any, name: str) -> Any:
    (found,) = [item for item in figure.data if item.name == name]
    return found


def texts(figure: Any) -> list[str]:
    return [annotation.text for annotation in figure.layout.annotations]


def all_figures() -> Iterator[Any]:
    yield plots.latency_figure(samples.crossing())
    yield plots.latency_figure(samples.crossing(small_output_tokens=None))
    yield plots.latency_figure(samples.no_crossing())
    yield plots.break_even_figure(samples.crossing())
    yield plots.break_even_figure(samples.no_crossing())
    yield plots.breakdown_figure(samples.predictions())
    yield plots.parity_figure(samples.validation())
    yield plots.error_figure(samples.validation())


def test_latency_curves_are_the_results() -> None:
    result = samples.crossing()
    figure = plots.latency_figure(result)
    lengths = [point.output_tokens for point in result.latencies]
    for side, name, colour in (
        ("small_s", "Qwen3-VL-2B-Instruct", SMALL),
        ("large_s", "Qwen3-VL-8B-Instruct", LARGE),
    ):
        quantities = [getattr(point, side) for point in result.latencies]
        line, area = trace(figure, name), trace(figure, f"{name} interval")
        assert list(line.x) == lengths
        assert list(line.y) == [q.value for q in quantities]
        assert line.line.color == colour
        assert list(area.x) == [*lengths, *lengths[::-1]]
        assert list(area.y) == [q.low for q in quantities] + [q.high for q in quantities][::-1]


def test_the_crossing_is_marked_where_it_is() -> None:
    result = samples.crossing()
    crossing = result.break_even_output_tokens
    assert crossing is not None
    text = f"break-even: {crossing.value:.0f} tokens [{crossing.low:.0f}, {crossing.high:.0f}]"
    figure = plots.latency_figure(result)
    marker = trace(figure, text)
    assert texts(figure) == [text]
    assert (marker.x[0], marker.y[0]) == (crossing.value, result.large_s.value)
    assert marker.x[0] + marker.error_x.array[0] == pytest.approx(crossing.high)
    assert marker.x[0] - marker.error_x.arrayminus[0] == pytest.approx(crossing.low)
    assert figure.layout.annotations[0].x == crossing.value


def test_the_crossing_is_on_the_curve_of_the_small_model() -> None:
    result = samples.crossing()
    assert result.break_even_output_tokens is not None
    at = result.break_even_output_tokens.value
    line = trace(plots.latency_figure(result), "Qwen3-VL-2B-Instruct")
    assert np.interp(at, line.x, line.y) == pytest.approx(result.large_s.value, rel=1e-3)


def test_both_answer_lengths_are_marked() -> None:
    result = samples.crossing()
    figure = plots.latency_figure(result)
    large = trace(figure, "large: 20 tokens")
    assert (large.x[0], large.y[0]) == (20, result.large_s.value)
    (small,) = [item for item in figure.data if (item.name or "").startswith("small: 200 tokens")]
    assert list(small.x) == [200, 200]
    assert "large faster: &gt; 99 %" in small.name


def test_the_view_holds_the_marks() -> None:
    for result in (samples.crossing(), samples.crossing(small_output_tokens=None)):
        crossing = result.break_even_output_tokens
        assert crossing is not None
        layout = plots.latency_figure(result).layout
        assert layout.xaxis.range[1] >= max(crossing.high, result.small_output_tokens or 1)
        assert layout.yaxis.range[1] > result.large_s.value


def test_without_a_crossing_the_figures_say_so() -> None:
    result = samples.no_crossing()
    assert result.break_even_output_tokens is None
    assert texts(plots.latency_figure(result)) == ["no break-even: the small model is slower even with one token"]
    figure = plots.break_even_figure(result)
    assert texts(figure) == ["the small model is slower at every length"]
    assert [item.name for item in figure.data] == ["same length"]


def test_break_even_curve_is_the_result() -> None:
    result = samples.crossing()
    figure = plots.break_even_figure(result)
    line, area = trace(figure, "same latency"), trace(figure, "same latency interval")
    quantities = [point.small_output_tokens for point in result.curve if point.small_output_tokens]
    assert list(line.x) == [point.large_output_tokens for point in result.curve]
    assert list(line.y) == [q.value for q in quantities]
    assert list(area.y) == [q.low for q in quantities] + [q.high for q in quantities][::-1]
    diagonal = trace(figure, "same length")
    assert list(diagonal.x) == list(diagonal.y)


def test_break_even_leaves_out_lengths_without_one() -> None:
    result = samples.crossing()
    first = result.curve[0].model_copy(update={"small_output_tokens": None})
    figure = plots.break_even_figure(result.model_copy(update={"curve": (first, *result.curve[1:])}))
    assert list(trace(figure, "same latency").x) == [p.large_output_tokens for p in result.curve[1:]]


def test_breakdown_stacks_the_stages_to_the_total() -> None:
    predictions = samples.predictions()
    figure = plots.breakdown_figure(predictions)
    bars = {item.name: item for item in figure.data if item.type == "bar"}
    assert tuple(bars) == STAGES
    for stage, bar in bars.items():
        assert list(bar.x) == [getattr(p.latency, f"{stage}_s").value for p in predictions]
    total = trace(figure, "total, with interval")
    for index, prediction in enumerate(predictions):
        quantity = prediction.latency.total_s
        assert sum(bar.x[index] for bar in bars.values()) == pytest.approx(quantity.value)
        assert total.x[index] == quantity.value
        assert total.x[index] + total.error_x.array[index] == pytest.approx(quantity.high)
        assert total.x[index] - total.error_x.arrayminus[index] == pytest.approx(quantity.low)


def test_breakdown_tells_configurations_of_one_model_apart() -> None:
    first = samples.predictions()[0]
    other = first.model_copy(update={"hardware": "a100-sxm-80gb"})
    first_text, other_text = texts(plots.breakdown_figure([first, other]))
    assert "h100-sxm" in first_text
    assert "a100-sxm-80gb" in other_text


def test_parity_shows_every_row_once() -> None:
    validation = samples.validation()
    figure = plots.parity_figure(validation)
    shown = sorted(
        (x, y) for item in figure.data if item.customdata is not None for x, y in zip(item.x, item.y, strict=True)
    )
    assert shown == sorted((row.measured_s, row.predicted.value) for row in validation.rows)
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert figure.layout.xaxis.range == figure.layout.yaxis.range


def test_parity_marks_stage_model_case_and_interval() -> None:
    validation = samples.validation()
    figure = plots.parity_figure(validation)
    rows = [row for row in validation.rows if (row.stage, row.model) == ("encode", samples.LARGE)]
    points = trace(figure, f"{samples.LARGE} encode")
    assert (points.marker.symbol, points.marker.color) == ("square", MODEL_COLOURS[1])
    for row, y, up, text in zip(rows, points.y, points.error_y.array, points.customdata, strict=True):
        assert y + up == pytest.approx(row.predicted.high)
        assert row.case_id in text


def test_the_band_is_ten_percent_either_way() -> None:
    area = trace(plots.parity_figure(samples.validation()), "±10 %")
    ratios = [y / x for x, y in zip(area.x, area.y, strict=True)]
    assert ratios == pytest.approx([0.9, 0.9, 1.1, 1.1])


def test_errors_and_noise_floor_are_the_results() -> None:
    validation = samples.validation()
    figure = plots.error_figure(validation)
    stages = list(figure.layout.xaxis.ticktext)
    for stage in stages:
        rows = [row for row in validation.rows if (row.stage, row.model) == (stage, samples.SMALL)]
        points = trace(figure, f"{samples.SMALL} {stage}")
        assert list(points.y) == [100 * row.error for row in rows]
        assert all(abs(x - stages.index(stage)) < 0.5 for x in points.x)
    floor = trace(figure, "noise floor of the runs")
    for score, base, height in zip(validation.stages, floor.base, floor.y, strict=True):
        assert (base, base + height) == pytest.approx((-100 * score.noise_floor, 100 * score.noise_floor))
    limits = [y for y in trace(figure, "limit of the mean").y if y is not None]
    assert set(limits) == {s * 100 * v.limit for v in validation.stages if v.limit for s in (1, -1)}


def test_a_validation_without_rows_gives_empty_figures() -> None:
    empty = samples.validation().model_copy(update={"rows": (), "stages": ()})
    assert not [item for item in plots.parity_figure(empty).data if item.customdata is not None]
    assert list(plots.error_figure(empty).layout.xaxis.ticktext) == []


def test_names_are_shown_literally() -> None:
    result = samples.crossing().model_copy(update={"small": HOSTILE})
    predictions = [p.model_copy(update={"model": HOSTILE}) for p in samples.predictions()[:1]]
    validation = samples.validation()
    rows = tuple(row.model_copy(update={"model": HOSTILE, "case_id": HOSTILE}) for row in validation.rows)
    validation = validation.model_copy(update={"rows": rows})
    for figure in (
        plots.latency_figure(result),
        plots.break_even_figure(result),
        plots.breakdown_figure(predictions),
        plots.parity_figure(validation),
        plots.error_figure(validation),
    ):
        assert "<a" not in figure.to_json().replace("\\u003c", "<")
        assert not [item for item in figure.data if "%{y}" in (item.hovertemplate or "")]


def test_axes_carry_units_and_figures_are_plain_json() -> None:
    for figure in all_figures():
        content = json.loads(figure.to_json())
        assert content["layout"]["title"]["text"]
        assert content["layout"]["height"] > 200
    latency = plots.latency_figure(samples.crossing()).layout
    assert (latency.xaxis.title.text, latency.yaxis.title.text) == ("output tokens", "latency (s)")
    assert plots.breakdown_figure(samples.predictions()).layout.xaxis.title.text == "time (s)"
    assert "%" in plots.error_figure(samples.validation()).layout.yaxis.title.text


def test_colours_differ_and_none_is_lost_on_a_white_or_a_dark_page() -> None:
    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    palette = [*MODEL_COLOURS, *STAGE_COLOURS.values()]
    assert len(set(MODEL_COLOURS)) == len(MODEL_COLOURS)
    assert len(set(STAGE_COLOURS.values())) == len(STAGE_COLOURS)
    for colour in palette:
        assert 1.05 / (luminance(colour) + 0.05) > 1.9
        assert (luminance(colour) + 0.05) / (luminance("#14161A") + 0.05) > 3


@pytest.mark.parametrize(("low", "high"), [(0.02, 0.09), (0.004, 2.0), (0.00003, 40.0)])
def test_time_ticks_are_inside_and_labelled_with_their_unit(low: float, high: float) -> None:
    values, labels = time_ticks(low, high)
    assert 2 <= len(values) <= 8
    assert all(low <= value <= high for value in values)
    assert all(text.endswith("s") for text in labels)
    assert values == sorted(values)


def test_an_interval_is_written_in_one_unit() -> None:
    assert seconds_interval(Quantity(value=0.62, low=0.51, high=0.75)) == "620 ms [510, 750]"
    assert seconds_interval(Quantity(value=0.95, low=0.86, high=1.05)) == "0.95 s [0.86, 1.05]"
    assert seconds_interval(Quantity(value=0.0, low=0.0, high=0.0)) == "0 s"
    assert seconds_interval(Quantity(value=4e-5, low=3e-5, high=5e-5)) == "40 µs [30, 50]"
    assert tokens_interval(Quantity(value=47.3, low=40.6, high=55.2)) == "47 tokens [41, 55]"
    assert tokens_interval(Quantity(value=5.55, low=4.61, high=6.49)) == "5.5 tokens [4.6, 6.5]"


def test_shares_and_probabilities() -> None:
    assert (percent(0.0731), percent(-0.12, signed=True), percent(0.0)) == ("7.3 %", "-12 %", "0.0 %")
    assert (probability(1.0), probability(0.73), probability(0.0)) == ("> 99 %", "73 %", "< 1 %")


def test_names_are_short_only_while_they_stay_apart() -> None:
    assert short_names(["a/x", "a/y"]) == {"a/x": "x", "a/y": "y"}
    assert short_names(["a/x", "b/x"]) == {"a/x": "a/x", "b/x": "b/x"}
    assert len(short_names(["n" * 500])["n" * 500]) < 50
    assert prediction_names(samples.predictions()) == ["Qwen3-VL-2B-Instruct", "Qwen3-VL-8B-Instruct"]


def test_predicting_does_not_load_plotly() -> None:
    code = "import sys, costmodel, costmodel.predict, costmodel.cli; print('plotly' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_quantity_shown_is_finite() -> None:
    for figure in all_figures():
        for item in figure.data:
            values = [value for value in (*item.x, *item.y) if value is not None]
            assert all(math.isfinite(value) for value in values)


def test_kernel_figure_shows_the_ratio_of_every_operator(tmp_path: Path) -> None:
    points = {f"op{index}": ([1e-5, 1e-3], [1.1e-5, 0.9e-3]) for index in range(8)}
    figure = plots.kernel_figure("kernels", points)
    assert [trace.name for trace in figure.data] == list(points)
    for trace in figure.data:
        np.testing.assert_allclose(trace.y, [1.1, 0.9])
    looks = {(trace.marker.color, trace.marker.symbol) for trace in figure.data}
    assert len(looks) == len(points)
    plots.write_figure(tmp_path / "kernels.html", figure)
    assert "<script" in (tmp_path / "kernels.html").read_text()
    with pytest.raises(InputError, match=r"expected \.html, \.png"):
        plots.write_figure(tmp_path / "kernels.txt", figure)
