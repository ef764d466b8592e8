"""``costmodel validate``: predictions against real runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.errors import InputError
from costmodel.render import Format, emit, note

if TYPE_CHECKING:
    from calibrate.check.live import LivePlan
    from calibrate.results import ServedAs
    from costmodel.validation import Validation

__all__ = ["validate"]

_Results = Annotated[
    list[Path] | None, typer.Option(help="Result of vllm bench serve, GuideLLM or AIPerf; repeatable.")
]
_Published = Annotated[
    Path | None, typer.Option(help="Folder of published runs: engines fitted on a part, scored on the rest.")
]
_Plot = Annotated[Path | None, typer.Option(help="Published: parity figure to write, .html or a picture.")]


def validate(
    cases: Annotated[Path | None, typer.Option(help="Table of real runs (CSV): nothing is run here.")] = None,
    results: _Results = None,
    published: _Published = None,
    plot: _Plot = None,
    model: Annotated[str | None, typer.Option(help="Results: the model that was served.")] = None,
    image: Annotated[list[str] | None, typer.Option(help="Results: WIDTHxHEIGHT of each request's images.")] = None,
    small: Annotated[str | None, typer.Option(help="Live: the small model, as for predict --model.")] = None,
    large: Annotated[str | None, typer.Option(help="Live: the large model.")] = None,
    hardware: Annotated[str | None, typer.Option(help="Profile; a case table names its own.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine (live: hf-eager).")] = None,
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
    out: Annotated[
        Path | None, typer.Option(help="Also write the result to this file, as JSON (published: .md, a page).")
    ] = None,
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
    if published is not None:
        _published(published, interval, plot=plot, out=out, output=output)
        return
    if cases is not None:
        result = _check_table(cases, hardware, engine, interval, max_error)
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


def _published(folder: Path, interval: float, *, plot: Path | None, out: Path | None, output: Format) -> None:
    from calibrate.accuracy.published import check_published
    from calibrate.accuracy.published_report import published_page, published_tables
    from costmodel.files import check_writable, write_atomic

    if not folder.is_dir():
        raise InputError(f"--published is {folder}, expected a folder of tables")
    if plot is not None:
        check_writable(plot)
    result = check_published(folder, interval=interval, progress=note)
    if not result.scores and not result.slopes:
        raise InputError(f"--published {folder}: no table of published runs is there")
    text = result.model_dump_json(indent=1)
    if out is not None:
        write_atomic(out, published_page(result) if out.suffix == ".md" else text + "\n")
        note(f"validation: {out}")
    if plot is not None:
        from costmodel.plots import parity_of_rows, write_figure

        write_figure(plot, parity_of_rows(result.rows))
        note(f"figure: {plot}")
    emit(published_tables(result), text, output)


def _check_table(
    path: Path, hardware: str | None, engine: str | None, interval: float, max_error: float | None
) -> Validation:
    from costmodel.cases import check_cases, read_cases

    return check_cases(read_cases(path), hardware=hardware, engine=engine, interval=interval, max_error=max_error)


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
    from calibrate.commands.progress import progress_bar
    from calibrate.measure.device import open_device

    target = open_device(device, threads=threads)
    dtype = plan.dtype or ("fp32" if target.kind == "cpu" else "bf16")
    with progress_bar("running") as progress:
        return validate_live(replace(plan, dtype=dtype), target, runs=runs, progress=progress)
