"""``costmodel calibrate …``: measure a device, fit its coefficients, and what belongs to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from calibrate.commands import engine as cli_engine
from calibrate.commands import fit as cli_fit
from calibrate.commands import fleet as cli_fleet
from calibrate.commands import preprocess as cli_preprocess
from costmodel.render import note

__all__ = ["app"]

app = typer.Typer(help="Measure a device and fit its coefficients.", no_args_is_help=True, rich_markup_mode=None)


cli_fit.register(app)
cli_engine.register(app)
cli_fleet.register(app)
cli_preprocess.register(app)


@app.command()
def run(
    out: Annotated[Path, typer.Option(help="Profile to write.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    model: Annotated[list[str] | None, typer.Option(help="Model to measure slices of; repeatable.")] = None,
    engine: Annotated[str, typer.Option(help="Engine that the slices stand for.")] = "hf-eager",
    dtype: Annotated[str | None, typer.Option(help="Number format of the slices (CPU: fp32, CUDA: bf16).")] = None,
    datasheet: Annotated[str | None, typer.Option(help="Key of the device, for its maker's peaks.")] = None,
    measurements: Annotated[Path | None, typer.Option(help="Raw samples; an existing file is resumed.")] = None,
    budget_s: Annotated[float, typer.Option(help="Bound on the measuring time, in seconds.")] = 75.0,
    quick: Annotated[bool, typer.Option(help="Fewer shapes and sizes, 30 s.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of shapes and order.")] = 0,
) -> None:
    """Measure operators, and slices of the models given; write a profile.

    Killed at any moment it keeps every sample: run the same command again to go on.

    Example: costmodel calibrate run --device auto --model Qwen/Qwen3-VL-2B-Instruct --out profile.json
    """
    from calibrate.commands.progress import progress_bar
    from calibrate.measure.device import open_device
    from calibrate.measure.run import CalibrationPlan, calibrate_device
    from costmodel import load_engine, load_hardware, load_model
    from costmodel.files import check_writable, write_atomic

    check_writable(out)
    target = open_device(device, threads=threads)
    plan = CalibrationPlan(
        models=tuple(load_model(name) for name in model or ()),
        engine=load_engine(engine).key,
        dtype=dtype or ("fp32" if target.kind == "cpu" else "bf16"),
        budget_s=min(budget_s, 25.0) if quick else budget_s,
        quick=quick,
        seed=seed,
    )
    with progress_bar("calibrating") as progress:
        profile = calibrate_device(
            target,
            plan,
            measurements=measurements or out.with_suffix(".jsonl"),
            datasheet=load_hardware(datasheet).datasheet if datasheet else None,
            progress=progress,
        )
    write_atomic(out, profile.model_dump_json(indent=1) + "\n")
    for line in profile.provenance.notes:
        note(line)
    note(f"profile: {out} ({profile.key})")


@app.command()
def pair(
    out: Annotated[Path, typer.Option(help="Folder to write the configs to.")],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads.")] = 1,
) -> None:
    """Choose a small and a large model sized for the machine; print their names, one a line.

    Example: costmodel calibrate pair --out build/demo
    """
    from calibrate.check.demo_pair import write_demo_pair
    from calibrate.measure.device import open_device

    for name in write_demo_pair(out, open_device(device, threads=threads)):
        typer.echo(name)
