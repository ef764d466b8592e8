"""``costmodel calibrate preprocess``: what an image costs the host before the device sees it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.render import Format, Table, emit, note

if TYPE_CHECKING:
    from calibrate.measure.preprocess import PreprocessResult

__all__ = ["preprocess", "processor_tables", "register"]


def preprocess(
    hardware: Annotated[str, typer.Option(help="Key or path of the profile to add the result to.")],
    out: Annotated[Path, typer.Option(help="Profile to write.")],
    model: Annotated[
        list[str] | None, typer.Option(help="Model whose processor to run; repeatable. One for each kind if not given.")
    ] = None,
    measurements: Annotated[Path | None, typer.Option(help="Raw samples; an existing file is resumed.")] = None,
    budget_s: Annotated[float, typer.Option(help="Bound on the measuring time, in seconds.")] = 60.0,
    threads: Annotated[int, typer.Option(help="CPU threads of torch; the processors use one.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of the order.")] = 0,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Time image processors of transformers (PIL and numpy) on this machine, fit them, score held-out image sizes.

    Example: costmodel calibrate preprocess --model Qwen/Qwen3-VL-8B-Instruct --hardware profile.json --out profile.json
    """
    from calibrate.engines.image_processors import PROCESSED_RULES
    from calibrate.measure.preprocess import PreprocessPlan, calibrate_preprocess
    from costmodel import load_hardware, load_model
    from costmodel.families.sources import preset_names
    from costmodel.files import check_writable, write_atomic
    from costmodel.progress import progress_bar

    check_writable(out)
    profile = load_hardware(hardware)
    specs = [load_model(name) for name in model or preset_names()]
    chosen = {getattr(spec.image_rule, "rule", ""): spec for spec in reversed(specs)}
    if not model:
        chosen = {rule: chosen[rule] for rule in PROCESSED_RULES if rule in chosen}
    plan = PreprocessPlan(tuple(chosen.values()), budget_s=budget_s, seed=seed, threads=threads)
    with progress_bar("calibrating") as progress:
        result = calibrate_preprocess(
            plan, measurements=measurements or out.with_suffix(".processors.jsonl"), progress=progress
        )
    fitted = profile.model_copy(update={"processors": {**profile.processors, **result.fits}})
    write_atomic(out, fitted.model_dump_json(indent=1) + "\n")
    emit(processor_tables(result), result.model_dump_json(indent=1), output)
    note(f"profile: {out}")


def processor_tables(result: PreprocessResult) -> tuple[Table, Table]:
    """Coefficients with their errors, then the scores of held-out image sizes."""
    from costmodel.units import format_seconds

    coefficients = Table(
        title="what an image costs the host",
        columns=("processor", "per", "value", "standard error"),
        rows=tuple(
            (rule, name, format_seconds(value.value), format_seconds(value.stderr))
            for rule, fit in result.fits.items()
            for name, value in fit.coefficients.items()
        ),
    )
    scores = Table(
        title="image sizes that the fit did not see",
        columns=("processor", "n", "mean error", "worst", "bias", "noise floor", "undisturbed"),
        rows=tuple(
            (
                score.rule,
                str(score.n),
                f"{score.mape:.1%}",
                f"{score.worst_ape:.1%}",
                f"{score.bias:+.1%}",
                f"{score.noise_floor:.1%}",
                f"{score.undisturbed:.0%}",
            )
            for score in result.scores
        ),
    )
    return coefficients, scores


def register(app: typer.Typer) -> None:
    """Add the command to ``costmodel calibrate``."""
    app.command()(preprocess)
