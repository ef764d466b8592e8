"""``costmodel validate``: predictions against real runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from costmodel.render import Format, emit, note

__all__ = ["validate"]


def validate(
    small: Annotated[str, typer.Option(help="The small model, as for predict --model.")],
    large: Annotated[str, typer.Option(help="The large model.")],
    hardware: Annotated[str, typer.Option(help="Profile of this device, written by calibrate run.")],
    engine: Annotated[str, typer.Option(help="Engine that is run.")] = "hf-eager",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Number format (CPU: fp32, CUDA: bf16).")] = None,
    cases: Annotated[int, typer.Option(help="Requests that both models answer.")] = 12,
    repeats: Annotated[int, typer.Option(help="Runs of each case and model.")] = 3,
    budget_s: Annotated[float, typer.Option(help="No run is begun after this many seconds.")] = 90.0,
    runs: Annotated[Path, typer.Option(help="Raw runs; an existing file is resumed.")] = Path("runs.jsonl"),
    interval: Annotated[float, typer.Option(help="Probability that the intervals hold.")] = 0.9,
    gate: Annotated[bool, typer.Option(help="Exit with 1 unless the check passes.")] = True,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the cases and of their order.")] = 1,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
    out: Annotated[Path | None, typer.Option(help="Also write the result as JSON to this file.")] = None,
) -> None:
    """Run both models for real, interleaved, and compare with the prediction stage by stage.

    The models have random weights at their true architecture; image sizes, prompts and answer lengths are not those
    of the calibration.

    Example: costmodel validate --small build/demo/small --large build/demo/large --hardware build/demo/profile.json
    """
    from calibrate.check import check_runs
    from calibrate.device import open_device
    from calibrate.live import plan_cases, run_live
    from calibrate.progress import progress_bar
    from costmodel import load_engine, load_hardware, load_model
    from costmodel.files import write_atomic
    from costmodel.tables import validation_tables

    specs = (load_model(small), load_model(large))
    profile, stack = load_hardware(hardware), load_engine(engine)
    target = open_device(device, threads=threads)
    number_format = dtype or ("fp32" if target.kind == "cpu" else "bf16")
    planned = plan_cases(*specs, profile, stack, count=cases, dtype=number_format, seed=seed)
    with progress_bar("running") as progress:
        rows = run_live(
            planned,
            specs,
            target,
            dtype=number_format,
            runs=runs,
            repeats=repeats,
            budget_s=budget_s,
            seed=seed,
            progress=progress,
        )
    result = check_runs(
        planned,
        rows,
        small=specs[0],
        large=specs[1],
        hardware=profile,
        engine=stack,
        dtype=number_format,
        interval=interval,
    )
    text = result.model_dump_json(indent=1)
    if out is not None:
        write_atomic(out, text + "\n")
        note(f"validation: {out}")
    emit(validation_tables(result), text, output)
    if gate and result.verdict != "passed":
        raise typer.Exit(1)
