"""Validate a profile by live runs of a pair of models: plan the requests, run them, compare."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from calibrate.check.runs import LiveCase, design_cases, run_cases
from calibrate.check.verdict import check_runs
from calibrate.engines.local_transformers import LocalModel
from calibrate.measure.device import Device, torch_threads
from calibrate.measure.journal import Journal, read_journal
from costmodel.breakeven import break_even
from costmodel.errors import WorkloadError
from costmodel.families.sources import load_model
from costmodel.profiles import EngineProfile, HardwareProfile, load_engine, load_hardware
from costmodel.quantity import normal_quantile
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload
from costmodel.validation import Validation

__all__ = ["LivePlan", "plan_cases", "validate_live"]

_LARGE_OUTPUT_TOKENS = (6, 10, 14)
# How far past the predicted break-even the small model runs: the measured one lies before, unless the prediction is
# off by more than this.
_PAST_BREAK_EVEN = 1.25
_LEAST_SMALL_TOKENS = 8


@dataclass(frozen=True, slots=True)
class LivePlan:
    """What to run, and what to compare it with.

    Attributes
    ----------
    small, large, hardware, engine
        As :func:`~costmodel.load_model`, :func:`~costmodel.load_hardware` and :func:`~costmodel.load_engine` take them.
    requests, repeats
        Requests that both models answer, and runs of each.
    budget_s
        No run is begun after this many seconds.
    """

    small: str
    large: str
    hardware: str
    engine: str
    dtype: str
    requests: int
    repeats: int
    budget_s: float
    seed: int
    interval: float


def validate_live(plan: LivePlan, device: Device, *, runs: Path, progress: Callable[[float, str], None]) -> Validation:
    """Run both models for real and compare; ``runs`` keeps every run and is resumed.

    Raises
    ------
    WorkloadError
        If the plan can't be run, or compares a model with itself.
    MeasurementError
        If ``runs`` holds runs of another plan.
    """
    small, large = load_model(plan.small), load_model(plan.large)
    _check_plan(plan, small, large)
    hardware, engine = load_hardware(plan.hardware), load_engine(plan.engine)
    cases = plan_cases(small, large, hardware, engine, count=plan.requests, dtype=plan.dtype, seed=plan.seed)
    design = repr((cases, small.fingerprint(), large.fingerprint(), plan.dtype))
    environment = {**device.describe(), "design": hashlib.sha256(design.encode()).hexdigest()[:16]}
    with torch_threads(device), Journal(runs, environment) as journal:
        run_cases(
            cases,
            {spec.name: LocalModel(spec, device, dtype=plan.dtype) for spec in (small, large)},
            device,
            journal,
            repeats=plan.repeats,
            budget_s=plan.budget_s,
            seed=plan.seed,
            progress=progress,
        )
    return check_runs(
        cases,
        read_journal(runs)[1],
        small=small,
        large=large,
        hardware=hardware,
        engine=engine,
        dtype=plan.dtype,
        interval=plan.interval,
    )


def _check_plan(plan: LivePlan, small: ModelSpec, large: ModelSpec) -> None:
    """Refuse before anything is measured what would fail afterwards."""
    normal_quantile(plan.interval)
    for name, got in (("requests", plan.requests), ("repeats", plan.repeats)):
        if got < 1:
            raise WorkloadError(f"{name} is {got}, expected 1 or more")
    if not plan.budget_s >= 0:
        raise WorkloadError(f"budget is {plan.budget_s} s, expected 0 or more")
    if small.name == large.name:
        raise WorkloadError(f"both models are called {small.name!r}: their runs could not be told apart; rename one")


def plan_cases(
    small: ModelSpec,
    large: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    *,
    count: int,
    dtype: str,
    seed: int,
) -> list[LiveCase]:
    """Held-out requests with the output lengths of both models."""
    cases = []
    for case_id, image, prompt, large_tokens in design_cases(
        count, large_output_tokens=_LARGE_OUTPUT_TOKENS, seed=seed
    ):
        request = Workload(images=(image,), prompt_tokens=prompt, output_tokens=1)
        point = break_even(
            small, large, hardware, engine, request, large_output_tokens=large_tokens, dtype=dtype
        ).break_even_output_tokens
        reach = math.ceil(_PAST_BREAK_EVEN * point.value) if point else 0
        tokens = {small.name: max(reach, _LEAST_SMALL_TOKENS), large.name: large_tokens}
        cases.append(LiveCase(case_id, image, prompt, tokens))
    return cases
