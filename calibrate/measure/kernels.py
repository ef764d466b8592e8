"""Operator microbenchmarks: single torch operators over a grid of shapes, tier 1.

Every item is one row of the measurement schema: an operator, its sizes, a number format.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn import functional

from calibrate.measure.device import TORCH_DTYPES, Call, Device
from calibrate.measure.grid import KernelGrid
from calibrate.measure.pool import Visit, WorkItem
from costmodel.units import MICRO

__all__ = ["kernel_items", "usable_dtypes"]

# A sample lasts at least this long, so that the clock's resolution and its own cost do not show.
_LEAST_SAMPLE_S = 2e-3
# Weights come from a ring of copies of this size, or of twice the cache, as a model streams its weights; small ones
# from so many copies at most, and the row says how many.
_RING_BYTES = 64 * 1024 * 1024
_MOST_COPIES = 16
_PROBE_SIZE = 512
_TILE_ELEMENTS = 1 << 16
_ARENA_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
# One arena a number format, and what the graphs and the libraries take: a small GPU gets smaller ones.
_ARENAS_IN_MEMORY = 8
# Number formats worth a try; a CPU has fp16 storage but seldom fp16 arithmetic.
_CANDIDATES = {"cpu": ("fp32", "bf16"), "cuda": ("fp32", "bf16", "fp16")}


def usable_dtypes(device: Device) -> tuple[str, ...]:
    """Number formats that the device runs well: fp32, and 16-bit ones whose GEMM is at least as fast."""
    times = {}
    for dtype in _CANDIDATES[device.kind]:
        matrix = torch.ones(_PROBE_SIZE, _PROBE_SIZE, dtype=TORCH_DTYPES[dtype], device=device.torch_device)
        times[dtype] = min(_time(_bound(torch.mm, matrix, matrix), 3, device) for _ in range(5))
    return tuple(dtype for dtype, seconds in times.items() if dtype == "fp32" or seconds <= times["fp32"])


def kernel_items(device: Device, *, dtypes: Sequence[str], grid: KernelGrid) -> list[WorkItem]:
    """Work items of all operators."""
    items = [_item(device, {"op": "launch", "dtype": "fp32"}, _launch(device))]
    for dtype in dtypes:
        for fields, call in _operators(device, dtype, grid):
            items.append(_item(device, {**fields, "dtype": dtype}, call))
    return items


class _Arena:
    """Operands as views of one buffer, taken in turn: shapes change, the memory in use does not."""

    def __init__(self, device: Device, dtype: str) -> None:
        size = torch.empty(0, dtype=TORCH_DTYPES[dtype]).element_size()
        tile = torch.randn(_TILE_ELEMENTS, device=device.torch_device).to(TORCH_DTYPES[dtype])
        num_bytes = min(_ARENA_BYTES[device.kind], device.memory_bytes() // _ARENAS_IN_MEMORY)
        self._buffer = tile.repeat(num_bytes // (size * _TILE_ELEMENTS))
        self._next = 0

    def tensor(self, *shape: int) -> torch.Tensor:
        """The next free view of this shape; starts over at the end of the buffer."""
        count = math.prod(shape)
        if self._next + count > self._buffer.numel():
            self._next = 0
        view = self._buffer[self._next : self._next + count].view(shape)
        self._next += count
        return view


def _operators(device: Device, dtype: str, grid: KernelGrid) -> Iterator[tuple[dict[str, Any], Call]]:
    tensor = _Arena(device, dtype).tensor
    ring_bytes = max(_RING_BYTES, 2 * device.cache_bytes())
    for m, n, k in grid.gemm:
        weights = _ring(tensor, n, k, ring_bytes)
        yield {"op": "gemm", "m": m, "n": n, "k": k, "weight_copies": len(weights)}, _gemm(tensor(m, k), weights)
    for batch, q_len, heads, kv_heads, head_dim in grid.context:
        sizes = {
            "q_len": q_len,
            "kv_len": q_len,
            **_heads(batch, heads, kv_heads, head_dim),
            "kv_dtype": dtype,
        }
        yield {"op": "attention_context", **sizes}, _attention(tensor, sizes, causal=True)
    for batch, kv_len, heads, kv_heads, head_dim in grid.generation:
        sizes = {"q_len": 1, "kv_len": kv_len, **_heads(batch, heads, kv_heads, head_dim), "kv_dtype": dtype}
        yield {"op": "attention_generation", **sizes, "kv_copies": 1}, _attention(tensor, sizes, causal=False)
    for batch, length, heads, head_dim in grid.encoder:
        sizes = {"q_len": length, "kv_len": length, **_heads(batch, heads, heads, head_dim)}
        yield {"op": "attention_encoder", **sizes}, _attention(tensor, sizes, causal=False)
    for elements in grid.elementwise:
        left, right = tensor(elements), tensor(elements)
        yield {"op": "elementwise", "bytes": 2 * left.nbytes}, _bound(torch.add, left, 1.0, out=right)
        yield {"op": "copy", "bytes": 2 * left.nbytes}, _bound(right.copy_, left)


def _heads(batch: int, heads: int, kv_heads: int, head_dim: int) -> dict[str, int]:
    return {"batch": batch, "num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim}


def _bound(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    return lambda: function(*args, **kwargs)


def _launch(device: Device) -> Call:
    tiny = torch.ones(8, device=device.torch_device)
    return lambda: tiny + 1


def _ring(tensor: Callable[..., torch.Tensor], n: int, k: int, ring_bytes: int) -> list[torch.Tensor]:
    first = tensor(n, k)
    copies = max(1, min(_MOST_COPIES, ring_bytes // first.nbytes))
    return [first, *(tensor(n, k) for _ in range(copies - 1))]


def _gemm(rows: torch.Tensor, weights: Sequence[torch.Tensor]) -> Call:
    turn = [0]

    def call() -> torch.Tensor:
        turn[0] = (turn[0] + 1) % len(weights)
        return functional.linear(rows, weights[turn[0]])

    return call


def _attention(tensor: Callable[..., torch.Tensor], sizes: dict[str, Any], *, causal: bool) -> Call:
    batch, head_dim = sizes["batch"], sizes["head_dim"]
    query = tensor(batch, sizes["num_heads"], sizes["q_len"], head_dim)
    key = tensor(batch, sizes["num_kv_heads"], sizes["kv_len"], head_dim)
    value = tensor(batch, sizes["num_kv_heads"], sizes["kv_len"], head_dim)
    grouped = sizes["num_heads"] != sizes["num_kv_heads"]
    return _bound(functional.scaled_dot_product_attention, query, key, value, is_causal=causal, enable_gqa=grouped)


def _item(device: Device, fields: dict[str, Any], call: Call) -> WorkItem:
    """One operator; ``latency_s`` is the device's own time, ``eager_s`` that of calls made one by one by the host."""
    key = "kernel/" + "/".join(f"{name}={value}" for name, value in fields.items())
    prepared: list[tuple[int, Call]] = []

    def visit() -> Sequence[Visit]:
        if not prepared:
            once_s = min(_time(call, 1, device) for _ in range(3))
            repeats = max(1, int(_LEAST_SAMPLE_S / max(once_s, MICRO)))
            prepared.append((repeats, device.batch(call, repeats)))
        repeats, batch = prepared[0]
        device.flush_cache()
        device_s = _time(batch, 1, device) / repeats
        eager_s = device_s if device.kind == "cpu" else _time(call, repeats, device)
        return (Visit("", (device_s,), {"eager_s": eager_s}),)

    return WorkItem(key, fields, visit)


def _time(call: Call, repeats: int, device: Device) -> float:
    """Seconds of one call, from ``repeats`` in a row."""
    start = device.mark()
    for _ in range(repeats):
        call()
    return device.elapsed_s(start, device.mark()) / repeats
