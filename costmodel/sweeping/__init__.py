"""Many configurations at once: the outer product of images, prompt, cached prefix, output and batch."""

from __future__ import annotations

from costmodel.sweeping.axes import AXES, Axes
from costmodel.sweeping.plane import QUANTITIES
from costmodel.sweeping.result import Sweep, sweep

__all__ = ["AXES", "QUANTITIES", "Axes", "Sweep", "sweep"]
