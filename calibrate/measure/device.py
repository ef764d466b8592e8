"""The device under test: timing marks, synchronisation, and what it is.

Everything that differs between a CPU and a CUDA device is in this file and in :mod:`calibrate.measure.telemetry`.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

from costmodel.errors import DeviceError
from costmodel.units import MILLI

__all__ = ["TORCH_DTYPES", "Call", "CpuDevice", "CudaDevice", "Device", "Mark", "open_device", "torch_threads"]

TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# L2 of a core where the operating system does not tell.
_CPU_CACHE_BYTES = 2 * 1024 * 1024


# Libraries pick their kernels and allocate their workspaces in the first calls.
_CALLS_BEFORE_CAPTURE = 3

Call = Callable[[], Any]


class Mark(Protocol):
    """A point in a device's time."""


class Device(Protocol):
    """What the measuring code needs to know of a device."""

    @property
    def kind(self) -> str:
        """``cpu`` or ``cuda``."""

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""

    def mark(self) -> Mark:
        """A point in the device's stream of work."""

    def elapsed_s(self, start: Mark, end: Mark) -> float:
        """Seconds between two marks; waits for the second."""

    def synchronize(self) -> None:
        """Wait until the device is idle."""

    def batch(self, call: Call, repeats: int) -> Call:
        """A call that makes ``repeats`` calls with as little of the host as the device allows."""

    def flush_cache(self) -> None:
        """Push what was used last out of the cache."""

    def describe(self) -> dict[str, str]:
        """Name, driver and versions."""

    def memory_bytes(self) -> int:
        """Memory that models can use."""

    def cache_bytes(self) -> int:
        """Last-level cache of the device's own."""

    def multiprocessors(self) -> int:
        """Independent units that run work: threads of a CPU, streaming multiprocessors of a GPU."""


@dataclass(frozen=True)
class CpuDevice:
    """The host's CPU, with a fixed number of threads."""

    threads: int
    kind: str = "cpu"

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device("cpu")

    def mark(self) -> Mark:
        """Wall-clock time: CPU work is done when the call returns."""
        return time.perf_counter()

    def elapsed_s(self, start: Mark, end: Mark) -> float:
        """Difference of two marks."""
        if not (isinstance(start, float) and isinstance(end, float)):
            raise DeviceError("marks are of another device")
        return end - start

    def synchronize(self) -> None:
        """Do nothing: calls return when the work is done."""

    def batch(self, call: Call, repeats: int) -> Call:
        """A plain loop: the host is the device."""

        def loop() -> None:
            for _ in range(repeats):
                call()

        return loop

    def flush_cache(self) -> None:
        """Do nothing: operands come from a buffer that is larger than the cache."""

    def describe(self) -> dict[str, str]:
        """CPU model, threads, versions."""
        return {
            "name": _cpu_name(),
            "threads": str(self.threads),
            "torch": torch.__version__,
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        }

    def memory_bytes(self) -> int:
        """Physical memory."""
        return int(psutil.virtual_memory().total)

    def cache_bytes(self) -> int:
        """L2 of one core."""
        return _CPU_CACHE_BYTES

    def multiprocessors(self) -> int:
        """Threads in use."""
        return self.threads


@dataclass(frozen=True)
class CudaDevice:
    """One CUDA GPU, timed by events in its own stream."""

    index: int
    kind: str = "cuda"

    @property
    def torch_device(self) -> torch.device:
        """The device as torch names it."""
        return torch.device("cuda", self.index)

    def mark(self) -> Mark:
        """An event recorded in the current stream."""
        event: torch.cuda.Event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record(torch.cuda.current_stream(self.torch_device))
        return event

    def elapsed_s(self, start: Mark, end: Mark) -> float:
        """Time between two events, which torch gives in milliseconds."""
        if not (isinstance(start, torch.cuda.Event) and isinstance(end, torch.cuda.Event)):
            raise DeviceError("marks are of another device")
        end.synchronize()
        return float(start.elapsed_time(end)) * MILLI

    def synchronize(self) -> None:
        """Wait for all streams of the device."""
        torch.cuda.synchronize(self.torch_device)

    def batch(self, call: Call, repeats: int) -> Call:
        """A CUDA graph of the calls: its replay costs one launch, so that the time is the device's own.

        Captured after a few calls on a side stream, as the torch documentation of ``torch.cuda.graph`` asks for.
        """
        current = torch.cuda.current_stream(self.torch_device)
        side = torch.cuda.Stream(self.torch_device)  # type: ignore[no-untyped-call]
        side.wait_stream(current)
        with torch.cuda.stream(side):
            for _ in range(_CALLS_BEFORE_CAPTURE):
                call()
        current.wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=_graph_pool(self.index)):
            for _ in range(repeats):
                call()
        return graph.replay

    def flush_cache(self) -> None:
        """Write a buffer of twice the L2 cache."""
        torch.empty(2 * self.cache_bytes(), dtype=torch.int8, device=self.torch_device).zero_()

    def describe(self) -> dict[str, str]:
        """GPU name, compute capability, versions."""
        properties = torch.cuda.get_device_properties(self.torch_device)
        return {
            "name": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "torch": torch.__version__,
            "cuda": str(torch.version.cuda),
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        }

    def memory_bytes(self) -> int:
        """Memory of the GPU."""
        return int(torch.cuda.get_device_properties(self.torch_device).total_memory)

    def cache_bytes(self) -> int:
        """L2 cache."""
        return int(torch.cuda.get_device_properties(self.torch_device).L2_cache_size)

    def multiprocessors(self) -> int:
        """Streaming multiprocessors."""
        return int(torch.cuda.get_device_properties(self.torch_device).multi_processor_count)


def open_device(name: str, *, threads: int = 1) -> Device:
    """Open ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    DeviceError
        If there is no such device.
    """
    kind, _, index = name.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (index and not index.isdigit()):
        raise DeviceError(f"device {name!r}: expected auto, cpu, cuda or cuda:N")
    if threads < 1:
        raise DeviceError(f"threads is {threads}, expected 1 or more")
    if kind == "cpu" or (kind == "auto" and not torch.cuda.is_available()):
        return CpuDevice(threads=threads)
    number = int(index or 0)
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        raise DeviceError(f"device {name!r}: torch sees {count} CUDA device(s); use cpu or auto")
    return CudaDevice(index=number)


@cache
def _graph_pool(index: int) -> Any:
    """Memory that the graphs of one device share: their outputs are never read, and no two run at once."""
    with torch.cuda.device(index):
        return torch.cuda.graph_pool_handle()


@contextmanager
def torch_threads(device: Device) -> Iterator[None]:
    """Run with the device's number of threads, on that device, and without gradients."""
    before = torch.get_num_threads()
    if isinstance(device, CpuDevice):
        torch.set_num_threads(device.threads)
    # Graphs are captured on a stream of the current device, which is the first one unless told otherwise.
    current = torch.cuda.device(device.torch_device) if isinstance(device, CudaDevice) else nullcontext()
    try:
        with torch.inference_mode(), current:
            yield
    finally:
        torch.set_num_threads(before)


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
