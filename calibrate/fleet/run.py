"""Calibrate devices of a cluster, each with exclusive use, and bring profiles and samples home."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibrate.fleet.devices import FleetDevice, chosen, find_devices, on_node
from calibrate.fleet.spread import Spread, device_spread, fleet_profile
from calibrate.measure.run import CalibrationPlan, calibrate_device
from costmodel.errors import CostModelError
from costmodel.files import write_atomic
from costmodel.profiles import HardwareProfile

__all__ = ["Accelerator", "FleetPlan", "Measured", "calibrate_fleet"]

# How often a calibration goes on after its worker died.
_RETRIES = 5

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class FleetPlan:
    """What to calibrate, and how.

    Attributes
    ----------
    each
        Devices of every accelerator.
    run
        Name of this run: samples of a calibration that was stopped are found again under it.
    """

    calibration: CalibrationPlan
    each: int
    threads: int
    run: str


@dataclass(frozen=True, slots=True)
class Measured:
    """One calibrated device."""

    device: FleetDevice
    profile: HardwareProfile
    journal: Path


@dataclass(frozen=True, slots=True)
class Accelerator:
    """All of one kind.

    Attributes
    ----------
    profile
        That stands for the kind; ``None`` where no device could be calibrated.
    failures
        What went wrong, a line for each device given up.
    """

    name: str
    measured: tuple[Measured, ...]
    spread: Spread | None
    profile: HardwareProfile | None
    failures: tuple[str, ...]


def calibrate_fleet(ray: Any, plan: FleetPlan, out: Path, progress: Progress) -> list[Accelerator]:
    """Calibrate ``plan.each`` devices of every accelerator at the same time, and write what they gave to ``out``.

    A worker that dies goes on with the samples that it has; where a node is lost, another device of its kind is
    calibrated in its stead.
    """
    waiting = chosen(find_devices(ray), plan.each)
    running: dict[Any, FleetDevice] = {}
    measured: dict[str, list[Measured]] = {name: [] for name in waiting}
    failures: dict[str, list[str]] = {name: [] for name in waiting}
    for devices in waiting.values():
        for device in [devices.pop(0) for _ in range(min(plan.each, len(devices)))]:
            running[_start(ray, plan, device)] = device
    total = len(running)
    while running:
        (ready,), _ = ray.wait(list(running), num_returns=1)
        device = running.pop(ready)
        try:
            profile, samples = ray.get(ready)
        except (ray.exceptions.RayError, CostModelError) as error:
            failures[device.accelerator].append(f"{device.name}: {_first_line(error)}")
            if waiting[device.accelerator]:
                other = waiting[device.accelerator].pop(0)
                running[_start(ray, plan, other)] = other
            continue
        journal = out / "devices" / f"{device.name}.jsonl"
        write_atomic(journal, samples)
        write_atomic(journal.with_suffix(".json"), profile)
        found = Measured(device, HardwareProfile.model_validate_json(profile), journal)
        measured[device.accelerator].append(found)
        progress(1 - len(running) / total, f"{device.name} done, {len(running)} under way")
    return [_joined(name, measured[name], failures[name], out) for name in measured]


def _joined(name: str, measured: Sequence[Measured], failures: Sequence[str], out: Path) -> Accelerator:
    if not measured:
        return Accelerator(name, (), None, None, tuple(failures))
    ordered = sorted(measured, key=lambda each: each.device.name)
    profiles = [each.profile for each in ordered]
    spread = device_spread([each.journal for each in ordered], [profile.run_log_sd for profile in profiles])
    profile = fleet_profile(profiles, [each.device.name for each in ordered], spread)
    write_atomic(out / f"{profile.key}.json", profile.model_dump_json(indent=1) + "\n")
    return Accelerator(name, tuple(ordered), spread, profile, tuple(failures))


def _start(ray: Any, plan: FleetPlan, device: FleetDevice) -> Any:
    """Begin a calibration that has its device, and for a CPU its node, to itself."""
    exclusive = {"num_gpus": 1, "num_cpus": 1} if device.kind == "cuda" else {"num_cpus": device.cpus}
    task = ray.remote(_calibrate_here).options(
        **exclusive, max_retries=_RETRIES, scheduling_strategy=on_node(ray, device.node)
    )
    return task.remote(plan, device)


def _calibrate_here(plan: FleetPlan, device: FleetDevice) -> tuple[str, str]:
    """Profile and samples of this node's device; samples are kept on the node until they are home."""
    from calibrate.measure.device import open_device

    folder = Path(tempfile.gettempdir()) / f"costmodel-fleet-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    measurements = folder / f"{plan.run}-{device.name}.jsonl"
    profile = calibrate_device(
        open_device(device.kind, threads=plan.threads),
        plan.calibration,
        measurements=measurements,
        datasheet=None,
        progress=lambda share, what: None,
    )
    return profile.model_dump_json(indent=1) + "\n", measurements.read_text(encoding="utf-8")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[-1] if lines else type(error).__name__)[:200]
