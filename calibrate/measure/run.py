"""``calibrate run``: measure operators and slices of a device, then write its profile."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibrate.fit.profile import build_profile
from calibrate.measure.device import TORCH_DTYPES, Device, torch_threads
from calibrate.measure.grid import kernel_grid, slice_grid
from calibrate.measure.journal import Journal, read_journal
from calibrate.measure.kernels import kernel_items, usable_dtypes
from calibrate.measure.pool import StoppingRule, WorkItem, run_pool
from calibrate.measure.slices import SliceGrid, slice_items
from costmodel.errors import DeviceError, InputError
from costmodel.profiles import Datasheet, HardwareProfile
from costmodel.specs.model import ModelSpec

__all__ = ["CalibrationPlan", "calibrate_device"]

Progress = Callable[[float, str], None]

# Shapes of GEMMs and of each attention, in full and quick: the laws of a CPU have four coefficients, those of a GPU up
# to twenty, and want two rows for each.
_SHAPES = {"cpu": {False: (28, 12), True: (16, 8)}, "gpu": {False: (120, 100), True: (48, 44)}}
# Share of the time that goes to operators; slices tell more about a model, operators about all others.
_KERNEL_SHARE = 0.3


@dataclass(frozen=True, slots=True)
class CalibrationPlan:
    """What to measure and for how long.

    Attributes
    ----------
    dtype
        Number format of the slices; operators are measured at every format that the device runs well.
    budget_s
        Bound on the measuring time; building the models comes on top.
    grid
        Sizes of the slices, where those of ordinary models do not fit.
    """

    models: tuple[ModelSpec, ...]
    engine: str
    dtype: str
    budget_s: float
    quick: bool
    seed: int
    grid: SliceGrid | None = None

    def __post_init__(self) -> None:
        if self.dtype not in TORCH_DTYPES:
            raise DeviceError(f"dtype {self.dtype!r}: expected one of {', '.join(TORCH_DTYPES)}")
        if not 0 < self.budget_s < math.inf:
            raise InputError(f"budget is {self.budget_s} s, expected more than 0")


def calibrate_device(
    device: Device,
    plan: CalibrationPlan,
    *,
    measurements: Path,
    datasheet: Datasheet | None,
    progress: Progress,
) -> HardwareProfile:
    """Measure into ``measurements`` (going on where it stopped), then fit.

    Raises
    ------
    MeasurementError
        If the file holds measurements of another environment.
    FitError
        If what was measured cannot determine the coefficients.
    """
    with torch_threads(device), Journal(measurements, device.describe()) as journal:
        _measure(device, plan, journal, progress)
    environment, rows = read_journal(measurements)
    return build_profile(
        measurements,
        environment["environment"],
        rows,
        device_facts=_facts(device),
        datasheet=datasheet,
    )


def _measure(device: Device, plan: CalibrationPlan, journal: Journal, progress: Progress) -> None:
    gemms, attentions = _SHAPES["cpu" if device.kind == "cpu" else "gpu"][plan.quick]
    grid = kernel_grid(device, gemm_shapes=gemms, attention_shapes=attentions, seed=plan.seed)
    kernels = kernel_items(device, dtypes=usable_dtypes(device), grid=grid)
    share = _KERNEL_SHARE if plan.models else 1.0
    rule = StoppingRule(relative_stderr=0.03, least_samples=3, most_sweeps=8, most_s=plan.budget_s * share)
    run_pool(kernels, device, journal, rule=rule, seed=plan.seed, progress=_part(progress, 0.0, share))
    if not plan.models:
        return
    items = _slices(device, plan, progress)
    rule = StoppingRule(relative_stderr=0.015, most_s=plan.budget_s * (1 - share))
    run_pool(items, device, journal, rule=rule, seed=plan.seed, progress=_part(progress, share, 1.0))


def _slices(device: Device, plan: CalibrationPlan, progress: Progress) -> Sequence[WorkItem]:
    items: list[WorkItem] = []
    for model in plan.models:
        progress(_KERNEL_SHARE, f"building slices of {model.name}")
        items += slice_items(
            model,
            device,
            dtype=plan.dtype,
            engine=plan.engine,
            grid=plan.grid or slice_grid(quick=plan.quick),
            seed=plan.seed,
        )
    return items


def _part(progress: Progress, start: float, end: float) -> Progress:
    return lambda share, what: progress(start + share * (end - start), what)


def _facts(device: Device) -> dict[str, Any]:
    return {
        "kind": device.kind,
        "memory_bytes": device.memory_bytes(),
        "cache_bytes": device.cache_bytes(),
        "multiprocessors": device.multiprocessors(),
    }
