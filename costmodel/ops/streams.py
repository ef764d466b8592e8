"""Kernels that only move memory, and empty ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from costmodel.ops.formats import Num, dtype_of

__all__ = ["Copy", "Elementwise", "Launch"]


@dataclass(frozen=True, slots=True)
class Elementwise:
    """Norm, activation, rotation or addition over ``elements`` values, in ``passes`` passes over memory."""

    kind: ClassVar[str] = "elementwise"
    sizes: ClassVar[tuple[str, ...]] = ("elements",)
    name: str
    elements: Num
    dtype: str
    passes: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def launches(self) -> int:
        """One kernel a pass."""
        return self.passes

    @property
    def bytes(self) -> Num:
        """One read and one write a pass."""
        return 2.0 * self.passes * dtype_of(self.dtype).activation_bytes * self.elements


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy of ``num_bytes`` within the device: one read, one write."""

    kind: ClassVar[str] = "copy"
    sizes: ClassVar[tuple[str, ...]] = ("num_bytes",)
    name: str
    num_bytes: Num
    dtype: str = "fp32"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0

    @property
    def bytes(self) -> Num:
        """Read and written."""
        return 2.0 * self.num_bytes


@dataclass(frozen=True, slots=True)
class Launch:
    """``count`` empty kernels: what starting one costs."""

    kind: ClassVar[str] = "launch"
    sizes: ClassVar[tuple[str, ...]] = ("count",)
    name: str
    count: Num = 1.0
    dtype: str = "fp32"
    launches: int = 1
    flops: ClassVar[float] = 0.0
    dense_flops: ClassVar[float] = 0.0
    bytes: ClassVar[float] = 0.0
