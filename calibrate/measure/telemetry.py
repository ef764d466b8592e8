"""What disturbs a measurement: other work on the machine, and a device that slows itself down.

Anchors are three fixed pieces of work (a GEMM, a stream through memory, many tiny operators), timed before and after
the samples. A shared machine changes speed without showing it in its load, so that anchors tell more than load does.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import psutil
import pynvml
import torch

from calibrate.measure.device import CudaDevice, Device
from costmodel.units import MEGA, MILLI

__all__ = ["ANCHOR_NAMES", "Anchors", "DeviceState", "anchor_limits", "anchor_row", "is_quiet", "read_state"]

_GEMM_SIZE = 512
_STREAM_ELEMENTS = 25 * 1024 * 1024
_TINY_OPERATORS = 300

# A sample counts only between anchors that are no slower than this much above the 20th percentile of all anchors.
_ANCHOR_TOLERANCE = 1.2
_ANCHOR_PERCENTILE = 20
# Less CPU time than this share of the wall time means that the process was not running all the time.
_LEAST_CPU_SHARE = 0.97

ANCHOR_NAMES = ("gemm_s", "stream_s", "tiny_s")


class Anchors:
    """Fixed work to compare the machine with itself."""

    def __init__(self, device: Device) -> None:
        self._device = device
        with torch.device(device.torch_device):
            self._matrix = torch.ones(_GEMM_SIZE, _GEMM_SIZE)
            self._stream = torch.ones(_STREAM_ELEMENTS)
            self._tiny = torch.ones(8)

    def measure(self) -> dict[str, float]:
        """Time each anchor once, in seconds."""
        return {
            "gemm_s": self._time(lambda: self._matrix @ self._matrix, 2),
            "stream_s": self._time(self._stream.sum, 1),
            "tiny_s": self._time(lambda: self._tiny + 1, _TINY_OPERATORS),
        }

    def _time(self, work: Any, repeats: int) -> float:
        start = self._device.mark()
        for _ in range(repeats):
            work()
        return self._device.elapsed_s(start, self._device.mark())


def anchor_row(anchors: Anchors, device: Device) -> dict[str, Any]:
    """The anchors and the state of the device, as a row of a journal."""
    state = read_state(device)
    return {"op": "anchor", **anchors.measure(), "throttled": state.throttled, "state": asdict(state)}


def anchor_limits(anchors: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Slowest value of each anchor that still counts as undisturbed, in seconds."""
    return {
        name: _ANCHOR_TOLERANCE * float(np.percentile([a[name] for a in anchors], _ANCHOR_PERCENTILE))
        for name in ANCHOR_NAMES
    }


def is_quiet(
    before: Mapping[str, Any], after: Mapping[str, Any], limits: Mapping[str, float], *, cpu_share: float
) -> bool:
    """Whether a sample between two anchors was undisturbed."""
    if cpu_share < _LEAST_CPU_SHARE:
        return False
    return all(max(before[name], after[name]) <= limits[name] for name in ANCHOR_NAMES)


@dataclass(frozen=True, slots=True)
class DeviceState:
    """Load of the host and, on NVIDIA, what NVML says of the GPU.

    Attributes
    ----------
    other_processes
        Compute processes on the GPU beside this one.
    nvml_error
        Why NVML says nothing of it, if so.
    """

    time_unix_s: float
    load_1min: float
    steal_s: float
    sm_clock_hz: float | None = None
    memory_clock_hz: float | None = None
    power_w: float | None = None
    energy_j: float | None = None
    temperature_c: float | None = None
    throttle_reasons: tuple[str, ...] = ()
    other_processes: int = 0
    mig: bool = False
    nvml_error: str = ""

    @property
    def throttled(self) -> bool:
        """Whether the GPU runs below the clocks it was asked for."""
        return bool(self.throttle_reasons)


def read_state(device: Device) -> DeviceState:
    """Read the state now."""
    host = DeviceState(
        time_unix_s=time.time(),
        load_1min=os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0,
        steal_s=float(getattr(psutil.cpu_times(), "steal", 0.0)),
    )
    return replace(host, **_nvml_state(device)) if isinstance(device, CudaDevice) else host


# Clock event reasons of NVML that mean "slower than asked for": power, temperature, hardware brake.
_THROTTLE_REASONS = {
    "power_cap": "nvmlClocksEventReasonSwPowerCap",
    "hardware_slowdown": "nvmlClocksThrottleReasonHwSlowdown",
    "software_thermal": "nvmlClocksEventReasonSwThermalSlowdown",
    "hardware_thermal": "nvmlClocksThrottleReasonHwThermalSlowdown",
    "power_brake": "nvmlClocksThrottleReasonHwPowerBrakeSlowdown",
}


def _nvml_state(device: CudaDevice) -> dict[str, Any]:
    """NVML figures of one GPU, or why there are none: a container may lack the library, or hide the GPU from it."""
    try:
        pynvml.nvmlInit()
    except (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded) as error:
        return {"nvml_error": str(error)}
    try:
        return _figures(_handle(device))
    except pynvml.NVMLError_NotFound as error:
        return {"nvml_error": str(error)}
    finally:
        pynvml.nvmlShutdown()


def _handle(device: CudaDevice) -> Any:
    """Find the GPU by its UUID: CUDA and NVML may number GPUs differently. A slice of a GPU has a UUID of its own."""
    uuid = torch.cuda.get_device_properties(device.torch_device).uuid
    try:
        return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
    except pynvml.NVMLError_NotFound:
        return pynvml.nvmlDeviceGetHandleByUUID(f"MIG-{uuid}")


def _figures(handle: Any) -> dict[str, Any]:
    reasons = _optional(pynvml.nvmlDeviceGetCurrentClocksEventReasons, handle)
    if reasons is None:
        # The name before driver 535.
        reasons = _optional(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
    mig = _optional(pynvml.nvmlDeviceGetMigMode, handle)
    processes = _optional(pynvml.nvmlDeviceGetComputeRunningProcesses, handle) or ()
    temperature = _optional(pynvml.nvmlDeviceGetTemperature, handle, pynvml.NVML_TEMPERATURE_GPU)
    return {
        "sm_clock_hz": _scaled(_optional(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_SM), MEGA),
        "memory_clock_hz": _scaled(_optional(pynvml.nvmlDeviceGetClockInfo, handle, pynvml.NVML_CLOCK_MEM), MEGA),
        "power_w": _scaled(_optional(pynvml.nvmlDeviceGetPowerUsage, handle), MILLI),
        "energy_j": _scaled(_optional(pynvml.nvmlDeviceGetTotalEnergyConsumption, handle), MILLI),
        "temperature_c": _scaled(temperature, 1.0),
        "throttle_reasons": tuple(name for name, flag in _THROTTLE_REASONS.items() if reasons & getattr(pynvml, flag)),
        # This process is one of them; its number there is not the one that it knows inside a container.
        "other_processes": max(len(processes) - 1, 0),
        "mig": bool(mig and mig[0]),
    }


def _optional(query: Any, *arguments: Any) -> Any:
    """The answer of a query, or ``None`` where this GPU, driver or user may not have it."""
    try:
        return query(*arguments)
    except (
        pynvml.NVMLError_NotSupported,
        pynvml.NVMLError_FunctionNotFound,
        pynvml.NVMLError_NoPermission,
        pynvml.NVMLError_Unknown,
    ):
        return None


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
