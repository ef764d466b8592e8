"""Plan live runs for a pair of models, and carry them out."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from calibrate.device import Device, torch_threads
from calibrate.engines.local_transformers import LocalModel
from calibrate.journal import Journal, read_journal
from calibrate.live_runs import LiveCase, design_cases, run_cases
from costmodel.breakeven import break_even
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

__all__ = ["plan_cases", "run_live"]

_LARGE_OUTPUT_TOKENS = (6, 10, 14)
# How far past the predicted break-even the small model runs: the measured one lies before, unless the prediction is
# off by more than this.
_PAST_BREAK_EVEN = 1.25
_LEAST_SMALL_TOKENS = 8


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


def run_live(
    cases: Sequence[LiveCase],
    specs: Sequence[ModelSpec],
    device: Device,
    *,
    dtype: str,
    runs: Path,
    repeats: int,
    budget_s: float,
    seed: int,
    progress: Callable[[float, str], None],
) -> list[dict[str, Any]]:
    """Run the cases into ``runs`` and return its rows; a file of other cases is refused, not mixed."""
    design = repr((cases, [spec.fingerprint() for spec in specs], dtype))
    environment = {**device.describe(), "design": hashlib.sha256(design.encode()).hexdigest()[:16]}
    with torch_threads(device), Journal(runs, environment) as journal:
        models = {spec.name: LocalModel(spec, device, dtype=dtype) for spec in specs}
        run_cases(
            cases,
            models,
            device,
            journal,
            repeats=repeats,
            budget_s=budget_s,
            seed=seed,
            progress=progress,
        )
    return read_journal(runs)[1]
