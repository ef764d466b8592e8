"""The command line. Data goes to standard output, everything else to standard error.

Exit status: 0 success, 1 a check that was asked for failed, 2 bad input (one line says what and why).
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated

import typer

from costmodel.cli_load import load
from costmodel.errors import CostModelError, UnknownKeyError
from costmodel.render import Format, emit, note

__all__ = ["app", "main"]

app = typer.Typer(
    name="costmodel",
    help="Predict how long a vision-language model takes to answer, before renting the GPU.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=True,
    pretty_exceptions_enable=False,
)

# Exit status that typer makes of Ctrl-C.
_INTERRUPTED = 130

_BUILT_IN = ("predict", "load", "breakeven", "models", "hardware", "engines", "report")

Model = Annotated[str, typer.Option(help="Preset name, folder, config.json or spec file.")]
Hardware = Annotated[str, typer.Option(help="Key of a device, or path of its profile.")]
Engine = Annotated[str, typer.Option(help="Key of an engine, or path of its profile.")]
Images = Annotated[list[str] | None, typer.Option("--image", help="WIDTHxHEIGHT in pixels; repeatable.")]
PromptTokens = Annotated[int, typer.Option(help="Text tokens of the prompt.")]
OutputTokens = Annotated[int, typer.Option(help="Tokens generated.")]
Batch = Annotated[int, typer.Option(help="Equal requests served together.")]
DType = Annotated[str, typer.Option(help="Number format: bf16, fp16, fp32, fp8, …")]
Quantization = Annotated[str, typer.Option(help="none, w8a8-fp8, w8a8-int8, w8a16, w4a16, …")]
Devices = Annotated[int, typer.Option(help="Devices that share each layer.")]
Interval = Annotated[float, typer.Option(help="Probability that the intervals hold.")]
Output = Annotated[Format, typer.Option("--format", help="How to print the result.")]


@app.command()
def predict(
    model: Model,
    hardware: Hardware,
    engine: Engine,
    prompt_tokens: PromptTokens,
    output_tokens: OutputTokens,
    image: Images = None,
    batch: Batch = 1,
    dtype: DType = "bf16",
    kv_dtype: Annotated[str | None, typer.Option(help="Number format of the KV cache.")] = None,
    quantization: Quantization = "none",
    tp: Devices = 1,
    prefill_chunk: Annotated[int | None, typer.Option(help="Most tokens of a request in one prefill pass.")] = None,
    cached_prefix: Annotated[int, typer.Option(help="Leading tokens already in the KV cache.")] = 0,
    interval: Interval = 0.9,
    output: Output = Format.TABLE,
) -> None:
    """Predict the latency of one configuration, stage by stage.

    Example: costmodel predict --model Qwen/Qwen3-VL-8B-Instruct --hardware h100-sxm --engine vllm-0.7.2
    --image 1024x768 --prompt-tokens 100 --output-tokens 200
    """
    from costmodel import Workload, load_engine, load_hardware, load_model
    from costmodel import predict as predict_latency
    from costmodel.specs.images import ImageSize
    from costmodel.tables import prediction_table

    workload = Workload(
        images=tuple(ImageSize.parse(text) for text in image or ()),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        batch=batch,
        cached_prefix_tokens=cached_prefix,
    )
    prediction = predict_latency(
        load_model(model),
        load_hardware(hardware),
        load_engine(engine),
        workload,
        dtype=dtype,
        kv_dtype=kv_dtype,
        quantization=quantization,
        num_devices=tp,
        chunk_tokens=prefill_chunk,
        interval=interval,
    )
    emit([prediction_table(prediction)], prediction.model_dump_json(indent=1), output)
    _warn(prediction.warnings)


app.command()(load)


@app.command()
def breakeven(
    small: Annotated[str, typer.Option(help="The small model, as for predict --model.")],
    large: Annotated[str, typer.Option(help="The large model.")],
    large_output: Annotated[int, typer.Option(help="Tokens of the large model's answer.")],
    hardware: Hardware,
    engine: Engine,
    prompt_tokens: PromptTokens,
    image: Images = None,
    small_output: Annotated[
        int | None, typer.Option(help="Tokens of the small model's answer, for the probability.")
    ] = None,
    batch: Batch = 1,
    dtype: DType = "bf16",
    quantization: Quantization = "none",
    tp: Devices = 1,
    interval: Interval = 0.9,
    plot: Annotated[Path | None, typer.Option(help="Write the figures to this HTML file.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Find the small model's answer length that takes as long as the large model's answer.

    Example: costmodel breakeven --small Qwen/Qwen3-VL-2B-Instruct --large Qwen/Qwen3-VL-8B-Instruct
    --large-output 32 --hardware h100-sxm --engine vllm-0.7.2 --image 1024x768 --prompt-tokens 100 --plot out.html
    """
    from costmodel import Workload, break_even, load_engine, load_hardware, load_model
    from costmodel.specs.images import ImageSize
    from costmodel.tables import break_even_tables

    request = Workload(
        images=tuple(ImageSize.parse(text) for text in image or ()),
        prompt_tokens=prompt_tokens,
        output_tokens=1,
        batch=batch,
    )
    result = break_even(
        load_model(small),
        load_model(large),
        load_hardware(hardware),
        load_engine(engine),
        request,
        large_output_tokens=large_output,
        small_output_tokens=small_output,
        dtype=dtype,
        quantization=quantization,
        num_devices=tp,
        interval=interval,
    )
    if plot is not None:
        from costmodel.report import write_report

        write_report(plot, break_even=result)
        note(f"figures: {plot}")
    emit(break_even_tables(result), result.model_dump_json(indent=1), output)
    _warn(result.warnings)


@app.command()
def models(
    action: Annotated[str, typer.Argument(help="list, or show.")] = "list",
    key: Annotated[str | None, typer.Argument(help="Which one to show.")] = None,
    image: Images = None,
    prompt_tokens: Annotated[int, typer.Option(help="Text tokens of the request whose work show tells.")] = 1000,
    output: Output = Format.TABLE,
) -> None:
    """List the models that have a preset, or show the parts of one and the work of a request.

    Example: costmodel models show Qwen/Qwen3-VL-8B-Instruct --image 1024x768 --prompt-tokens 100
    """
    from costmodel import Workload, load_model
    from costmodel.families.sources import preset_names
    from costmodel.parts import parts_table, work_table
    from costmodel.specs.images import ImageSize
    from costmodel.tables import model_table

    chosen = [load_model(name) for name in _chosen(action, key, preset_names())]
    tables = [model_table(chosen)]
    if action == "show" and output is not Format.CSV:
        sizes = tuple(ImageSize.parse(text) for text in image or ())
        workload = Workload(images=sizes, prompt_tokens=prompt_tokens, output_tokens=1)
        tables += [parts_table(chosen[0]), work_table(chosen[0], workload)]
    emit(tables, _json(chosen), output)


@app.command()
def hardware(
    action: Annotated[str, typer.Argument(help="list, or show.")] = "list",
    key: Annotated[str | None, typer.Argument(help="Which one to show.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List the devices that have a profile, or show one.

    Example: costmodel hardware show h100-sxm --format json
    """
    from costmodel import load_hardware
    from costmodel.profiles import profile_keys
    from costmodel.tables import hardware_table

    chosen = [load_hardware(name) for name in _chosen(action, key, profile_keys("gpus"))]
    emit([hardware_table(chosen)], _json(chosen), output)


@app.command()
def engines(
    action: Annotated[str, typer.Argument(help="list, or show.")] = "list",
    key: Annotated[str | None, typer.Argument(help="Which one to show.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """List the engines that have a profile, or show one.

    Example: costmodel engines show vllm-0.7.2 --format json
    """
    from costmodel import load_engine
    from costmodel.profiles import profile_keys
    from costmodel.tables import engine_table

    chosen = [load_engine(name) for name in _chosen(action, key, profile_keys("engines"))]
    emit([engine_table(chosen)], _json(chosen), output)


@app.command()
def report(
    out: Annotated[Path, typer.Option(help="HTML file to write.")],
    prediction: Annotated[list[Path] | None, typer.Option(help="JSON of predict; repeatable.")] = None,
    break_even: Annotated[Path | None, typer.Option(help="JSON of breakeven.")] = None,
    validation: Annotated[Path | None, typer.Option(help="JSON of validate.")] = None,
    device: Annotated[
        list[Path] | None, typer.Option(help="JSON of predict on a device to compare; repeatable.")
    ] = None,
    policy: Annotated[Path | None, typer.Option(help="JSON of policy.")] = None,
    hardware: Annotated[str | None, typer.Option(help="Device to describe.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine to describe.")] = None,
    command: Annotated[list[str] | None, typer.Option(help="Command to show; repeatable.")] = None,
) -> None:
    """Write one self-contained HTML file from the JSON of other commands.

    Example: costmodel report --out report.html --prediction small.json --prediction large.json
    --break-even breakeven.json --validation validation.json --hardware profile.json
    """
    from costmodel import load_engine, load_hardware
    from costmodel.breakeven import BreakEven
    from costmodel.documents import read_document
    from costmodel.policy.results import PolicyChoice
    from costmodel.predict import Prediction
    from costmodel.report import write_report
    from costmodel.validation import Validation

    write_report(
        out,
        predictions=[read_document(path, Prediction) for path in prediction or ()],
        break_even=read_document(break_even, BreakEven) if break_even else None,
        validation=read_document(validation, Validation) if validation else None,
        devices=[read_document(path, Prediction) for path in device or ()],
        policy=read_document(policy, PolicyChoice) if policy else None,
        hardware=load_hardware(hardware) if hardware else None,
        engine=load_engine(engine) if engine else None,
        commands=command or (),
    )
    note(f"report: {out}")


def _chosen(action: str, key: str | None, known: Sequence[str]) -> Sequence[str]:
    if action == "list" and key is None:
        return known
    if action == "show" and key is not None:
        return [key]
    raise UnknownKeyError("action", f"{action} {key or ''}".strip(), ["list", "show KEY"])


def _json(items: Sequence[object]) -> str:
    dumped = [item.model_dump(mode="json") for item in items]  # type: ignore[attr-defined]
    return json.dumps(dumped if len(dumped) != 1 else dumped[0], indent=1)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        note(f"warning: {warning}")


def _load_plugins() -> None:
    """Commands of installed packages; the built-in ones need none of them and start faster without."""
    for point in entry_points(group="costmodel.commands"):
        loaded = point.load()
        if isinstance(loaded, typer.Typer):
            app.add_typer(loaded, name=point.name)
        else:
            app.command(name=point.name)(loaded)


def _discard_output() -> None:
    """What is still buffered can't be written: the interpreter would try again when it ends, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def main() -> None:
    """Run the command line."""
    if len(sys.argv) < 2 or sys.argv[1] not in _BUILT_IN:
        _load_plugins()
    try:
        status = app(args=sys.argv[1:] or ["--help"], standalone_mode=False)
        sys.stdout.flush()
    except CostModelError as error:
        note(f"error: {error}")
        status = 2
    except OSError as error:
        note(f"error: {error.filename or 'output'}: {error.strerror}")
        _discard_output()
        status = 2
    except SystemExit:
        # Typer exits by itself only where the reader of its output has gone: that is no failure.
        status = 0
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        message = error.format_message()
        note(message if message.startswith("Usage:") else f"error: {message}")
        status = 2
    if status == _INTERRUPTED:
        note("interrupted; what was measured is kept")
    sys.exit(status if isinstance(status, int) else 0)
