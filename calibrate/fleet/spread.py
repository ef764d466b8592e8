"""How far devices of one kind differ, and the profile that stands for all of them (equation 90)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibrate.tables.operators import OperatorTable, read_tables, shape_matrix
from costmodel.profiles import HardwareProfile

__all__ = ["Spread", "device_spread", "fleet_profile"]

Vector = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Spread:
    """Differences between devices.

    Attributes
    ----------
    effects
        Of each device: mean of log time against the mean of all devices, every operator counting the same.
    device_log_sd
        Standard deviation between devices, without what one device varies by itself.
    shapes
        Shapes that all devices have measured.
    """

    effects: tuple[float, ...]
    device_log_sd: float
    shapes: int


def device_spread(journals: Sequence[Path], run_log_sd: Sequence[float]) -> Spread:
    """Compare the kernel timings of devices.

    Parameters
    ----------
    journals
        Samples of each device, of the same shapes.
    run_log_sd
        How much each device varied during its own calibration: part of what is between two of them.
    """
    tables = [read_tables([path]).tables for path in journals]
    by_operator: list[Vector] = []
    for key in sorted(set.intersection(*(set(found) for found in tables))):
        logs = _common_shapes([found[key] for found in tables])
        if logs.shape[1]:
            by_operator.append(np.asarray(np.mean(logs - logs.mean(axis=0), axis=1)))
    if not by_operator:
        return Spread((0.0,) * len(journals), 0.0, 0)
    effects = np.mean(by_operator, axis=0)
    shapes = sum(table.rows for table in tables[0].values())
    if len(journals) < 2:
        return Spread(tuple(effects.tolist()), 0.0, shapes)
    between = float(np.var(effects, ddof=1)) - float(np.mean(np.square(run_log_sd)))
    return Spread(tuple(effects.tolist()), float(np.sqrt(max(between, 0.0))), shapes)


def _common_shapes(tables: Sequence[OperatorTable]) -> Vector:
    """Log times ``(devices, shapes)`` of the shapes that are in all tables."""
    timed: list[Mapping[tuple[float, ...], float]] = [
        dict(zip(map(tuple, shape_matrix(table.op).tolist()), np.log(table.latency_s).tolist(), strict=True))
        for table in tables
    ]
    shapes = [shape for shape in timed[0] if all(shape in other for other in timed)]
    return np.array([[found[shape] for shape in shapes] for found in timed]).reshape(len(tables), len(shapes))


def fleet_profile(profiles: Sequence[HardwareProfile], names: Sequence[str], spread: Spread) -> HardwareProfile:
    """Profile of the device in the middle, which says how far the others are from it."""
    middle = int(np.argmin(np.abs(np.array(spread.effects) - np.median(spread.effects))))
    profile = profiles[middle]
    told = [f"{name} {effect:+.1%}" for name, effect in zip(names, spread.effects, strict=True)]
    notes = (
        *profile.provenance.notes,
        f"device-to-device spread {spread.device_log_sd:.2%} of {len(profiles)} devices, {spread.shapes} shapes: "
        + ", ".join(told),
    )
    provenance = profile.provenance.model_copy(update={"measured_by": "costmodel calibrate fleet", "notes": notes})
    return profile.model_copy(update={"device_log_sd": spread.device_log_sd, "provenance": provenance})
