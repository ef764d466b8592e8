"""Operators of a stage under the ceilings of the device: how much work a byte gives, and what rate is predicted."""

from __future__ import annotations

from typing import Literal

import numpy as np

from costmodel.errors import UnknownKeyError
from costmodel.lawbook import law_book
from costmodel.ops import Op, dtype_of
from costmodel.predict import Forecast
from costmodel.program import Component
from costmodel.specs.base import Frozen

__all__ = ["STAGES", "Roofline", "RooflinePoint", "roofline_of"]

STAGES = ("encode", "prefill", "decode")
"""Stages that run on the device."""


class RooflinePoint(Frozen):
    """One operator, over all its executions in the stage.

    Attributes
    ----------
    component, op, kind
        Where it runs, what it is called, and its kind of kernel.
    dtype
        Format whose peak rate bounds it.
    executions
        How often it runs in the stage.
    flops, bytes, time_s
        Of all executions; the time is that of the operator laws, without the host.
    share
        Of the device time of the stage.
    bound
        The largest part of its time; ``overhead``: what neither FLOPs nor bytes explain.
    """

    component: str
    op: str
    kind: str
    dtype: str
    executions: int
    flops: float
    bytes: float
    time_s: float
    share: float
    bound: Literal["compute", "memory", "overhead"]


class Roofline(Frozen):
    """A stage on a device: for decode, one step in the middle of the answer."""

    schema_version: int = 1
    model: str
    hardware: str
    engine: str
    stage: str
    memory_bytes_per_s: float
    peak_flops_per_s: dict[str, float]
    points: tuple[RooflinePoint, ...]


def roofline_of(forecast: Forecast, stage: str) -> Roofline:
    """Points of every operator of a stage, the longest first.

    Raises
    ------
    UnknownKeyError
        If ``stage`` is none of :data:`STAGES`.
    """
    if stage not in forecast.passes:
        raise UnknownKeyError("stage", stage, forecast.passes)
    found: dict[tuple[str, str, str], list[tuple[Component, Op]]] = {}
    for component in (component for each in forecast.passes[stage] for component in each.stage.components):
        for op in component.ops:
            found.setdefault((component.name, op.name, op.kind), []).append((component, op))
    points = [_point(forecast, members) for members in found.values()]
    whole = sum(point.time_s for point in points) or 1.0
    shared = [point.model_copy(update={"share": point.time_s / whole}) for point in points]
    sheet = forecast.pricer.hardware.datasheet
    used = {point.dtype for point in points} & set(sheet.peak_flops_per_s)
    return Roofline(
        model=forecast.model.name,
        hardware=forecast.pricer.hardware.key,
        engine=forecast.pricer.engine.key,
        stage=stage,
        memory_bytes_per_s=sheet.memory_bytes_per_s,
        peak_flops_per_s={dtype: sheet.peak_flops_per_s[dtype] for dtype in sorted(used)},
        points=tuple(sorted(shared, key=lambda point: -point.time_s)),
    )


def _point(forecast: Forecast, members: list[tuple[Component, Op]]) -> RooflinePoint:
    """One operator; sizes that change from step to step are taken at their mean."""
    flops = moved = total_s = compute_s = memory_s = 0.0
    book = law_book(forecast.pricer.hardware, forecast.pricer.engine)
    for component, op in members:
        terms = book.law_of(op).terms(op)
        flops += component.count * float(np.mean(op.flops))
        moved += component.count * float(np.mean(op.bytes))
        total_s += component.count * float(np.mean(terms.total_s))
        compute_s += component.count * float(np.mean(terms.compute_s))
        memory_s += component.count * float(np.mean(terms.memory_s))
    component, op = members[0]
    largest = max(compute_s, memory_s)
    explained: Literal["compute", "memory"] = "compute" if compute_s > memory_s else "memory"
    return RooflinePoint(
        component=component.name,
        op=op.name,
        kind=op.kind,
        dtype=dtype_of(op.dtype).compute,
        executions=sum(component.count for component, _ in members),
        flops=flops,
        bytes=moved,
        time_s=total_s,
        share=0.0,
        bound=explained if total_s < 2 * largest else "overhead",
    )
