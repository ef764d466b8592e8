"""``costmodel calibrate fit | import | evaluate | rebuild``: from recorded kernel timings to profiles and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from costmodel.render import Format, emit, note

__all__ = ["evaluate", "fit", "import_rows", "rebuild", "register"]

_MAX_SAMPLES = 200


def fit(
    rows: Annotated[list[Path], typer.Argument(help="Measurement tables: .csv, .parquet or .jsonl.")],
    hardware: Annotated[str, typer.Option(help="Key or path of a profile, or path of a datasheet.")],
    out: Annotated[Path, typer.Option(help="Profile to write.")],
    max_samples_per_op: Annotated[int, typer.Option(help="Rows per operator and number format.")] = _MAX_SAMPLES,
) -> None:
    """Fit the operator laws to recorded kernel timings, and slices where there are any; write a profile.

    Rows that cannot be used are dropped, named and counted; an operator whose fit is degenerate gets no law.

    Example: costmodel calibrate fit rows.parquet --hardware h200-sxm --out profile.json
    """
    from calibrate.accuracy.rebuild import base_profile, fitted_profile, profile_text
    from calibrate.fit.profile import with_slices
    from calibrate.tables.operators import read_tables
    from costmodel.errors import FitError
    from costmodel.files import write_atomic
    from costmodel.profiles import Provenance

    tables = read_tables(rows)
    for reason, count in sorted(tables.dropped.items()):
        note(f"dropped {count} rows: {reason}")
    provenance = Provenance(
        measured_by=f"rows of {', '.join(path.name for path in rows)}, fitted by costmodel calibrate fit",
        date=datetime.now(UTC).date().isoformat(),
    )
    profile = fitted_profile(base_profile(hardware), tables, provenance, max_samples=max_samples_per_op)
    profile = with_slices(profile, rows)
    refused = [text for text in profile.provenance.notes if text.startswith("no law for")]
    if not profile.laws:
        raise FitError(f"no operator could be fitted, no profile is written: {'; '.join(refused)}")
    for text in profile.provenance.notes:
        if text in refused or text.endswith("faster than the datasheet allows"):
            note(text)
    write_atomic(out, profile_text(profile.model_dump(exclude_none=True)))
    note(f"profile: {out} ({len(profile.laws)} laws)")


def import_rows(
    gpu: Annotated[str, typer.Option(help="GPU, as the source or a profile spells it.")],
    out: Annotated[Path, typer.Option(help="Table to write: .parquet or .csv.")],
    source: Annotated[str, typer.Option("--from", help="Where from: aiconfigurator.")] = "aiconfigurator",
    stack: Annotated[str, typer.Option(help="Software stack: vllm, sglang or trtllm.")] = "vllm",
) -> None:
    """Convert kernel tables that others measured to rows in seconds.

    Example: costmodel calibrate import --from aiconfigurator --gpu h200_sxm --stack vllm --out rows.parquet
    """
    from calibrate.tables.columns import write_columns
    from calibrate.tables.importers import import_tables
    from costmodel.errors import UnknownKeyError

    if source != "aiconfigurator":
        raise UnknownKeyError("source", source, ["aiconfigurator"])
    imported = import_tables(gpu, stack)
    write_columns(imported.columns, out)
    for reason, count in sorted(imported.columns.unreadable.items()):
        note(f"left out {count} rows: {reason}")
    for table, version in imported.sources.items():
        note(f"{table}: {version}")
    note(f"rows: {out} ({imported.columns.rows})")


def evaluate(
    rows: Annotated[list[Path], typer.Argument(help="Measurement tables: .csv, .parquet or .jsonl.")],
    profile: Annotated[str, typer.Option(help="Key or path of the profile to score.")],
    interval: Annotated[float, typer.Option(help="Probability that the intervals are to hold.")] = 0.9,
    plot: Annotated[Path | None, typer.Option(help="Draw predicted over measured to this .html or .png.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Score a profile on rows that it was not fitted on.

    Example: costmodel calibrate evaluate rows.parquet --profile h200-sxm --format json
    """
    from calibrate.accuracy.evaluate import evaluate as score
    from calibrate.accuracy.report import accuracy_tables
    from calibrate.tables.operators import read_tables
    from costmodel import load_hardware

    tables = read_tables(rows)
    for reason, count in sorted(tables.dropped.items()):
        note(f"dropped {count} rows: {reason}")
    hardware = load_hardware(profile)
    result = score(hardware, tables, interval=interval)
    if plot is not None:
        from calibrate.accuracy.evaluate import held_out_points
        from costmodel.plots import kernel_figure, write_figure

        write_figure(plot, kernel_figure(f"Held-out kernels of {hardware.key}", held_out_points(hardware, tables)))
        note(f"figure: {plot}")
    emit(accuracy_tables([result]), result.model_dump_json(indent=1), output)


def rebuild(
    folder: Annotated[Path, typer.Option(help="Folder of the profiles.")] = Path("hardware_profiles"),
    accuracy_doc: Annotated[Path | None, typer.Option(help="Page to write the accuracy tables to.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Refit every profile that comes from public tables, and the priors learned from all of them; print the accuracy.

    Example: costmodel calibrate rebuild --accuracy-doc docs/accuracy.md
    """
    import json

    from calibrate.accuracy.evaluate import evaluate as score
    from calibrate.accuracy.rebuild import rebuild_all, rebuild_priors
    from calibrate.accuracy.report import accuracy_tables, left_out_table, page
    from costmodel.files import write_atomic

    tables, profiles, scores = {}, {}, []
    for profile, table_set in rebuild_all(folder, date=datetime.now(UTC).date().isoformat()):
        tables[profile.key], profiles[profile.key] = table_set, profile
        scores.append(score(profile, table_set))
        note(f"{profile.key}: {len(profile.laws)} laws")
    left_out = rebuild_priors(folder, tables, profiles)
    if accuracy_doc is not None:
        write_atomic(accuracy_doc, page(scores, left_out))
    text = json.dumps([entry.model_dump() for entry in scores])
    emit([*accuracy_tables(scores), left_out_table(left_out)], text, output)


def register(app: typer.Typer) -> None:
    """Add these commands to the calibrate commands."""
    app.command("fit")(fit)
    app.command("import")(import_rows)
    app.command("evaluate")(evaluate)
    app.command("rebuild")(rebuild)
