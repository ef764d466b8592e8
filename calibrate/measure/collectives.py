"""Collectives over several devices, one process each: rows of the measurement schema from rank 0.

Started by torchrun, with NCCL on GPUs and gloo on CPUs::

    torchrun --nproc-per-node 8 -m calibrate.measure.collectives --out collectives.jsonl
    costmodel calibrate fit collectives.jsonl … --hardware h100-sxm --out profile.json
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import distributed

from calibrate.measure.device import TORCH_DTYPES, Device, open_device
from calibrate.measure.journal import Journal

__all__ = ["measure_collectives"]

_WARM_UP_CALLS = 5
_SAMPLES = 15
_LEAST_BYTES, _MOST_BYTES = 1 << 10, 1 << 28


def measure_collectives(device: Device, *, dtype: str, most_bytes: int, sizes: int) -> list[dict[str, Any]]:
    """Time all-reduce and all-gather over message sizes from 1 KiB to ``most_bytes``.

    Every rank takes part; a sample is the time of the slowest one, which is what the others wait for.

    Returns
    -------
    list of dict
        Rows of the measurement schema; ``bytes`` is the message, of the whole group for an all-gather.
    """
    ratio = (most_bytes / _LEAST_BYTES) ** (1 / max(sizes - 1, 1))
    world = distributed.get_world_size()
    rows = []
    for index in range(sizes):
        element_bytes = torch.empty(0, dtype=TORCH_DTYPES[dtype]).element_size()
        elements = max(world, round(_LEAST_BYTES * ratio**index / element_bytes) // world * world)
        message = torch.ones(elements, dtype=TORCH_DTYPES[dtype], device=device.torch_device)
        share = message[: elements // world].clone()
        calls: dict[str, Callable[[], Any]] = {
            "all_reduce": partial(distributed.all_reduce, message),
            "all_gather": partial(distributed.all_gather_into_tensor, message, share),
        }
        for op, call in calls.items():
            samples = _samples(call, device)
            quartiles = statistics.quantiles(samples, n=4)
            rows.append(
                {
                    "op": op,
                    "dtype": dtype,
                    "bytes": elements * element_bytes,
                    "num_devices": world,
                    "latency_s": statistics.median(samples),
                    "iqr_s": quartiles[2] - quartiles[0],
                    "samples": len(samples),
                    "raw_s": samples,
                }
            )
    return rows


def _samples(call: Callable[[], Any], device: Device) -> list[float]:
    times = []
    for sample in range(_WARM_UP_CALLS + _SAMPLES):
        distributed.barrier()
        device.synchronize()
        start = time.perf_counter()
        call()
        device.synchronize()
        slowest = torch.tensor(time.perf_counter() - start, dtype=torch.float64, device=device.torch_device)
        distributed.all_reduce(slowest, op=distributed.ReduceOp.MAX)
        if sample >= _WARM_UP_CALLS:
            times.append(float(slowest))
    return times


def main(
    out: Annotated[Path, typer.Option(help="JSONL file to write.")],
    dtype: Annotated[str, typer.Option(help="Number format of the messages.")] = "bf16",
    most_bytes: Annotated[int, typer.Option(help="Largest message.")] = _MOST_BYTES,
    sizes: Annotated[int, typer.Option(help="Message sizes between 1 KiB and the largest.")] = 24,
) -> None:
    """Measure collectives; to be started by torchrun."""
    distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    rank = distributed.get_rank()
    try:
        device = open_device(f"cuda:{rank % torch.cuda.device_count()}" if torch.cuda.is_available() else "cpu")
        if device.kind == "cuda":
            torch.cuda.set_device(device.torch_device)
        rows = measure_collectives(device, dtype=dtype, most_bytes=most_bytes, sizes=sizes)
        if rank == 0:
            with Journal(out, device.describe()) as journal:
                for row in rows:
                    journal.append(row)
    finally:
        distributed.destroy_process_group()


if __name__ == "__main__":
    typer.run(main)
