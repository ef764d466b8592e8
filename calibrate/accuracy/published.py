"""Engines against published runs: each fitted on one part of a table, scored on the other.

What is left out is never fitted on, in any of the checks; the halves are by design (:mod:`calibrate.fit.engine`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibrate.accuracy.published_runs import Slope, encoder_runs, encoder_slopes, stage_cases
from calibrate.fit.engine import fit_engine, halves_of
from costmodel import load_engine, load_hardware, load_model
from costmodel.cases import Case, case_latency, read_cases
from costmodel.profiles import EngineProfile
from costmodel.specs.base import Frozen
from costmodel.validation import ValidationRow, row_of

__all__ = ["CHECKS", "PublishedCheck", "PublishedScore", "check_published"]

Progress = Callable[[str], None]

TEXT_TABLE, VLM_TABLE = "llm_single_stream.csv", "vlm_single_stream.csv"
STAGES_TABLE, ENCODER_TABLE = "jetson_thor_stages.csv", "vit_a100.csv"
CHECKS = ("text", "images", "device", "model", "stages", "encoder")


class PublishedScore(Frozen):
    """Errors of one group of runs that no term was fitted on, relative to the measured time.

    Attributes
    ----------
    check
        What was fitted, and what was left out.
    wanted
        Largest mean error that was asked for.
    wanted_worst
        Largest error of a single run that was asked for.
    """

    check: str
    group: str
    n: int
    mape: float
    median_ape: float
    worst_ape: float
    bias: float
    coverage: float
    wanted: float | None = None
    wanted_worst: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether it is as good as was asked for."""
        if self.wanted is None:
            return None
        return self.mape <= self.wanted and (self.wanted_worst is None or self.worst_ape <= self.wanted_worst)


class PublishedCheck(Frozen):
    """What ``costmodel validate --published`` prints as JSON.

    Attributes
    ----------
    rows
        Predictions of runs left out: half of the text shapes in turn, and the other device of the images.
    """

    schema_version: int = 1
    interval: float
    scores: tuple[PublishedScore, ...]
    slopes: tuple[Slope, ...]
    rows: tuple[ValidationRow, ...]


@dataclass(frozen=True, slots=True)
class _Checked:
    """One predicted stage of a run left out."""

    case: Case
    row: ValidationRow


def check_published(
    folder: Path,
    *,
    interval: float = 0.9,
    only: Sequence[str] = CHECKS,
    progress: Progress = lambda _: None,
) -> PublishedCheck:
    """Run every check whose table is there.

    Parameters
    ----------
    folder
        Of the tables.
    only
        Which of :data:`CHECKS` to run.
    progress
        Told what is done next.
    """
    text, images = _read(folder / TEXT_TABLE), _read(folder / VLM_TABLE)
    scores: list[PublishedScore] = []
    rows: list[ValidationRow] = []
    if text and "text" in only:
        progress("text: half of the shapes")
        checked = _halves(text, interval)
        scores += _by_device_and_scheme("text, other half of the shapes", checked, bf16=0.03, quantised=0.06)
        rows += [entry.row for entry in checked]
    if text and images and "images" in only:
        progress("images: the other device")
        checked = _other_device(text, images, interval)
        check = "images: their costs from the other device, kernels from text runs"
        scores += _by_device_and_scheme(check, checked, bf16=0.04, quantised=0.08, worst_bf16=0.1)
        rows += [entry.row for entry in checked]
    parts: dict[str, Callable[[Case], str]] = {"device": lambda case: case.hardware, "model": lambda case: case.model}
    for name, part_of in parts.items():
        if text + images and name in only:
            progress(f"a {name} left out")
            checked = _left_out(text + images, part_of, interval)
            scores += _by_device_and_scheme(f"{name} never seen", checked, bf16=0.08, quantised=0.08)
    if "stages" in only and (folder / STAGES_TABLE).is_file():
        progress("stages")
        scores += _stage_scores(stage_cases(folder / STAGES_TABLE), interval)
    slopes: list[Slope] = []
    if "encoder" in only and (folder / ENCODER_TABLE).is_file():
        slopes = encoder_slopes(encoder_runs(folder / ENCODER_TABLE))
    return PublishedCheck(interval=interval, scores=tuple(scores), slopes=tuple(slopes), rows=tuple(rows))


def _read(path: Path) -> list[Case]:
    return list(read_cases(path)) if path.is_file() else []


def _engine(cases: Sequence[Case]) -> EngineProfile:
    """An engine fitted on these runs, from what was assumed of it."""
    start = load_engine(cases[0].engine)
    return fit_engine(cases, start, hold_out="none", kernels=True, relearn=True).engine


def _predicted(cases: Iterable[Case], engine: EngineProfile, interval: float) -> list[_Checked]:
    found = []
    for case in cases:
        latency = case_latency(case, load_hardware(case.hardware), engine, interval=interval)
        for stage, measured_s in case.measured_s.items():
            row = row_of(case.case_id, case.model, stage, (measured_s,), getattr(latency, f"{stage}_s"))
            found.append(_Checked(case, row))
    return found


def _halves(cases: Sequence[Case], interval: float) -> list[_Checked]:
    half = halves_of(cases)
    found = []
    for part in ("0", "1"):
        engine = _engine([case for case in cases if half(case) != part])
        found += _predicted((case for case in cases if half(case) == part), engine, interval)
    return found


def _other_device(text: Sequence[Case], images: Sequence[Case], interval: float) -> list[_Checked]:
    """Kernels and step from the text runs; costs of images from one device, predictions for the others."""
    start = _engine(text)
    found = []
    for device in sorted({case.hardware for case in images}):
        seen = [case for case in images if case.hardware != device]
        engine = fit_engine(seen, start, hold_out="none").engine
        found += _predicted((case for case in images if case.hardware == device), engine, interval)
    return found


def _left_out(cases: Sequence[Case], part_of: Callable[[Case], str], interval: float) -> list[_Checked]:
    found = []
    for part in sorted({part_of(case) for case in cases}):
        engine = _engine([case for case in cases if part_of(case) != part])
        found += _predicted((case for case in cases if part_of(case) == part), engine, interval)
    return found


def _stage_scores(cases: Sequence[Case], interval: float) -> list[PublishedScore]:
    """Fitted on the models without a vision tower, scored on those with one."""
    text = [case for case in cases if load_model(case.model).vision is None]
    checked = _predicted((case for case in cases if case not in text), _engine(text), interval)
    wanted = {"tpot": 0.1, "prefill": 0.15, "encode": 0.2}
    scores = []
    for stage, limit in wanted.items():
        of_stage = [entry for entry in checked if entry.row.stage == stage]
        check = "stages of VLMs, fitted on text models"
        scores.append(_score(check, f"jetson-agx-thor {stage}", of_stage, limit))
        for scheme in sorted({entry.case.quantization for entry in of_stage}):
            some = [entry for entry in of_stage if entry.case.quantization == scheme]
            scores.append(_score(check, f"jetson-agx-thor {stage} {scheme}", some, None))
    return scores


def _by_device_and_scheme(
    check: str, checked: Sequence[_Checked], *, bf16: float, quantised: float, worst_bf16: float | None = None
) -> list[PublishedScore]:
    plain = [entry for entry in checked if entry.case.quantization == "none"]
    others = [entry for entry in checked if entry.case.quantization != "none"]
    scores = [
        _score(check, "all bf16", plain, bf16, worst_bf16),
        _score(check, "all quantised", others, quantised),
    ]
    for group in sorted({_group(entry.case) for entry in checked}):
        some = [entry for entry in checked if _group(entry.case) == group]
        is_plain = some[0].case.quantization == "none"
        scores.append(_score(check, group, some, bf16 if is_plain else quantised, worst_bf16 if is_plain else None))
    return scores


def _group(case: Case) -> str:
    return f"{case.hardware} {'bf16' if case.quantization == 'none' else case.quantization}"


def _score(
    check: str, group: str, checked: Sequence[_Checked], wanted: float | None, worst: float | None = None
) -> PublishedScore:
    errors = np.array([entry.row.error for entry in checked])
    inside = [entry.row.predicted.low <= entry.row.measured_s <= entry.row.predicted.high for entry in checked]
    return PublishedScore(
        check=check,
        group=group,
        n=len(errors),
        mape=float(np.mean(np.abs(errors))),
        median_ape=float(np.median(np.abs(errors))),
        worst_ape=float(np.max(np.abs(errors))),
        bias=float(np.mean(errors)),
        coverage=float(np.mean(inside)),
        wanted=wanted,
        wanted_worst=worst,
    )
