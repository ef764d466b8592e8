"""What a sweep is: planes (model, device, engine and how layers run), each over all axes, cut into numbered parts.

A part is what one worker computes and what one file holds. Which parts there are depends on the plan alone, so that
shards on different machines, and a sweep that goes on after it was stopped, agree about them.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from costmodel.predict import set_up
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.base import Frozen
from costmodel.specs.model import ModelSpec
from costmodel.sweeping.axes import AXES, Axes, Block, blocks
from costmodel.sweeping.plane import Plane

__all__ = ["PLANE_AXES", "Job", "Part", "SweepPlan"]

PLANE_AXES = ("model", "hardware", "engine", "dtype", "kv_dtype", "quantization", "tp", "prefill_chunk")

# Rows of a part: enough of them to be worth a file, and enough parts to share out.
_LEAST_ROWS = 1 << 12
_MOST_ROWS = 256 * _LEAST_ROWS
_PARTS = 64

Part = tuple[tuple[int, Block], ...]
"""Planes, each with a block of its axes."""


class SweepPlan(Frozen):
    """Values of every option; configurations are their outer product.

    Attributes
    ----------
    images
        Image sizes of a request as text, joined by ``+``; ``none`` for text only.
    """

    schema_version: Literal[1] = 1
    model: tuple[str, ...]
    hardware: tuple[str, ...]
    engine: tuple[str, ...]
    dtype: tuple[str, ...] = ("bf16",)
    kv_dtype: tuple[str | None, ...] = (None,)
    quantization: tuple[str, ...] = ("none",)
    tp: tuple[int, ...] = (1,)
    prefill_chunk: tuple[int | None, ...] = (None,)
    images: tuple[str, ...] = ("none",)
    prompt_tokens: tuple[int, ...]
    cached_prefix_tokens: tuple[int, ...] = (0,)
    output_tokens: tuple[int, ...]
    batch: tuple[int, ...] = (1,)
    interval: float | None = None
    exact: bool = False

    @cached_property
    def axes(self) -> Axes:
        """Axes of every plane, checked."""
        return Axes.of(self.images, self.prompt_tokens, self.cached_prefix_tokens, self.output_tokens, self.batch)

    @cached_property
    def planes(self) -> tuple[dict[str, Any], ...]:
        """Constants of every plane, by option."""
        values = itertools.product(*(getattr(self, name) for name in PLANE_AXES))
        return tuple(dict(zip(PLANE_AXES, chosen, strict=True)) for chosen in values)

    @property
    def size(self) -> int:
        """Number of configurations."""
        return len(self.planes) * self.axes.size

    @property
    def text(self) -> str:
        """The product in words, for example ``60 configurations = 2 model x 30 output_tokens``."""
        lengths = {name: len(getattr(self, name)) for name in (*PLANE_AXES, *AXES)}
        factors = " x ".join(f"{n} {name}" for name, n in lengths.items() if n > 1)
        return f"{self.size:,} configurations" + (f" = {factors}" if factors else "")

    @cached_property
    def parts(self) -> tuple[Part, ...]:
        """The whole sweep, cut."""
        most = min(max(math.ceil(self.size / _PARTS), _LEAST_ROWS), _MOST_ROWS)
        return tuple(_packed(self._pieces(most), most))

    def _pieces(self, most: int) -> Iterator[tuple[int, Block]]:
        for plane in range(len(self.planes)):
            for block in blocks(self.axes.shape, most):
                yield plane, block


def _packed(pieces: Iterator[tuple[int, Block]], most: int) -> Iterator[Part]:
    """Small pieces together in one part, in order."""
    part: list[tuple[int, Block]] = []
    rows = 0
    for plane, block in pieces:
        size = math.prod(each.stop - each.start for each in block)
        if part and rows + size > most:
            yield tuple(part)
            part, rows = [], 0
        part.append((plane, block))
        rows += size
    if part:
        yield tuple(part)


@dataclass(frozen=True)
class Job:
    """A plan with everything that it names: all that a worker elsewhere needs."""

    plan: SweepPlan
    models: Mapping[str, ModelSpec]
    hardware: Mapping[str, HardwareProfile]
    engines: Mapping[str, EngineProfile]

    @classmethod
    def load(cls, plan: SweepPlan) -> Job:
        """Load models and profiles.

        Raises
        ------
        UnknownKeyError, ConfigError, ProfileError, WorkloadError
            If a name is unknown, a file is unusable or an axis is impossible.
        """
        from costmodel import load_engine, load_hardware, load_model

        _ = plan.axes
        return cls(
            plan,
            {name: load_model(name) for name in plan.model},
            {name: load_hardware(name) for name in plan.hardware},
            {name: load_engine(name) for name in plan.engine},
        )

    @cached_property
    def digest(self) -> str:
        """Of the plan, and of the content of models and profiles."""
        digest = hashlib.sha256(self.plan.model_dump_json().encode())
        for group in (self.models, self.hardware, self.engines):
            for each in group.values():
                digest.update(each.model_dump_json().encode())
        return digest.hexdigest()[:16]

    def plane(self, number: int) -> Plane:
        """A plane, ready to be computed; errors as of :func:`costmodel.predict`."""
        chosen = self.plan.planes[number]
        pricer, options = set_up(
            self.models[chosen["model"]],
            self.hardware[chosen["hardware"]],
            self.engines[chosen["engine"]],
            dtype=chosen["dtype"],
            kv_dtype=chosen["kv_dtype"],
            quantization=chosen["quantization"],
            num_devices=chosen["tp"],
            chunk_tokens=chosen["prefill_chunk"],
        )
        return Plane(self.models[chosen["model"]], pricer, options, self.plan.axes, self.plan.interval, self.plan.exact)
