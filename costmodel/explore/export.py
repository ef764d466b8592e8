"""What the page shows, as files and as the commands that make it again."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from costmodel.explore.results import Results
from costmodel.explore.state import State
from costmodel.quantity import Quantity
from costmodel.roofline import STAGES

__all__ = ["command_lines", "csv_text", "json_text", "python_call", "report_text"]

_LINE = 96
_ROLES = ("small", "large")
_STAGES = ("preprocess", "encode", "prefill", "decode", "ttft", "tpot", "total")


def command_lines(state: State, *, traces: str | None = None) -> list[str]:
    """Command lines whose results are those of the page."""
    predicted = [
        _command(
            "predict",
            ("--model", getattr(state, role)),
            *_request(state),
            ("--output-tokens", state.output_tokens(role)),
        )
        for role in _ROLES
    ]
    pair = (("--small", state.small), ("--large", state.large))
    lengths = (("--large-output", state.large_output), ("--small-output", state.small_output))
    lines = [*predicted, _command("breakeven", *pair, *lengths, *_request(state))]
    if traces:
        device = (("--hardware", state.hardware), ("--engine", state.engine))
        goal = [("--budget-s", f"{state.budget_s:g}")] if state.budget_s is not None else []
        percentile = ("--percentile", f"{state.percentile:g}")
        lines.append(_command("policy", *pair, ("--traces", traces), *device, *goal, percentile))
    return lines


def _request(state: State) -> list[tuple[str, object]]:
    images = [("--image", f"{state.width}x{state.height}")] * state.images
    options: list[tuple[str, object]] = [
        ("--hardware", state.hardware),
        ("--engine", state.engine),
        *images,
        ("--prompt-tokens", state.prompt_tokens),
    ]
    changed = (("--batch", state.batch, 1), ("--quantization", state.quantization, "none"), ("--tp", state.tp, 1))
    return options + [(option, value) for option, value, default in changed if value != default]


def _command(name: str, *options: tuple[str, object]) -> str:
    """One command, broken between options where it gets long."""
    lines = [f"costmodel {name}"]
    for option, value in options:
        text = f"{option} {shlex.quote(str(value))}"
        if len(lines[-1]) + len(text) > _LINE:
            lines[-1] += " \\"
            lines.append(f"    {text}")
        else:
            lines[-1] += f" {text}"
    return "\n".join(lines)


def python_call(state: State) -> str:
    """Python that makes the results of the page."""
    image = f"ImageSize(width={state.width}, height={state.height})"
    return f"""\
from costmodel import ImageSize, Workload, break_even, load_engine, load_hardware, load_model, predict

small, large = load_model({state.small!r}), load_model({state.large!r})
device = load_hardware({state.hardware!r}), load_engine({state.engine!r})
how = dict(quantization={state.quantization!r}, num_devices={state.tp})
request = Workload(
    images=({image},) * {state.images},
    prompt_tokens={state.prompt_tokens},
    output_tokens={state.large_output},
    batch={state.batch},
)

large_prediction = predict(large, *device, request, **how)
small_request = request.model_copy(update={{"output_tokens": {state.small_output}}})
small_prediction = predict(small, *device, small_request, **how)
lengths = dict(large_output_tokens={state.large_output}, small_output_tokens={state.small_output})
crossing = break_even(small, large, *device, request, **lengths, **how)
print(large_prediction.latency.total_s, small_prediction.latency.total_s, crossing.break_even_output_tokens)
"""


def json_text(results: Results, state: State, token: str) -> str:
    """Results whole."""
    small, large = results.predictions(state)
    content: dict[str, object] = {
        "state": state.model_dump(mode="json"),
        "small": small.model_dump(mode="json"),
        "large": large.model_dump(mode="json"),
        "break_even": results.break_even(state).model_dump(mode="json"),
    }
    if token and results.uploads.loaded(token):
        content["policy"] = results.policy(state, token).model_dump(mode="json")
    return json.dumps(content, indent=1) + "\n"


def csv_text(results: Results, state: State) -> str:
    """Stages of both models and their latency over the answer length, a value a row."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(("model", "stage", "output_tokens", "value_s", "low_s", "high_s"))
    writer.writerows(
        (model, stage, tokens, q.value, q.low, q.high) for model, stage, tokens, q in _rows(results, state)
    )
    return buffer.getvalue()


def _rows(results: Results, state: State) -> Iterator[tuple[str, str, int, Quantity]]:
    for prediction in results.predictions(state):
        for stage in _STAGES:
            quantity = getattr(prediction.latency, f"{stage}_s")
            yield prediction.model, stage, prediction.workload.output_tokens, quantity
    crossing = results.break_even(state)
    for point in crossing.latencies:
        yield crossing.small, "total", point.output_tokens, point.small_s
        yield crossing.large, "total", point.output_tokens, point.large_s


def report_text(results: Results, state: State, token: str) -> str:
    """Self-contained report with the figures of every view."""
    from costmodel.report import write_report

    devices, _ = results.across_devices(state)
    loaded = results.uploads.loaded(token) if token else None
    with TemporaryDirectory() as folder:
        path = Path(folder) / "report.html"
        write_report(
            path,
            predictions=results.predictions(state),
            break_even=results.break_even(state),
            surface=results.surface(state),
            rooflines=[results.roofline(state, state.role, stage) for stage in STAGES],
            devices=devices,
            policy=results.policy(state, token) if loaded else None,
            hardware=results.catalogue.hardware(state.hardware),
            engine=results.catalogue.engine(state.engine),
            commands=command_lines(state, traces=loaded.name if loaded else None),
        )
        return path.read_text(encoding="utf-8")
