"""What the machine says of itself: anchors on the CPU, and NVML's answers in SI units."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("pynvml", reason="pynvml is not installed (extra: calibrate)")

import pynvml
import torch

from calibrate.measure.device import CpuDevice, CudaDevice, open_device
from calibrate.measure.telemetry import ANCHOR_NAMES, Anchors, anchor_row, read_state
from costmodel.errors import DeviceError

UUID = "12345678-1234-1234-1234-123456789abc"
NOT_SUPPORTED = pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

Answers = dict[str, Any]

# As NVML gives them: MHz, milliwatts, millijoules, degrees Celsius.
_USUAL: Answers = {
    "nvmlDeviceGetCurrentClocksThrottleReasons": 0,
    "nvmlDeviceGetCurrentClocksEventReasons": pynvml.nvmlClocksEventReasonGpuIdle,
    "nvmlDeviceGetMigMode": [0, 0],
    "nvmlDeviceGetComputeRunningProcesses": [],
    "nvmlDeviceGetClockInfo": {pynvml.NVML_CLOCK_SM: 1980, pynvml.NVML_CLOCK_MEM: 2619},
    "nvmlDeviceGetPowerUsage": 412_345,
    "nvmlDeviceGetTotalEnergyConsumption": 9_876_543_210,
    "nvmlDeviceGetTemperature": 61,
}


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Let the real binding answer as told; returns the log of opened, asked for, closed."""

    def install(**changes: Any) -> list[str]:
        log: list[str] = []
        properties = SimpleNamespace(uuid=UUID)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: log.append("init"))
        monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: log.append("shutdown"))
        monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", lambda uuid: log.append(uuid) or "handle")
        for name, answer in {**_USUAL, **changes}.items():
            assert hasattr(pynvml, name)
            monkeypatch.setattr(pynvml, name, _query(answer))
        return log

    return install


def _query(answer: Any) -> Callable[..., Any]:
    def query(handle: str, *what: int) -> Any:
        assert handle == "handle"
        if isinstance(answer, Exception):
            raise answer
        return answer[what[0]] if isinstance(answer, dict) else answer

    return query


def test_the_cpu_has_a_state_without_a_gpu() -> None:
    state = read_state(CpuDevice(threads=1))
    assert state.load_1min >= 0
    assert state.steal_s >= 0
    assert state.sm_clock_hz is state.power_w is state.energy_j is None
    assert state.throttle_reasons == ()
    assert not state.throttled


def test_an_anchor_row_has_every_anchor() -> None:
    device = CpuDevice(threads=1)
    row = anchor_row(Anchors(device), device)
    assert row["op"] == "anchor"
    assert all(row[name] > 0 for name in ANCHOR_NAMES)
    assert row["throttled"] is False
    assert row["state"]["load_1min"] >= 0


def test_nvml_without_a_driver_says_which_library_is_missing() -> None:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        assert error.value == pynvml.NVML_ERROR_LIBRARY_NOT_FOUND  # noqa: PT017
    else:
        pynvml.nvmlShutdown()
        pytest.skip("an NVIDIA driver is installed here")


def test_units_are_si(nvml: Callable[..., list[str]]) -> None:
    log = nvml()
    state = read_state(CudaDevice(index=0))
    assert state.sm_clock_hz == pytest.approx(1.980e9)
    assert state.memory_clock_hz == pytest.approx(2.619e9)
    assert state.power_w == pytest.approx(412.345)
    assert state.energy_j == pytest.approx(9_876_543.21)
    assert state.temperature_c == pytest.approx(61.0)
    assert not state.throttled
    assert not state.mig
    assert log == ["init", f"GPU-{UUID}", "shutdown"]


@pytest.mark.parametrize(
    ("flags", "reasons"),
    [
        (pynvml.nvmlClocksEventReasonSwPowerCap, ("power_cap",)),
        (pynvml.nvmlClocksThrottleReasonHwSlowdown, ("hardware_slowdown",)),
        (pynvml.nvmlClocksEventReasonSwThermalSlowdown, ("software_thermal",)),
        (pynvml.nvmlClocksThrottleReasonHwThermalSlowdown, ("hardware_thermal",)),
        (pynvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown, ("power_brake",)),
        (0x4 | 0x40, ("power_cap", "hardware_thermal")),
        (pynvml.nvmlClocksEventReasonApplicationsClocksSetting, ()),
        (0, ()),
    ],
)
def test_throttle_reasons_by_bit(nvml: Callable[..., list[str]], flags: int, reasons: tuple[str, ...]) -> None:
    nvml(nvmlDeviceGetCurrentClocksEventReasons=flags)
    state = read_state(CudaDevice(index=0))
    assert state.throttle_reasons == reasons
    assert state.throttled == bool(reasons)


def test_what_is_not_supported_is_none(nvml: Callable[..., list[str]]) -> None:
    log = nvml(**dict.fromkeys(_USUAL, NOT_SUPPORTED))
    state = read_state(CudaDevice(index=0))
    assert state.sm_clock_hz is state.memory_clock_hz is state.power_w is None
    assert state.energy_j is state.temperature_c is None
    assert (state.throttle_reasons, state.other_processes, state.mig) == ((), 0, False)
    assert log[-1] == "shutdown"


def test_other_errors_are_not_swallowed(nvml: Callable[..., list[str]]) -> None:
    log = nvml(nvmlDeviceGetPowerUsage=pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST))
    with pytest.raises(pynvml.NVMLError, match="GPU is lost"):
        read_state(CudaDevice(index=0))
    assert log[-1] == "shutdown"


def test_only_other_processes_are_counted(nvml: Callable[..., list[str]]) -> None:
    """Inside a container NVML numbers processes as the host does, so that ours is not told by its number."""
    processes = [SimpleNamespace(pid=pid) for pid in (70_001, 1, 2)]
    nvml(nvmlDeviceGetComputeRunningProcesses=processes, nvmlDeviceGetMigMode=[1, 1])
    state = read_state(CudaDevice(index=0))
    assert state.other_processes == 2
    assert state.mig
    nvml(nvmlDeviceGetComputeRunningProcesses=[])
    assert read_state(CudaDevice(index=0)).other_processes == 0


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_without_nvml_the_state_says_why(
    nvml: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    nvml()

    def refuse() -> None:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    state = read_state(CudaDevice(index=0))
    assert state.nvml_error == str(pynvml.NVMLError(code))
    assert state.sm_clock_hz is None


def test_a_slice_of_a_gpu_is_found_by_its_own_name(
    nvml: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = nvml()
    usual = pynvml.nvmlDeviceGetHandleByUUID

    def by_uuid(uuid: str) -> str:
        handle: str = usual(uuid)
        if uuid.startswith("GPU-"):
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return handle

    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", by_uuid)
    assert read_state(CudaDevice(index=0)).power_w == pytest.approx(412.345)
    assert log == ["init", f"GPU-{UUID}", f"MIG-{UUID}", "shutdown"]


def test_a_driver_that_knows_the_reasons_by_their_old_name(
    nvml: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml(nvmlDeviceGetCurrentClocksEventReasons=pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND))
    monkeypatch.setattr(pynvml, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda handle: 0x4)
    assert read_state(CudaDevice(index=0)).throttle_reasons == ("power_cap",)


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "cpu:", ""])
def test_unknown_devices_are_refused(name: str) -> None:
    if name == "cpu:":
        assert open_device(name).kind == "cpu"
        return
    with pytest.raises(DeviceError, match="expected auto, cpu, cuda or cuda:N"):
        open_device(name)


def test_a_gpu_that_is_absent_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert open_device("auto", threads=2) == CpuDevice(threads=2)
    with pytest.raises(DeviceError, match=r"'cuda:1': torch sees 0 CUDA device"):
        open_device("cuda:1")


def test_marks_of_another_device_are_refused() -> None:
    with pytest.raises(DeviceError, match="marks are of another device"):
        CpuDevice(threads=1).elapsed_s(0.0, "later")  # type: ignore[arg-type]
    facts = CpuDevice(threads=3).describe()
    assert facts["threads"] == "3"
    assert facts["name"]
