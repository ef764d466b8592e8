"""``costmodel calibrate engine``: an engine's host costs, or one model's laws, from end-to-end runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from costmodel.errors import InputError
from costmodel.files import check_writable
from costmodel.options import complete_engine, complete_hardware, complete_model
from costmodel.progress import progress_bar
from costmodel.render import Format, Table, emit, note

if TYPE_CHECKING:
    from calibrate.engines.dialects import Dialect
    from calibrate.fit.engine import EngineFit, HoldOut
    from costmodel.cases import Case

__all__ = ["engine", "engine_tables", "register"]

_HOLD_OUTS = ("shapes", "hardware", "model")

Start = Annotated[
    str,
    typer.Option(
        "--engine", help="Engine to start from, which keeps what isn't fitted.", autocompletion=complete_engine
    ),
]
Hardware = Annotated[
    str | None, typer.Option(help="Device of the runs; a table names its own.", autocompletion=complete_hardware)
]
Model = Annotated[
    str | None, typer.Option(help="Live: the model served, as for predict --model.", autocompletion=complete_model)
]


def engine(
    out: Annotated[Path, typer.Option(help="Profile to write: of the engine; live with --law: of the hardware.")],
    cases: Annotated[list[Path] | None, typer.Option(help="Table of real runs (CSV); repeatable.")] = None,
    endpoint: Annotated[str | None, typer.Option(help="Live: address of an OpenAI-compatible server.")] = None,
    start: Start = "",
    hardware: Hardware = None,
    quantization: Annotated[
        str | None, typer.Option(help="Tables: only the runs quantised so, for example none.")
    ] = None,
    hold_out: Annotated[
        str, typer.Option(help="Left out in turn for the check: shapes, hardware or model.")
    ] = "shapes",
    model: Model = None,
    served_model: Annotated[str, typer.Option(help="Live: what the server calls it (its first one).")] = "",
    dtype: Annotated[str, typer.Option(help="Live: number format to file the law under.")] = "bf16",
    law: Annotated[bool, typer.Option(help="Live: fit prefill and decode of this model, not the host terms.")] = False,
    image: Annotated[list[str] | None, typer.Option(help="Live: WIDTHxHEIGHT to ask about; repeatable.")] = None,
    repeats: Annotated[int, typer.Option(help="Live: runs of each request.")] = 3,
    runs: Annotated[Path | None, typer.Option(help="Live: raw runs; an existing file is resumed.")] = None,
    dialect: Annotated[str, typer.Option(help="Live: auto, openai, vllm, sglang, llama.cpp or transformers.")] = "auto",
    api_key_env: Annotated[str, typer.Option(help="Live: variable that holds the key.")] = "OPENAI_API_KEY",
    seed: Annotated[int, typer.Option(help="Live: seed of prompts and order.")] = 0,
    interval: Annotated[float, typer.Option(help="Probability that the intervals hold.")] = 0.9,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Fit an engine from a table of runs, or from requests made to an endpoint.

    Says which terms the runs determine, and scores runs that the fit did not see. Live runs are kept: run the same
    command again to go on.

    Example: costmodel calibrate engine --cases runs.csv --engine vllm-0.7.2 --out engine.json
    """
    if bool(cases) == bool(endpoint):
        raise InputError("expected either --cases or --endpoint")
    if hold_out not in _HOLD_OUTS:
        raise InputError(f"--hold-out is {hold_out!r}, expected one of {', '.join(_HOLD_OUTS)}")
    check_writable(out)
    if endpoint is None:
        rows = _cases(cases or [], quantization)
        _from_cases(rows, start, hardware, cast("HoldOut", hold_out), out=out, output=output)
        return
    if not model or not hardware:
        raise InputError("--endpoint needs --model and --hardware: what is served, and on what")
    from calibrate.check.endpoint import LiveEndpoint, calibrate_endpoint
    from calibrate.check.endpoint_runs import EndpointDesign
    from calibrate.engines.openai_endpoint import Endpoint
    from costmodel.specs.images import ImageSize

    plan = LiveEndpoint(
        endpoint=Endpoint(endpoint, served_model, dialect=_dialect(dialect), api_key_env=api_key_env),
        model=model,
        hardware=hardware,
        engine=start or "llama.cpp",
        dtype=dtype,
        design=EndpointDesign(images=tuple(ImageSize.parse(text) for text in image or ()), repeats=repeats, seed=seed),
        interval=interval,
    )
    with progress_bar("asking") as progress:
        result = calibrate_endpoint(plan, law=law, runs=runs or out.with_suffix(".jsonl"), progress=progress)
    result.write(out)
    emit(result.tables(), result.json_text(), output)
    note(f"profile: {out}")


def _cases(paths: list[Path], quantization: str | None) -> list[Case]:
    from costmodel.cases import read_cases

    rows = [case for path in paths for case in read_cases(path)]
    chosen = [case for case in rows if quantization in (None, case.quantization)]
    if not chosen:
        found = ", ".join(sorted({case.quantization for case in rows})) or "no runs"
        raise InputError(f"no run is quantised as {quantization!r}; the tables have {found}")
    return chosen


def _from_cases(
    rows: list[Case], start: str, hardware: str | None, hold_out: HoldOut, *, out: Path, output: Format
) -> None:
    from calibrate.fit.engine import fit_engine
    from costmodel import load_engine
    from costmodel.files import write_atomic

    names = sorted({case.engine for case in rows})
    if not start and len(names) != 1:
        raise InputError(f"the runs are of {len(names)} engines ({', '.join(names)}); name one with --engine")
    with progress_bar("fitting"):
        fit = fit_engine(rows, load_engine(start or names[0]), hardware=hardware, hold_out=hold_out)
    write_atomic(out, fit.engine.model_dump_json(indent=1) + "\n")
    emit(engine_tables(fit), fit.model_dump_json(indent=1), output)
    note(f"profile: {out}")


def _dialect(text: str) -> Dialect:
    from calibrate.engines.dialects import DIALECTS

    if text not in DIALECTS:
        raise InputError(f"--dialect is {text!r}, expected one of {', '.join(DIALECTS)}")
    return cast("Dialect", text)


def engine_tables(fit: EngineFit) -> tuple[Table, Table]:
    """Terms with their errors, then the scores of the runs left out."""
    from costmodel.units import format_seconds

    terms = Table(
        title=f"host costs of {fit.engine.key}, from {fit.rows} measured stages (mean error {fit.mape:.1%})",
        columns=("term", "value", "standard error", "source", "note"),
        rows=tuple(
            (
                term.name,
                format_seconds(term.coefficient.value),
                format_seconds(term.coefficient.stderr),
                term.coefficient.source,
                term.note,
            )
            for term in fit.terms
        ),
        footer=tuple(f"left out {case.case_id}: {case.reason}" for case in fit.skipped[:3])
        + ((f"and {len(fit.skipped) - 3} more",) if len(fit.skipped) > 3 else ()),
    )
    scores = Table(
        title=f"runs that the fit did not see ({fit.hold_out} held out)",
        columns=("runs", "n", "mean error", "median", "worst", "bias"),
        rows=tuple(
            (
                score.group,
                str(score.n),
                f"{score.mape:.1%}",
                f"{score.median_ape:.1%}",
                f"{score.worst_ape:.1%}",
                f"{score.bias:+.1%}",
            )
            for score in fit.held_out
        ),
    )
    return terms, scores


def register(app: typer.Typer) -> None:
    """Add the command to ``costmodel calibrate``."""
    app.command()(engine)
