"""What fits on a device: the largest batch and context of a request, and what would help where it does not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from costmodel import program
from costmodel.memory import Memory, WouldFit, memory_of, workspace_bytes
from costmodel.ops import dtype_of
from costmodel.profiles import Datasheet
from costmodel.program import QUANTIZATIONS, Options
from costmodel.specs.model import ModelSpec

__all__ = ["Demand", "largest_batch", "largest_context", "with_limits", "would_fit"]

_MOST_DEVICES, _LARGEST_BATCH = 64, 2**20

# Schemes that users choose; those of llama.cpp come with its files.
_SCHEMES = tuple(name for name in QUANTIZATIONS if not name.startswith("gguf-"))


@dataclass(frozen=True, slots=True)
class Demand:
    """A request on a model, as far as memory goes; fields as the parameters of :func:`~costmodel.memory.memory_of`."""

    model: ModelSpec
    options: Options
    context_tokens: int
    largest_pass_tokens: int
    patches: int
    cross_tokens: int
    batch: int

    def memory(self, sheet: Datasheet) -> Memory:
        """Bytes on each device."""
        return memory_of(
            self.model,
            context_tokens=self.context_tokens,
            largest_pass_tokens=min(self.largest_pass_tokens, self.context_tokens),
            patches=self.patches,
            cross_tokens=self.cross_tokens,
            batch=self.batch,
            options=self.options,
            capacity_bytes=sheet.memory_bytes,
            workspace_bytes=workspace_bytes(sheet.kind, self.options.num_devices),
        )

    def fits(self, sheet: Datasheet, **changed: Any) -> bool:
        """Whether it fits with some fields changed."""
        return dataclasses.replace(self, **changed).memory(sheet).fits


def largest_batch(demand: Demand, sheet: Datasheet) -> int:
    """Most equal requests that fit together; 0 where not even one does. Memory grows linearly with the batch."""
    one, two = (dataclasses.replace(demand, batch=batch).memory(sheet).total_bytes for batch in (1, 2))
    guess = int(1 + (sheet.memory_bytes - one) / (two - one)) if one <= sheet.memory_bytes else 0
    # Rounding may move the guess by one.
    batch = min(guess + 1, _LARGEST_BATCH)
    while batch and not demand.fits(sheet, batch=batch):
        batch -= 1
    return batch


def largest_context(demand: Demand, sheet: Datasheet) -> int:
    """Most tokens that each request may reach; 0 where not even one fits.

    The passes of its prefill stay as long as they are: what is longer is generated, or prefilled in chunks.
    """
    limit = demand.model.decoder.max_context_tokens
    return _largest(lambda tokens: demand.fits(sheet, context_tokens=tokens), limit)


def _largest(fits: Callable[[int], bool], limit: int) -> int:
    """Largest number up to a limit that fits, by bisection: memory never falls when a size grows."""
    if fits(limit):
        return limit
    low, high = 0, limit
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def would_fit(demand: Demand, sheet: Datasheet, devices: Mapping[str, Datasheet]) -> WouldFit:
    """Single changes after which a request fits.

    Parameters
    ----------
    demand
        A request that does not fit.
    sheet
        The device.
    devices
        Other devices by their keys.
    """
    smaller = sorted(devices.items(), key=lambda entry: (entry[1].memory_bytes, entry[0]))
    return WouldFit(
        context_tokens=largest_context(demand, sheet) or None,
        batch=largest_batch(demand, sheet) or None,
        num_devices=next(iter(_degrees(demand, sheet)), None),
        quantizations=tuple(_schemes(demand, sheet)),
        hardware=tuple(key for key, other in smaller if _runs(demand.options, other) and demand.fits(other)),
    )


def _degrees(demand: Demand, sheet: Datasheet) -> Iterable[int]:
    """Degrees of tensor parallelism, beyond the present one, that share the heads out evenly and fit."""
    heads = [group.attention.query_heads for group in demand.model.decoder.layers]
    for count in range(demand.options.num_devices + 1, _MOST_DEVICES + 1):
        options = dataclasses.replace(demand.options, num_devices=count)
        if not any(number % count for number in heads) and demand.fits(sheet, options=options):
            yield count


def _schemes(demand: Demand, sheet: Datasheet) -> Iterable[str]:
    """Schemes in which the device has a peak and the request fits."""
    for scheme in _SCHEMES:
        plain = dataclasses.replace(demand.options, quantization=scheme, stored=None)
        options = program.as_stored(plain, demand.model)
        if _runs(options, sheet) and demand.fits(sheet, options=options):
            yield scheme


def _runs(options: Options, sheet: Datasheet) -> bool:
    return all(dtype_of(name).compute in sheet.peak_flops_per_s for name in (options.dtype, options.linear_dtype))


def with_limits(demand: Demand, sheet: Datasheet, devices: Callable[[], Mapping[str, Datasheet]]) -> Memory:
    """Memory of a request with the largest batch and context that fit; ``devices`` is asked only where it doesn't."""
    memory = demand.memory(sheet)
    limits: dict[str, Any] = {
        "largest_batch": largest_batch(demand, sheet),
        "largest_context_tokens": largest_context(demand, sheet),
    }
    if not memory.fits:
        limits["would_fit"] = would_fit(demand, sheet, devices())
    return memory.model_copy(update=limits)
