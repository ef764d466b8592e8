"""Devices of a Ray cluster: what each node has, and which of them to calibrate."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from calibrate.measure.device import CpuDevice
from costmodel.errors import InputError

__all__ = ["FleetDevice", "chosen", "find_devices", "on_node"]

_TYPE_RESOURCE = "accelerator_type:"
_TYPE_LABEL = "ray.io/accelerator-type"


@dataclass(frozen=True, slots=True)
class FleetDevice:
    """One device of one node.

    Attributes
    ----------
    accelerator
        Name of its kind: as the cluster labels the node, for a CPU its model name.
    cpus
        Of the node: all of them are taken while a CPU is measured.
    """

    accelerator: str
    kind: str
    node: str
    address: str
    index: int
    cpus: float

    @property
    def name(self) -> str:
        """For people and files."""
        return f"{self.address}-{self.node[:8]}-{self.kind}{self.index}"


def on_node(ray: Any, node: str) -> Any:
    """Scheduling of a task on this node only."""
    return ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)


def find_devices(ray: Any) -> list[FleetDevice]:
    """Every device of the cluster: the GPUs of nodes that have some, the CPU of the others.

    Raises
    ------
    InputError
        If no node is alive.
    """
    alive = [node for node in ray.nodes() if node["Alive"] and node["Resources"]]
    probe = ray.remote(num_cpus=0, max_retries=2)(_cpu_name)
    plain = {n["NodeID"]: probe.options(scheduling_strategy=on_node(ray, n["NodeID"])).remote() for n in alive}
    devices = [device for node in alive for device in _devices_of(node, lambda node_id: ray.get(plain[node_id]))]
    if not devices:
        raise InputError("the cluster has no node that is alive, expected at least one")
    return devices


def _devices_of(node: Mapping[str, Any], cpu_name: Any) -> Iterable[FleetDevice]:
    resources, where = node["Resources"], (node["NodeID"], node["NodeManagerAddress"])
    cpus, gpus = float(resources.get("CPU", 0)), int(resources.get("GPU", 0))
    if gpus:
        labelled = [name.removeprefix(_TYPE_RESOURCE) for name in resources if name.startswith(_TYPE_RESOURCE)]
        name = node.get("Labels", {}).get(_TYPE_LABEL) or next(iter(labelled), "GPU")
        return [FleetDevice(name, "cuda", *where, index, cpus) for index in range(gpus)]
    return [FleetDevice(cpu_name(where[0]), "cpu", *where, 0, cpus)] if cpus else []


def _cpu_name() -> str:
    return CpuDevice(threads=1).describe()["name"]


def chosen(devices: Sequence[FleetDevice], each: int) -> dict[str, list[FleetDevice]]:
    """Devices of each accelerator in the order in which to calibrate them, on as many nodes as possible.

    The first ``each`` are to be calibrated, the others are there in case some fail.
    """
    if each < 1:
        raise InputError(f"--each is {each}, expected 1 or more")
    by_kind: dict[str, list[FleetDevice]] = defaultdict(list)
    for device in sorted(devices, key=lambda device: (device.accelerator, device.index, device.address, device.node)):
        by_kind[device.accelerator].append(device)
    return dict(by_kind)
