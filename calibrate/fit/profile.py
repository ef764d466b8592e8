"""From a journal to a hardware profile: operator laws, slices, and how much the device varies by itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from calibrate.fit.best_law import fit_best_law
from calibrate.fit.slices import fit_slices
from calibrate.measure.journal import read_journal
from calibrate.measure.samples import quiet_flags
from calibrate.measure.telemetry import ANCHOR_NAMES
from calibrate.tables.operators import OperatorTable, read_tables
from costmodel.errors import FitError, MeasurementError
from costmodel.laws import laws_for
from costmodel.profiles import Datasheet, HardwareProfile, LawFit, Provenance

__all__ = ["build_profile", "profile_key", "with_slices"]

# Operators on at least this many bytes stream from memory: their best rate is the bandwidth of a measured device.
_STREAMING_BYTES = 16 * 1024 * 1024
_ROBUST_PERCENTILES = (95, 5)
_ROBUST_SPREAD = 3.29


def profile_key(environment: Mapping[str, str]) -> str:
    """Key of a measured device: its name and threads, in lower case with dashes."""
    name = re.sub(r"[^a-z0-9]+", "-", environment["name"].lower().replace("(r)", "")).strip("-")
    return f"{name}-{environment['threads']}t" if "threads" in environment else name


def build_profile(
    journal: Path,
    environment: Mapping[str, str],
    rows: Sequence[Mapping[str, Any]],
    *,
    device_facts: Mapping[str, Any],
    datasheet: Datasheet | None = None,
) -> HardwareProfile:
    """Fit everything that a journal holds.

    Parameters
    ----------
    device_facts
        Kind, memory, cache and multiprocessors of the device, for a datasheet made of measurements.
    datasheet
        The maker's figures, where there are any; without them the best measured rates take their place.

    Raises
    ------
    FitError
        If the rows cannot determine the coefficients.
    """
    tables = _kernel_tables(journal)
    sheet = datasheet or _measured_datasheet(tables, device_facts)
    laws, notes = _laws(tables, sheet)
    flags = quiet_flags(rows)
    samples = [flag for row, flag in zip(rows, flags, strict=True) if "latency_s" in row]
    notes += (f"{sum(samples)} of {len(samples)} samples undisturbed",)
    return HardwareProfile(
        key=profile_key(environment),
        name=environment["name"],
        vendor=environment["name"].split()[0].replace("(R)", ""),
        datasheet=sheet,
        laws=laws,
        slices=fit_slices(rows),
        run_log_sd=_drift(rows),
        provenance=Provenance(
            measured_by="costmodel calibrate run",
            date=datetime.now(UTC).date().isoformat(),
            software=dict(environment),
            notes=notes,
        ),
    )


def with_slices(profile: HardwareProfile, files: Sequence[Path]) -> HardwareProfile:
    """The profile with the slices that journals among ``files`` hold; other tables have none."""
    for path in files:
        rows = _journal_rows(path)
        if any(row.get("op") == "slice" for row in rows):
            profile = profile.model_copy(update={"slices": fit_slices(rows), "run_log_sd": _drift(rows)})
    return profile


def _journal_rows(path: Path) -> Sequence[Mapping[str, Any]]:
    try:
        return read_journal(path)[1] if path.suffix == ".jsonl" else ()
    except MeasurementError:
        return ()


def _kernel_tables(journal: Path) -> dict[str, OperatorTable]:
    return dict(read_tables([journal]).tables)


def _laws(tables: Mapping[str, OperatorTable], sheet: Datasheet) -> tuple[dict[str, LawFit], tuple[str, ...]]:
    laws, notes = {}, []
    for key, table in tables.items():
        kind, _, dtype = key.partition("/")
        try:
            laws[key] = fit_best_law(table, laws_for(kind, dtype, device_kind=sheet.kind), sheet)
        except FitError as error:
            notes.append(f"no law for {key}: {error}")
    return laws, tuple(notes)


def _measured_datasheet(tables: Mapping[str, OperatorTable], facts: Mapping[str, Any]) -> Datasheet:
    """Best measured rates: what the device does, not what its maker promises."""
    peaks: dict[str, float] = {}
    bandwidths = []
    for key, table in tables.items():
        kind, _, dtype = key.partition("/")
        if kind == "gemm":
            peaks[dtype] = float(np.max(table.op.flops / table.latency_s))
        if kind in ("copy", "elementwise"):
            size = np.asarray(table.op.bytes)
            bandwidths += list((size / table.latency_s)[size >= _STREAMING_BYTES])
    if not peaks or not bandwidths:
        raise FitError("no GEMM or no copy was measured: the device's peaks are unknown; run the kernels again")
    return Datasheet(
        peak_flops_per_s=peaks,
        memory_bytes_per_s=float(max(bandwidths)),
        references=("best rates measured by costmodel calibrate run",),
        **facts,
    )


def _drift(rows: Sequence[Mapping[str, Any]]) -> float:
    """Robust spread of the device's speed during the calibration: log standard deviation of the anchors."""
    spreads = []
    for name in ANCHOR_NAMES:
        logs = np.log([row[name] for row in rows if row.get("op") == "anchor"])
        high, low = np.percentile(logs, _ROBUST_PERCENTILES)
        spreads.append((high - low) / _ROBUST_SPREAD)
    return float(np.mean(spreads))
