"""Tables of results: which columns a person wants to see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from costmodel.breakeven import BreakEven
from costmodel.memory import Memory
from costmodel.predict import Prediction
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.quantity import Quantity
from costmodel.render import Table
from costmodel.specs.model import ModelSpec
from costmodel.units import GIB, GIGA, TERA, format_bytes, format_seconds
from costmodel.validation import Validation

__all__ = [
    "break_even_tables",
    "engine_table",
    "hardware_table",
    "model_table",
    "prediction_table",
    "validation_tables",
]


def prediction_table(prediction: Prediction) -> Table:
    """Stages with intervals and what bounds them; memory below."""
    latency, memory = prediction.latency, prediction.memory
    rows = []
    for name in ("preprocess", "encode", "prefill", "decode", "ttft", "tpot", "total"):
        quantity: Quantity = getattr(latency, f"{name}_s")
        bound = prediction.bound.get(name, "host" if name == "preprocess" else "")
        rows.append((name, *(format_seconds(x) for x in (quantity.value, quantity.low, quantity.high)), bound))
    request = prediction.workload
    images = "".join(
        f"{len(sizes)} {what}(s) {', '.join(map(str, sizes))}; "
        for what, sizes in (("image", request.images), ("video", request.videos))
        if sizes
    )
    fits = "fits in" if memory.fits else "does NOT fit in"
    return Table(
        title=f"{prediction.model} on {prediction.hardware}, {prediction.engine}, {prediction.dtype}",
        columns=("stage", "time", "low", "high", "bound by"),
        rows=tuple(rows),
        footer=(
            f"{images}{prediction.prompt_tokens_total} prompt tokens, {sum(prediction.visual_tokens)} of them visual; "
            f"{request.output_tokens} output tokens; batch {request.batch}; {_interval_text(prediction.interval)}",
            f"memory: weights {format_bytes(memory.weights_bytes)}, KV cache {format_bytes(memory.kv_cache_bytes)}, "
            f"activations {format_bytes(memory.activations_bytes)}, workspace {format_bytes(memory.workspace_bytes)}; "
            f"{fits} {format_bytes(memory.capacity_bytes)}",
            *_limits(memory),
            _sources(prediction),
        ),
    )


def _limits(memory: Memory) -> tuple[str, ...]:
    """One line on what else fits."""
    if memory.would_fit is not None:
        return (f"{format_bytes(memory.missing_bytes)} too much; would fit: {memory.would_fit}",)
    if memory.largest_batch is None:
        return ()
    return (f"fits up to batch {memory.largest_batch}, or {memory.largest_context_tokens} tokens of context a request",)


def _interval_text(interval: float | None) -> str:
    return "values alone" if interval is None else f"{interval:.0%} interval"


def _sources(prediction: Prediction) -> str:
    groups: dict[str, list[str]] = {}
    for group, tier in prediction.sources.items():
        groups.setdefault(tier, []).append(group)
    return "coefficients: " + "; ".join(f"{tier}: {', '.join(names)}" for tier, names in groups.items())


def break_even_tables(result: BreakEven) -> tuple[Table, ...]:
    """The crossing, then the curve."""
    point = result.break_even_output_tokens
    words = (
        f"{result.small} with {point.value:.0f} tokens [{point.low:.0f}, {point.high:.0f}] takes as long"
        if point
        else f"{result.small} is slower even with one token"
    )
    title = f"{result.large} with {result.large_output_tokens} tokens: {format_seconds(result.large_s.value)}; {words}"
    footer: tuple[str, ...] = ()
    if result.probability_large_faster is not None:
        footer = (
            f"probability that the large model is faster than {result.small_output_tokens} small-model tokens: "
            f"{result.probability_large_faster:.0%}",
        )
    rows = tuple(
        (
            str(entry.large_output_tokens),
            *(
                (f"{q.value:.1f}", f"{q.low:.1f}", f"{q.high:.1f}")
                if (q := entry.small_output_tokens)
                else ("none", "", "")
            ),
        )
        for entry in result.curve
    )
    return (Table(title, ("large tokens", "small tokens", "low", "high"), rows, footer),)


def validation_tables(result: Validation) -> tuple[Table, ...]:
    """Score per stage, then the break-even of every case."""
    share = result.share_undisturbed
    undisturbed = () if share is None else (f"{share:.0%} of the runs were undisturbed",)
    scores = Table(
        title=f"predicted against measured on {result.hardware}, {result.engine}, {result.dtype}: {result.verdict}",
        columns=(
            "stage",
            "n",
            "mean error",
            "median",
            "p90",
            "bias",
            "noise floor",
            "limit",
            f"in {result.interval:.0%} interval",
            "half-width",
        ),
        rows=tuple(
            (
                score.stage,
                str(score.n),
                f"{score.mape:.1%}",
                f"{score.median_ape:.1%}",
                f"{score.p90_ape:.1%}",
                f"{score.bias:+.1%}",
                f"{score.noise_floor:.1%}",
                "" if score.limit is None else f"{score.limit:.1%}",
                f"{score.coverage:.0%}",
                f"±{score.mean_half_width:.0%}",
            )
            for score in result.stages
        ),
        footer=(*undisturbed, *result.reasons, *_skipped(result)),
    )
    if not result.break_even:
        return (scores,)
    checks = Table(
        title="break-even: small-model tokens that take as long as the large model's answer",
        columns=("case", "large tokens", "predicted", "low", "high", "measured", "error"),
        rows=tuple(
            (
                check.case_id,
                str(check.large_output_tokens),
                f"{check.predicted.value:.1f}",
                f"{check.predicted.low:.1f}",
                f"{check.predicted.high:.1f}",
                f"{check.measured_output_tokens:.1f}",
                f"{check.error:+.1%}",
            )
            for check in result.break_even
        ),
    )
    return scores, checks


def _skipped(result: Validation) -> list[str]:
    reasons = Counter(case.reason for case in result.skipped)
    return [f"skipped {count} case(s): {reason}" for reason, count in reasons.items()]


def model_table(models: Iterable[ModelSpec]) -> Table:
    """Parameters by part."""
    rows = tuple(
        (
            model.name,
            model.family,
            *(
                f"{count / GIGA:.3f}"
                for count in (
                    model.parameters,
                    model.vision.parameters if model.vision else 0,
                    model.connector.parameters if model.connector else 0,
                    model.decoder.parameters,
                )
            ),
            str(model.decoder.num_layers),
            str(model.decoder.hidden_size),
        )
        for model in models
    )
    columns = ("model", "family", "params, 10⁹", "vision", "connector", "decoder", "layers", "hidden")
    return Table("", columns, rows, spare=(7, 6, 4, 3, 5))


def hardware_table(profiles: Iterable[HardwareProfile]) -> Table:
    """Peaks, memory and how the device was calibrated."""
    rows = []
    for profile in profiles:
        sheet = profile.datasheet
        peak = sheet.peak_flops_per_s.get("bf16") or sheet.peak_flops_per_s.get("fp16")
        rows.append(
            (
                profile.key,
                profile.name,
                "" if peak is None else f"{peak / TERA:.0f}",
                f"{sheet.memory_bytes_per_s / GIGA:.0f}",
                f"{sheet.memory_bytes / GIB:.0f}",
                _tier(profile),
            )
        )
    return Table("", ("key", "device", "16-bit TFLOP/s", "GB/s", "GiB", "calibration"), tuple(rows))


def engine_table(engines: Iterable[EngineProfile]) -> Table:
    """Host costs."""
    rows = tuple(
        (
            engine.key,
            engine.name,
            *(
                format_seconds(c.value)
                for c in (
                    engine.request_s,
                    engine.image_s,
                    engine.megapixel_s,
                    engine.step_s,
                    engine.launch_s,
                )
            ),
            engine.step_s.source,
        )
        for engine in engines
    )
    columns = ("key", "engine", "a request", "an image", "a megapixel", "a step", "a launch", "source")
    return Table("", columns, rows, spare=(1,))


def _tier(profile: HardwareProfile) -> str:
    if profile.slices:
        return f"slices of {len({entry.model for entry in profile.slices})} models"
    return "kernels" if profile.laws else "datasheet"
