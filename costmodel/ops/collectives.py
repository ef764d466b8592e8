"""Exchanges between devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from costmodel.ops.formats import Num

__all__ = ["AllGather", "AllReduce"]


@dataclass(frozen=True, slots=True)
class AllReduce:
    """Sum of ``num_bytes`` over ``num_devices`` devices; ``bytes`` is what a ring moves per device (equation 10)."""

    kind: ClassVar[str] = "all_reduce"
    sizes: ClassVar[tuple[str, ...]] = ("num_bytes", "num_devices")
    name: str
    num_bytes: Num
    num_devices: Num
    dtype: str = "bf16"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def bytes(self) -> Num:
        """Bytes sent and received by one device."""
        return 2.0 * self.num_bytes * (self.num_devices - 1) / self.num_devices


@dataclass(frozen=True, slots=True)
class AllGather:
    """Every one of ``num_devices`` devices ends with all ``num_bytes``, of which it held its share."""

    kind: ClassVar[str] = "all_gather"
    sizes: ClassVar[tuple[str, ...]] = ("num_bytes", "num_devices")
    name: str
    num_bytes: Num
    num_devices: Num
    dtype: str = "bf16"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def bytes(self) -> Num:
        """Bytes received by one device: all but its own share."""
        return self.num_bytes * (self.num_devices - 1) / self.num_devices
