"""Tables of real end-to-end runs (one a row, CSV), and predictions for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from costmodel.csv_text import read_csv
from costmodel.errors import CostModelError, MeasurementError
from costmodel.families.sources import load_model
from costmodel.predict import Forecast, Latency, estimate
from costmodel.profiles import EngineProfile, HardwareProfile, load_engine, load_hardware
from costmodel.specs.base import Frozen
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload
from costmodel.validation import (
    STAGES,
    SkippedCase,
    Validation,
    ValidationRow,
    overall,
    row_of,
    score_stage,
)

__all__ = ["Case", "case_forecast", "case_latency", "check_cases", "read_cases"]

_REQUIRED = ("case_id", "model", "hardware", "engine", "dtype", "prompt_tokens", "output_tokens")

Verdict = Literal["passed", "failed", "inconclusive", "unjudged"]


class Case(Frozen):
    """One real run.

    Attributes
    ----------
    measured_s
        Times by stage, those that the table has.
    """

    case_id: str
    model: str
    hardware: str
    engine: str
    dtype: str
    quantization: str
    num_devices: int
    workload: Workload
    measured_s: dict[str, float]


def read_cases(path: Path) -> tuple[Case, ...]:
    """Read a case table.

    Raises
    ------
    InputError
        If the file is no table.
    MeasurementError
        If a column is missing, or a cell is not what its column holds; names row and column.
    """
    columns, rows = read_csv(path)
    missing = [name for name in _REQUIRED if name not in columns]
    times = [stage for stage in STAGES if f"{stage}_s" in columns]
    if missing or not times:
        expected = ", ".join(missing) or "at least one of " + ", ".join(f"{stage}_s" for stage in STAGES)
        raise MeasurementError(f"{path.name}: missing column(s) {expected}")
    return tuple(_case(row, times, f"{path.name}: row {number}") for number, row in enumerate(rows, start=2))


def _case(row: Mapping[str, str | None], times: Sequence[str], where: str) -> Case:
    def number(name: str, default: int | None = None) -> int:
        text = (row.get(name) or "").strip()
        if not text and default is not None:
            return default
        try:
            return int(text)
        except ValueError:
            raise MeasurementError(f"{where}: column {name} is {text!r}, expected an integer") from None

    def seconds(name: str) -> float:
        text = (row.get(name) or "").strip()
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise MeasurementError(f"{where}: column {name} is {text!r}, expected seconds")
        return value

    images = tuple(ImageSize.parse(text) for text in (row.get("images") or "").split(";") if text.strip())
    return Case(
        case_id=row["case_id"] or "",
        model=row["model"] or "",
        hardware=row["hardware"] or "",
        engine=row["engine"] or "",
        dtype=row["dtype"] or "",
        quantization=row.get("quantization") or "none",
        num_devices=number("num_devices", 1),
        workload=Workload(
            images=images,
            prompt_tokens=number("prompt_tokens"),
            output_tokens=number("output_tokens"),
            batch=number("batch", 1),
        ),
        measured_s={stage: seconds(f"{stage}_s") for stage in times if (row.get(f"{stage}_s") or "").strip()},
    )


def check_cases(
    cases: Sequence[Case],
    *,
    hardware: str | None = None,
    engine: str | None = None,
    interval: float = 0.9,
    max_error: float | None = None,
) -> Validation:
    """Predict every case and compare.

    Parameters
    ----------
    hardware, engine
        Profile to use for all cases instead of the one that each names.
    max_error
        Largest mean absolute relative error that passes.
    """
    rows: list[ValidationRow] = []
    skipped: list[SkippedCase] = []
    for case in cases:
        try:
            rows += _predicted_rows(case, hardware or case.hardware, engine or case.engine, interval)
        except CostModelError as error:
            skipped.append(SkippedCase(case_id=case.case_id, reason=str(error)))
    stages = {stage: tuple(row for row in rows if row.stage == stage) for stage in STAGES}
    summary = overall(rows)
    verdict, reasons = _verdict(summary["mape"], max_error)
    return Validation(
        hardware=", ".join(sorted({hardware or case.hardware for case in cases})),
        engine=", ".join(sorted({engine or case.engine for case in cases})),
        dtype=", ".join(sorted({case.dtype for case in cases})),
        interval=interval,
        n=len(cases) - len(skipped),
        **summary,
        share_undisturbed=None,
        verdict=verdict,
        reasons=reasons,
        stages=tuple(score_stage(stage, found, limit=None) for stage, found in stages.items() if found),
        rows=tuple(rows),
        skipped=tuple(skipped),
    )


def _verdict(mape: float | None, max_error: float | None) -> tuple[Verdict, tuple[str, ...]]:
    if mape is None:
        return "inconclusive", ("no case could be predicted",)
    if max_error is None:
        return "unjudged", ()
    if mape > max_error:
        return "failed", (f"mean error {mape:.1%} is above {max_error:.1%}",)
    return "passed", ()


def case_latency(case: Case, hardware: HardwareProfile, engine: EngineProfile, *, interval: float = 0.9) -> Latency:
    """Predict the stages of one case; errors as :func:`case_forecast`."""
    return case_forecast(case, hardware, engine).latency(interval)


def case_forecast(case: Case, hardware: HardwareProfile, engine: EngineProfile, *, errors: bool = True) -> Forecast:
    """Estimates of one case, and with ``errors`` their sources of error.

    Raises
    ------
    CostModelError
        If its model, number format or request can't be predicted.
    """
    return estimate(
        load_model(case.model),
        hardware,
        engine,
        case.workload,
        dtype=case.dtype,
        quantization=case.quantization,
        num_devices=case.num_devices,
        errors=errors,
    )


def _predicted_rows(case: Case, hardware: str, engine: str, interval: float) -> list[ValidationRow]:
    latency = case_latency(case, load_hardware(hardware), load_engine(engine), interval=interval)
    return [
        row_of(case.case_id, case.model, stage, (measured_s,), getattr(latency, f"{stage}_s"))
        for stage, measured_s in case.measured_s.items()
        if measured_s > 0
    ]
