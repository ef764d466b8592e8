"""``costmodel calibrate engine``: an engine's host costs, or one model's laws, from end-to-end runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from costmodel.errors import InputError
from costmodel.files import check_writable
from costmodel.options import complete_engine, complete_hardware, complete_model
from costmodel.progress import progress_bar
from costmodel.render import Format, Table, emit, note

if TYPE_CHECKING:
    from calibrate.check.endpoint import LiveEndpoint
    from calibrate.fit.engine import EngineFit, HoldOut
    from costmodel.cases import Case
    from costmodel.profiles import SliceProfile

__all__ = ["TableFit", "engine", "engine_tables", "law_table", "register"]

_HOLD_OUTS = ("shapes", "hardware", "model", "none")
_LeftOut = Annotated[str, typer.Option(help="Left out in turn for the check: shapes, hardware, model or none.")]
_Quantization = Annotated[str | None, typer.Option(help="Tables: only the runs quantised so, for example none.")]
_Kernels = Annotated[bool, typer.Option(help="Tables: fit also how well the engine's GEMMs use each device.")]
_Relearn = Annotated[bool, typer.Option(help="Tables: forget what earlier runs showed of the engine's kernels.")]

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
    quantization: _Quantization = None,
    hold_out: _LeftOut = "shapes",
    kernels: _Kernels = False,
    relearn: _Relearn = False,
    model: Model = None,
    served_model: Annotated[str, typer.Option(help="Live: what the server calls it (its first one).")] = "",
    dtype: Annotated[str, typer.Option(help="Live: number format to file the law under.")] = "bf16",
    law: Annotated[bool, typer.Option(help="Live: fit prefill and decode of this model, not the host terms.")] = False,
    image: Annotated[list[str] | None, typer.Option(help="Live: WIDTHxHEIGHT to ask about; repeatable.")] = None,
    repeats: Annotated[int, typer.Option(help="Live: runs of each request.")] = 3,
    concurrency: Annotated[
        str, typer.Option(help="Live with --law: requests sent together as well, for example 2,4.")
    ] = "",
    quick: Annotated[bool, typer.Option(help="Live: fewer and shorter requests.")] = False,
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
        table_fit = TableFit(start, hardware, cast("HoldOut", hold_out), kernels=kernels, relearn=relearn)
        _from_cases(rows, table_fit, out=out, output=output)
        return
    if not model or not hardware:
        raise InputError("--endpoint needs --model and --hardware: what is served, and on what")
    from calibrate.check.endpoint import LiveEndpoint
    from calibrate.check.endpoint_runs import EndpointDesign
    from calibrate.commands.live_options import dialect_named, numbers
    from calibrate.engines.openai_endpoint import Endpoint
    from costmodel.specs.images import ImageSize

    design = EndpointDesign(images=tuple(map(ImageSize.parse, image or ())), repeats=repeats, seed=seed)
    server = Endpoint(endpoint, served_model, dialect=dialect_named(dialect), api_key_env=api_key_env)
    together = numbers("--concurrency", concurrency)
    design = replace(design, prompt_words=(8, 40, 120), output_tokens=(4, 20)) if quick else design
    plan = LiveEndpoint(server, model, hardware, start or "llama.cpp", dtype, design, interval, together)
    _from_requests(plan, runs or out.with_suffix(".jsonl"), law=law, out=out, output=output)


def _from_requests(plan: LiveEndpoint, runs: Path, *, law: bool, out: Path, output: Format) -> None:
    from calibrate.check.endpoint import calibrate_endpoint
    from costmodel.progress import progress_bar

    with progress_bar("asking") as progress:
        result = calibrate_endpoint(plan, law=law, runs=runs, progress=progress)
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


@dataclass(frozen=True, slots=True)
class TableFit:
    """How a table of runs is fitted, see :func:`~calibrate.fit.engine.fit_engine`."""

    start: str
    hardware: str | None
    hold_out: HoldOut
    kernels: bool
    relearn: bool


def _from_cases(rows: list[Case], plan: TableFit, *, out: Path, output: Format) -> None:
    from calibrate.fit.engine import fit_engine
    from calibrate.fit.engine_file import engine_text
    from costmodel import load_engine
    from costmodel.files import write_atomic

    names = sorted({case.engine for case in rows})
    if not plan.start and len(names) != 1:
        raise InputError(f"the runs are of {len(names)} engines ({', '.join(names)}); name one with --engine")
    with progress_bar("fitting"):
        fit = fit_engine(
            rows,
            load_engine(plan.start or names[0]),
            hardware=plan.hardware,
            hold_out=plan.hold_out,
            kernels=plan.kernels,
            relearn=plan.relearn,
        )
    write_atomic(out, engine_text(fit.engine))
    emit(engine_tables(fit), fit.model_dump_json(indent=1), output)
    note(f"profile: {out}")


def engine_tables(fit: EngineFit) -> tuple[Table, ...]:
    """Terms with their errors, then the scores of the runs left out."""
    terms = Table(
        title=f"terms of {fit.engine.key}, from {fit.rows} measured stages (mean error {fit.mape:.1%})",
        columns=("term", "value", "standard error", "source", "note"),
        rows=tuple(
            (
                term.name,
                _number(term.name, term.coefficient.value),
                _number(term.name, term.coefficient.stderr),
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
    return (terms, scores) if scores.rows else (terms,)


def _number(name: str, value: float) -> str:
    from costmodel.units import format_seconds

    return format_seconds(value) if name.endswith("_s") else f"{value:.3g}"


def law_table(law: SliceProfile) -> Table:
    """Coefficients of one model's law; those that the requests can't tell are named below."""
    rows, untold = [], []
    for name, fit in law.components.items():
        if not fit.rows:
            continue
        rows += [
            (name, feature, f"{value.value:.4g}", f"{value.stderr:.2g}", f"{fit.lowest[feature]:.4g}", f"{high:.4g}")
            for feature, value in fit.coefficients.items()
            if (high := fit.highest.get(feature)) is not None
        ]
        # Of several sizes that never change, one takes the constant, and the others can't be told from it.
        constant = [feature for feature in fit.highest if fit.lowest[feature] == fit.highest[feature]]
        for feature in sorted(set(fit.highest) - set(fit.coefficients)):
            same = feature in constant and any(each in fit.coefficients for each in constant)
            why = "the same in all requests" if same else "at its bound of 0, or a mixture of the others"
            untold.append(f"{name}: {feature} is not told apart: {why}")
    return Table(
        title=f"law of {law.model} under {law.engine}, {law.dtype}: seconds a unit",
        columns=("component", "per", "value", "standard error", "from", "to"),
        rows=tuple(rows),
        footer=tuple(untold),
    )


def register(app: typer.Typer) -> None:
    """Add the command to ``costmodel calibrate``."""
    app.command()(engine)
