"""Sections about results: the headline, predictions, break-even, and the check against real runs."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel import plots
from costmodel.breakeven import BreakEven
from costmodel.plots.text import (
    percent,
    prediction_names,
    seconds_interval,
    short_names,
    tokens_interval,
)
from costmodel.policy.surfaces import Surface
from costmodel.predict import Prediction
from costmodel.report.markup import Html, bullets, element, folded, join, marked, table
from costmodel.report.page import FigureStore
from costmodel.units import format_bytes, format_seconds
from costmodel.validation import StageScore, Validation
from costmodel.words import bound_words, break_even_words, prediction_words

__all__ = ["break_even_section", "headline", "prediction_section", "validation_section"]

_STAGES = {
    "preprocess": "preprocess",
    "encode": "encode",
    "prefill": "prefill",
    "decode": "decode",
    "total": "total",
    "ttft": "until the first token",
    "tpot": "per output token",
}
_SCORE_HEADER = (
    *("stage", "cases", "mean", "limit", "noise floor"),
    *("median", "90th percentile", "bias", "coverage", "half-width"),
)
_BOUND_WORDS = {"none": "nothing"}


def headline(
    predictions: Sequence[Prediction], break_even: BreakEven | None, validation: Validation | None
) -> Html | None:
    """Say what to remember, in sentences."""
    lines: list[Html] = []
    if break_even is not None:
        lines += [marked(line) for line in break_even_words(break_even)]
    else:
        lines += [marked(prediction_words(prediction)) for prediction in predictions]
    if validation is not None:
        lines.append(_verdict_words(validation))
    return element("div", *(element("p", line) for line in lines), class_="headline") if lines else None


def prediction_section(predictions: Sequence[Prediction], figures: FigureStore) -> Html:
    """Stages of every prediction, what bounds them, and the memory they need."""
    models = prediction_names(predictions)
    rows = [
        [title, *(seconds_interval(getattr(p.latency, f"{stage}_s")) for p in predictions)]
        for stage, title in _STAGES.items()
    ]
    rows += [
        [f"{stage} is bound by", *(_BOUND_WORDS.get(p.bound[stage], p.bound[stage]) for p in predictions)]
        for stage in ("encode", "prefill", "decode")
        if all(stage in p.bound for p in predictions)
    ]
    shown = predictions[0].interval
    of_stages = "Time of each stage" if shown is None else f"Time of each stage with its {percent(shown)} interval"
    return element(
        "section",
        element("h2", "Predicted latency"),
        element(
            "div",
            figures.place(plots.breakdown_figure(predictions)),
            figures.place(plots.memory_figure(predictions)),
            class_="pair",
        ),
        element("h3", "What bounds it"),
        bullets(marked(line) for prediction in predictions for line in bound_words(prediction)),
        element(
            "div",
            table(of_stages, ["stage", *models], rows),
            table("Request and memory", ["request", *models], _request_rows(predictions)),
            class_="pair",
        ),
    )


def break_even_section(result: BreakEven, figures: FigureStore, surface: Surface | None = None) -> Html:
    """Latency of both models and the lengths that cost the same."""
    curve = [
        [
            str(point.large_output_tokens),
            tokens_interval(point.small_output_tokens) if point.small_output_tokens else "none: always slower",
        ]
        for point in result.curve
    ]
    names = short_names((result.small, result.large))
    latencies = [
        [str(p.output_tokens), seconds_interval(p.small_s), seconds_interval(p.large_s)] for p in result.latencies
    ]
    return element(
        "section",
        element("h2", "Break-even"),
        element(
            "div",
            figures.place(plots.latency_figure(result)),
            figures.place(plots.break_even_figure(result)),
            *(figures.place(plots.surface_figure(each)) for each in (surface,) if each is not None),
            class_="pair",
        ),
        folded(
            "The numbers behind these figures",
            table("Answer lengths of equal latency", ["tokens of the large model", "small model"], curve),
            table("Latency by answer length", ["output tokens", names[result.small], names[result.large]], latencies),
        ),
    )


def validation_section(validation: Validation, figures: FigureStore) -> Html:
    """Predictions against real runs, with the noise of those runs beside every error."""
    parts: list[Html] = [
        element("h2", "Predicted against measured"),
        element("p", _verdict_words(validation)),
    ]
    if validation.reasons:
        parts.append(bullets(validation.reasons))
    parts.append(
        table(
            "Error relative to the measured time; noise floor: distance of a run from the mean of the others",
            _SCORE_HEADER,
            [_score_row(score) for score in validation.stages],
        )
    )
    parts.append(
        element(
            "p",
            f"Coverage: share of cases inside the predicted {percent(validation.interval)} interval. "
            "Half-width: its mean relative half-width. A wide interval covers easily: read both together.",
            class_="quiet",
        )
    )
    if validation.rows:
        both = (plots.parity_figure(validation), plots.error_figure(validation))
        parts.append(element("div", *(figures.place(figure) for figure in both), class_="pair"))
    if validation.break_even:
        parts.append(_break_even_check(validation))
    if validation.rows:
        parts.append(folded(f"All {len(validation.rows)} rows", _case_table(validation)))
    return element("section", *parts)


def _verdict_words(validation: Validation) -> Html:
    share = validation.share_undisturbed
    undisturbed = "" if share is None else f", {percent(share)} of the runs undisturbed"
    parts: list[str] = [
        "Check against real runs: ",
        element("strong", validation.verdict, class_=validation.verdict),
        f" ({validation.n} cases{undisturbed})",
    ]
    score = next((score for score in validation.stages if score.stage == "total"), None)
    if score is not None:
        parts.append(
            f". Whole requests are off by {percent(score.mape)} on average, where the runs themselves differ "
            f"by {percent(score.noise_floor)} (noise floor)"
        )
    return join([*parts, "."])


def _request_rows(predictions: Sequence[Prediction]) -> list[list[str]]:
    def visual(prediction: Prediction) -> str:
        return " + ".join(str(tokens) for tokens in prediction.visual_tokens) or "none"

    return [
        ["device", *(p.hardware for p in predictions)],
        ["engine", *(p.engine for p in predictions)],
        ["number format", *(p.dtype for p in predictions)],
        ["images", *(", ".join(map(str, p.workload.images)) or "none" for p in predictions)],
        ["batch", *(str(p.workload.batch) for p in predictions)],
        ["visual tokens", *(visual(p) for p in predictions)],
        ["prompt tokens, visual included", *(str(p.prompt_tokens_total) for p in predictions)],
        ["output tokens", *(str(p.workload.output_tokens) for p in predictions)],
        ["weights", *(format_bytes(p.memory.weights_bytes) for p in predictions)],
        ["KV cache at the end", *(format_bytes(p.memory.kv_cache_bytes) for p in predictions)],
        ["activations", *(format_bytes(p.memory.activations_bytes) for p in predictions)],
        ["memory in all", *(format_bytes(p.memory.total_bytes) for p in predictions)],
        ["device memory", *(format_bytes(p.memory.capacity_bytes) for p in predictions)],
        ["fits", *("yes" if p.memory.fits else "no" for p in predictions)],
    ]


def _score_row(score: StageScore) -> list[str]:
    return [
        score.stage,
        str(score.n),
        percent(score.mape),
        "" if score.limit is None else percent(score.limit),
        percent(score.noise_floor),
        percent(score.median_ape),
        percent(score.p90_ape),
        percent(score.bias, signed=True),
        percent(score.coverage),
        f"±{percent(score.mean_half_width)}",
    ]


def _break_even_check(validation: Validation) -> Html:
    rows = [
        [
            check.case_id,
            str(check.large_output_tokens),
            tokens_interval(check.predicted),
            f"{check.measured_output_tokens:.1f}",
            percent(check.error, signed=True),
        ]
        for check in validation.break_even
    ]
    header = ["case", "large output tokens", "predicted", "measured", "error"]
    caption = "Break-even length of the small model's answer, predicted and from the real runs"
    return join([element("h3", "Break-even against the real runs"), table(caption, header, rows)])


def _case_table(validation: Validation) -> Html:
    rows = [
        [
            row.case_id,
            row.model,
            row.stage,
            format_seconds(row.measured_s),
            seconds_interval(row.predicted),
            percent(row.error, signed=True),
            str(len(row.repeats_s)),
        ]
        for row in validation.rows
    ]
    header = ["case", "model", "stage", "measured", "predicted", "error", "runs"]
    return table("Every stage of every case", header, rows)
