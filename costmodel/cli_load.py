"""``costmodel load``: latency and throughput of a server that a fixed number of clients keep busy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from costmodel.errors import WorkloadError
from costmodel.render import Format, emit, note

__all__ = ["load"]


def load(
    model: Annotated[str, typer.Option(help="Preset name, folder, config.json or spec file.")],
    hardware: Annotated[str, typer.Option(help="Key of a device, or path of its profile.")],
    engine: Annotated[str, typer.Option(help="Key of an engine, or path of its profile.")],
    prompt_tokens: Annotated[int, typer.Option(help="Text tokens of the prompt.")],
    output_tokens: Annotated[int, typer.Option(help="Tokens generated, in the mean over requests.")],
    image: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT in pixels; repeatable.")] = None,
    concurrency: Annotated[
        list[str] | None, typer.Option(help="Clients that each ask again at once, for example 1,4,16; repeatable.")
    ] = None,
    slots: Annotated[int | None, typer.Option(help="Requests that run together at most (the engine's).")] = None,
    pass_tokens: Annotated[int | None, typer.Option(help="Tokens in one mixed pass at most (the engine's).")] = None,
    dtype: Annotated[str, typer.Option(help="Number format: bf16, fp16, fp32, fp8, …")] = "bf16",
    kv_dtype: Annotated[str | None, typer.Option(help="Number format of the KV cache.")] = None,
    quantization: Annotated[str, typer.Option(help="none, w8a8-fp8, w8a8-int8, w8a16, w4a16, …")] = "none",
    tp: Annotated[int, typer.Option(help="Devices that share each layer.")] = 1,
    cached_prefix: Annotated[int, typer.Option(help="Leading tokens already in the KV cache.")] = 0,
    interval: Annotated[float, typer.Option(help="Probability that the intervals hold.")] = 0.9,
    plot: Annotated[Path | None, typer.Option(help="Draw latency over throughput to this .html or .png.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Predict latency and throughput at a number of clients that each ask again as soon as they have their answer.

    Not modelled: requests that arrive at a given rate whatever the server does.

    Example: costmodel load --model Qwen/Qwen3-VL-8B-Instruct --hardware h100-sxm --engine vllm-0.7.2
    --image 1024x768 --prompt-tokens 100 --output-tokens 200 --concurrency 1,4,16,64
    """
    from costmodel import Workload, load_engine, load_hardware, load_model
    from costmodel.load import predict_load
    from costmodel.load_tables import load_table
    from costmodel.specs.images import ImageSize

    workload = Workload(
        images=tuple(ImageSize.parse(text) for text in image or ()),
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        cached_prefix_tokens=cached_prefix,
    )
    result = predict_load(
        load_model(model),
        load_hardware(hardware),
        load_engine(engine),
        workload,
        concurrency=_numbers(concurrency or ["1,2,4,8,16,32"]),
        dtype=dtype,
        kv_dtype=kv_dtype,
        quantization=quantization,
        num_devices=tp,
        slots=slots,
        pass_tokens=pass_tokens,
        interval=interval,
    )
    if plot is not None:
        from costmodel.plots import load_figure, write_figure

        write_figure(plot, load_figure(result))
        note(f"figure: {plot}")
    emit([load_table(result)], result.model_dump_json(indent=1), output)
    for warning in result.warnings:
        note(f"warning: {warning}")


def _numbers(texts: list[str]) -> list[int]:
    parts = [part.strip() for text in texts for part in text.split(",")]
    if not all(part.isdecimal() and int(part) for part in parts):
        raise WorkloadError(f"--concurrency is {','.join(parts)!r}, expected whole numbers from 1, for example 1,4,16")
    return [int(part) for part in parts]
