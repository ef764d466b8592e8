"""``costmodel calibrate fleet``: every distinct accelerator of a Ray cluster, and how far devices of a kind differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.render import Format, Table, emit, note

if TYPE_CHECKING:
    from calibrate.fleet.run import Accelerator

__all__ = ["fleet", "register"]


def fleet(
    ray: Annotated[str, typer.Option(help="Address of the Ray cluster: HOST:PORT, ray://HOST:PORT, auto or local.")],
    out: Annotated[Path, typer.Option(help="Folder for profiles and samples.")],
    each: Annotated[int, typer.Option(help="Devices of each accelerator; their spread widens the intervals.")] = 2,
    model: Annotated[list[str] | None, typer.Option(help="Model to measure slices of; repeatable.")] = None,
    engine: Annotated[str, typer.Option(help="Engine that the slices stand for.")] = "hf-eager",
    dtype: Annotated[str, typer.Option(help="Number format of the slices.")] = "bf16",
    budget_s: Annotated[float, typer.Option(help="Bound on the measuring time of a device, in seconds.")] = 75.0,
    quick: Annotated[bool, typer.Option(help="Fewer shapes and sizes, 25 s.")] = False,
    threads: Annotated[int, typer.Option(help="CPU threads, where a node has no GPU.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of shapes and order: the same for all devices.")] = 0,
    run: Annotated[
        str, typer.Option(help="Name of the run: the same name goes on with the samples on the nodes.")
    ] = "1",
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Calibrate every distinct accelerator of a cluster, each device with exclusive use.

    Exit status 1: an accelerator of which no device could be calibrated.

    Example: costmodel calibrate fleet --ray auto --each 2 --out fleet
    """
    import json

    from calibrate.fleet.run import FleetPlan, calibrate_fleet
    from calibrate.measure.run import CalibrationPlan
    from costmodel import load_engine, load_model
    from costmodel.cluster import connected
    from costmodel.files import check_writable
    from costmodel.progress import progress_bar

    check_writable(out / "fleet.json")
    calibration = CalibrationPlan(
        models=tuple(load_model(name) for name in model or ()),
        engine=load_engine(engine).key,
        dtype=dtype,
        budget_s=min(budget_s, 25.0) if quick else budget_s,
        quick=quick,
        seed=seed,
    )
    plan = FleetPlan(calibration, each=each, threads=threads, run=run)
    with connected(ray) as cluster, progress_bar("calibrating the fleet") as progress:
        found = calibrate_fleet(cluster, plan, out, progress)
    for accelerator in found:
        for failure in accelerator.failures:
            note(f"failed: {failure}")
    emit([_table(found)], json.dumps([_summary(each_) for each_ in found], indent=1), output)
    if any(accelerator.profile is None for accelerator in found):
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fleet")(fleet)


def _summary(accelerator: Accelerator) -> dict[str, object]:
    spread, profile = accelerator.spread, accelerator.profile
    effects = spread.effects if spread else ()
    return {
        "accelerator": accelerator.name,
        "profile": profile.key if profile else None,
        "device_log_sd": spread.device_log_sd if spread else None,
        "devices": [
            {"name": each.device.name, "effect": effect, "run_log_sd": each.profile.run_log_sd}
            for each, effect in zip(accelerator.measured, effects, strict=True)
        ],
        "failures": list(accelerator.failures),
    }


def _table(found: list[Accelerator]) -> Table:
    rows = []
    for accelerator in found:
        spread = accelerator.spread
        effects = ", ".join(f"{effect:+.1%}" for effect in spread.effects) if spread else ""
        key = accelerator.profile.key if accelerator.profile else "none: all failed"
        between = f"{spread.device_log_sd:.2%}" if spread else ""
        rows.append((accelerator.name, key, str(len(accelerator.measured)), effects, between))
    return Table("", ("accelerator", "profile", "devices", "against their mean", "spread"), tuple(rows))
