"""``costmodel validate``: predictions against real runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.errors import InputError
from costmodel.options import complete_engine, complete_hardware, complete_model
from costmodel.progress import progress_bar
from costmodel.render import Format, emit, note

if TYPE_CHECKING:
    from calibrate.check.live import LivePlan
    from calibrate.results import ServedAs
    from costmodel.validation import Validation

__all__ = ["validate"]

Model = Annotated[str | None, typer.Option(help="Results: the model that was served.", autocompletion=complete_model)]
Small = Annotated[
    str | None, typer.Option(help="Live: the small model, as for predict --model.", autocompletion=complete_model)
]
Hardware = Annotated[
    str | None, typer.Option(help="Profile; a case table names its own.", autocompletion=complete_hardware)
]
Engine = Annotated[str | None, typer.Option(help="Engine (live: hf-eager).", autocompletion=complete_engine)]


def validate(
    cases: Annotated[Path | None, typer.Option(help="Table of real runs (CSV): nothing is run here.")] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="Result of vllm bench serve, GuideLLM or AIPerf; repeatable.")
    ] = None,
    model: Model = None,
    image: Annotated[list[str] | None, typer.Option(help="Results: WIDTHxHEIGHT of each request's images.")] = None,
    small: Small = None,
    large: Annotated[str | None, typer.Option(help="Live: the large model.", autocompletion=complete_model)] = None,
    hardware: Annotated[
        str | None, typer.Option(help="Profile; a case table names its own.", autocompletion=complete_hardware)
    ] = None,
    engine: Annotated[str | None, typer.Option(help="Engine (live: hf-eager).", autocompletion=complete_engine)] = None,
    device: Annotated[str, typer.Option(help="Live: auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Live: number format (CPU: fp32, CUDA: bf16).")] = None,
    requests: Annotated[int, typer.Option(help="Live: requests that both models answer.")] = 12,
    repeats: Annotated[int, typer.Option(help="Live: runs of each request and model.")] = 3,
    budget_s: Annotated[float, typer.Option(help="Live: no run is begun after this many seconds.")] = 90.0,
    runs: Annotated[Path, typer.Option(help="Live: raw runs; an existing file is resumed.")] = Path("runs.jsonl"),
    interval: Annotated[float, typer.Option(help="Probability that the intervals hold.")] = 0.9,
    max_error: Annotated[float | None, typer.Option(help="Cases: largest mean error that passes.")] = None,
    gate: Annotated[bool, typer.Option(help="Exit with 1 unless the check passes.")] = True,
    threads: Annotated[int, typer.Option(help="Live: CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Live: seed of the requests and of their order.")] = 1,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="Also write the result as JSON to this file.")] = None,
) -> None:
    """Compare predictions with real runs: those of a table, or live ones of two models, interleaved.

    Live runs use random weights at the true architecture; image sizes, prompts and answer lengths are not those of the
    calibration.

    Example: costmodel validate --small build/demo/small --large build/demo/large --hardware build/demo/profile.json
    """
    from costmodel.files import check_writable, write_atomic
    from costmodel.tables import validation_tables

    if out is not None:
        check_writable(out)
    if cases is not None:
        from costmodel.cases import check_cases, read_cases

        with progress_bar("predicting"):
            result = check_cases(
                read_cases(cases), hardware=hardware, engine=engine, interval=interval, max_error=max_error
            )
    elif results:
        if not model or not hardware or not engine:
            raise InputError("--results needs --model, --hardware and --engine: the files do not say")
        served = _served(model, hardware, engine, dtype or "bf16", image or [])
        result = _check_results(results, served, interval, max_error)
    elif small and large and hardware:
        from calibrate.check.live import LivePlan

        names = (small, large, hardware, engine or "hf-eager", dtype or "")
        plan = LivePlan(*names, requests, repeats, budget_s, seed, interval)
        result = _run_live(plan, device, threads, runs)
    else:
        raise InputError("expected --cases, or --results, or all of --small, --large and --hardware")
    text = result.model_dump_json(indent=1)
    if out is not None:
        write_atomic(out, text + "\n")
        note(f"validation: {out}")
    emit(validation_tables(result), text, output)
    if gate and result.verdict in ("failed", "inconclusive"):
        raise typer.Exit(1)


def _served(model: str, hardware: str, engine: str, dtype: str, images: list[str]) -> ServedAs:
    from calibrate.results import ServedAs
    from costmodel.specs.images import ImageSize

    return ServedAs(model, hardware, engine, dtype, images=tuple(ImageSize.parse(text) for text in images))


def _check_results(paths: list[Path], served: ServedAs, interval: float, max_error: float | None) -> Validation:
    from calibrate.results import read_results
    from costmodel.cases import check_cases

    found = [read_results(path, served) for path in paths]
    for path, one in zip(paths, found, strict=True):
        for reason, count in sorted(one.left_out.items()):
            note(f"{path.name}: left out {count} request(s): {reason}")
    return check_cases([case for one in found for case in one.cases], interval=interval, max_error=max_error)


def _run_live(plan: LivePlan, device: str, threads: int, runs: Path) -> Validation:
    from calibrate.check.live import validate_live
    from calibrate.measure.device import open_device

    target = open_device(device, threads=threads)
    dtype = plan.dtype or ("fp32" if target.kind == "cpu" else "bf16")
    with progress_bar("running") as progress:
        return validate_live(replace(plan, dtype=dtype), target, runs=runs, progress=progress)
