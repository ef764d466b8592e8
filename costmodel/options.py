"""Options that several commands share, and what a shell offers for them at a press of the tabulator."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from costmodel.render import Format

__all__ = [
    "Batch",
    "DType",
    "Devices",
    "Engine",
    "Hardware",
    "Images",
    "Interval",
    "Model",
    "Output",
    "OutputTokens",
    "PromptTokens",
    "Quantization",
    "Videos",
    "complete_dtype",
    "complete_engine",
    "complete_hardware",
    "complete_model",
    "complete_quantization",
    "complete_schema",
]


def complete_model(incomplete: str) -> list[str]:
    """Presets whose name begins so."""
    from costmodel.families.sources import preset_names

    return [name for name in preset_names() if name.startswith(incomplete)]


def complete_hardware(incomplete: str) -> list[str]:
    """Keys of devices that begin so."""
    return _keys("gpus", incomplete)


def complete_engine(incomplete: str) -> list[str]:
    """Keys of engines that begin so."""
    return _keys("engines", incomplete)


def complete_dtype(incomplete: str) -> list[str]:
    """Number formats that begin so."""
    from costmodel.ops import DTYPES

    return [name for name in DTYPES if name.startswith(incomplete)]


def complete_quantization(incomplete: str) -> list[str]:
    """Quantisation schemes that begin so."""
    from costmodel.program import QUANTIZATIONS

    return [name for name in QUANTIZATIONS if name.startswith(incomplete)]


def complete_schema(incomplete: str) -> list[str]:
    """Schemas whose name begins so."""
    from costmodel.schemas import document_kinds

    return [name for name in document_kinds() if name.startswith(incomplete)]


def _keys(kind: Literal["gpus", "engines"], incomplete: str) -> list[str]:
    from costmodel.profiles import profile_keys

    return [key for key in profile_keys(kind) if key.startswith(incomplete)]


Model = Annotated[
    str,
    typer.Option(help="Preset name, hub id, folder, config.json, .gguf or spec file.", autocompletion=complete_model),
]
Hardware = Annotated[
    str, typer.Option(help="Key of a device, or path of its profile.", autocompletion=complete_hardware)
]
Engine = Annotated[str, typer.Option(help="Key of an engine, or path of its profile.", autocompletion=complete_engine)]
Images = Annotated[list[str] | None, typer.Option("--image", help="WIDTHxHEIGHT in pixels; repeatable.")]
Videos = Annotated[list[str] | None, typer.Option("--video", help="WIDTHxHEIGHTxFRAMES sampled; repeatable.")]
PromptTokens = Annotated[int, typer.Option(help="Text tokens of the prompt.")]
OutputTokens = Annotated[int, typer.Option(help="Tokens generated.")]
Batch = Annotated[int, typer.Option(help="Equal requests served together.")]
DType = Annotated[str, typer.Option(help="Number format: bf16, fp16, fp32, fp8, …", autocompletion=complete_dtype)]
Quantization = Annotated[
    str | None,
    typer.Option(
        help="none, w8a8-fp8, w8a8-int8, w8a16, w4a16, …; else the checkpoint's own.",
        autocompletion=complete_quantization,
    ),
]
Devices = Annotated[int, typer.Option("--tp", help="Devices that share each layer.")]
Interval = Annotated[float, typer.Option(help="Probability that the intervals hold.")]
Output = Annotated[Format, typer.Option("--format", help="How to print the result.")]
