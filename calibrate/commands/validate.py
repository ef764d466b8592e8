"""``costmodel validate``: predictions against real runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

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

_Results = Annotated[
    list[Path] | None, typer.Option(help="Result of vllm bench serve, GuideLLM or AIPerf; repeatable.")
]
_Out = Annotated[
    Path | None, typer.Option(help="Also write the result to this file, as JSON (published: .md, a page).")
]
_Published = Annotated[
    Path | None, typer.Option(help="Folder of published runs: engines fitted on a part, scored on the rest.")
]
_Plot = Annotated[Path | None, typer.Option(help="Draw predicted over measured to this .html or .png.")]
Model = Annotated[
    str | None, typer.Option(help="Results, endpoint: the model that is served.", autocompletion=complete_model)
]
Small = Annotated[
    str | None, typer.Option(help="Live: the small model, as for predict --model.", autocompletion=complete_model)
]
Hardware = Annotated[
    str | None, typer.Option(help="Profile; a case table names its own.", autocompletion=complete_hardware)
]
Engine = Annotated[str | None, typer.Option(help="Engine (live: hf-eager).", autocompletion=complete_engine)]


def validate(
    cases: Annotated[Path | None, typer.Option(help="Table of real runs (CSV): nothing is run here.")] = None,
    results: _Results = None,
    published: _Published = None,
    model: Model = None,
    image: Annotated[list[str] | None, typer.Option(help="Results, endpoint: WIDTHxHEIGHT; repeatable.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Address of an OpenAI-compatible server.")] = None,
    concurrency: Annotated[str, typer.Option(help="Endpoint: clients that ask at once, such as 1,2,4.")] = "",
    slots: Annotated[int | None, typer.Option(help="Endpoint: requests it runs together, where known.")] = None,
    served_model: Annotated[str, typer.Option(help="Endpoint: what it calls the model (its first one).")] = "",
    dialect: Annotated[str, typer.Option(help="Endpoint: which kind of server, see the page on engines.")] = "auto",
    api_key_env: Annotated[str, typer.Option(help="Endpoint: variable that holds the key.")] = "OPENAI_API_KEY",
    small: Small = None,
    large: Annotated[str | None, typer.Option(help="Live: the large model.", autocompletion=complete_model)] = None,
    hardware: Hardware = None,
    engine: Engine = None,
    device: Annotated[str, typer.Option(help="Live: auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Live, endpoint: number format (CPU: fp32, CUDA: bf16).")] = None,
    requests: Annotated[int, typer.Option(help="Live, endpoint: different requests.")] = 12,
    repeats: Annotated[int, typer.Option(help="Live, endpoint: runs of each request.")] = 3,
    budget_s: Annotated[float, typer.Option(help="Live: no run is begun after this many seconds.")] = 90.0,
    runs: Annotated[Path, typer.Option(help="Live, endpoint: raw runs; a file there is resumed.")] = Path("runs.jsonl"),
    interval: Annotated[float, typer.Option(help="Probability that the intervals hold.")] = 0.9,
    max_error: Annotated[float | None, typer.Option(help="Not live: largest mean error that passes.")] = None,
    gate: Annotated[bool, typer.Option(help="Exit with 1 unless the check passes.")] = True,
    threads: Annotated[int, typer.Option(help="Live: CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Live, endpoint: seed of the requests and of their order.")] = 1,
    plot: _Plot = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
    out: _Out = None,
) -> None:
    """Compare predictions with real runs: of a table, of a load generator, of a server, or live ones of two models.

    Live runs use random weights at the true architecture. Image sizes, prompts and answer lengths are not those of the
    calibration, for a server neither. With --concurrency a server is compared with costmodel load.

    Exit status 1: the error is beyond the limit, or too little is known to say.

    Example: costmodel validate --small build/demo/small --large build/demo/large --hardware build/demo/profile.json
    """
    _check_writable(out)
    if published is not None:
        _published(published, interval, plot=plot, out=out, output=output)
        return
    if cases is not None:
        with progress_bar("predicting"):
            result = _check_table(cases, hardware, engine, interval, max_error)
    elif results or endpoint:
        if not model or not hardware or not engine:
            raise InputError("--results and --endpoint need --model, --hardware and --engine: they do not say")
        served = _served(model, hardware, engine, dtype or "bf16", image or [])
        if endpoint:
            design = _Design(requests, repeats, seed, interval, concurrency, slots)
            result = _ask(endpoint, (served_model, dialect, api_key_env), served, design, runs, max_error)
        else:
            result = _check_results(results or [], served, interval, max_error)
    elif small and large and hardware:
        from calibrate.check.live import LivePlan

        names = (small, large, hardware, engine or "hf-eager", dtype or "")
        result = _run_live(LivePlan(*names, requests, repeats, budget_s, seed, interval), device, threads, runs)
    else:
        raise InputError("expected --cases, --results, --endpoint, or all of --small, --large and --hardware")
    _write(result, out, plot, output)
    if gate and result.verdict in ("failed", "inconclusive"):
        raise typer.Exit(1)


def _check_writable(out: Path | None) -> None:
    from costmodel.files import check_writable

    if out is not None:
        check_writable(out)


def _write(result: Validation, out: Path | None, plot: Path | None, output: Format) -> None:
    from costmodel.files import write_atomic
    from costmodel.tables import validation_tables

    text = result.model_dump_json(indent=1)
    if out is not None:
        write_atomic(out, text + "\n")
        note(f"validation: {out}")
    if plot is not None:
        from costmodel.plots import parity_figure, write_figure

        write_figure(plot, parity_figure(result))
        note(f"figure: {plot}")
    emit(validation_tables(result), text, output)


def _check_table(
    path: Path, hardware: str | None, engine: str | None, interval: float, max_error: float | None
) -> Validation:
    from costmodel.cases import check_cases, read_cases

    return check_cases(read_cases(path), hardware=hardware, engine=engine, interval=interval, max_error=max_error)


class _Design(NamedTuple):
    """How a server is asked."""

    requests: int
    repeats: int
    seed: int
    interval: float
    concurrency: str
    slots: int | None


def _ask(
    url: str, server: tuple[str, str, str], served: ServedAs, design: _Design, runs: Path, max_error: float | None
) -> Validation:
    from calibrate.check.endpoint import LiveEndpoint, validate_endpoint
    from calibrate.check.endpoint_runs import EndpointDesign
    from calibrate.commands.live_options import dialect_named, numbers
    from calibrate.engines.openai_endpoint import Endpoint
    from costmodel.progress import progress_bar

    name, dialect, api_key_env = server
    plan = LiveEndpoint(
        endpoint=Endpoint(url, name, dialect=dialect_named(dialect), api_key_env=api_key_env),
        model=served.model,
        hardware=served.hardware,
        engine=served.engine,
        dtype=served.dtype,
        design=EndpointDesign(images=served.images, held_out=design.requests, repeats=design.repeats, seed=design.seed),
        interval=design.interval,
        concurrency=numbers("--concurrency", design.concurrency),
        slots=design.slots,
    )
    with progress_bar("asking") as progress:
        return validate_endpoint(plan, runs=runs, max_error=max_error, progress=progress)


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
