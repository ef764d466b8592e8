"""Predict how long a vision-language model takes to answer.

>>> from costmodel import Workload, load_engine, load_hardware, load_model, predict
>>> model = load_model("Qwen/Qwen3-VL-8B-Instruct")
>>> model.visual_tokens(640, 480)
300
"""

from __future__ import annotations

from costmodel.breakeven import BreakEven, break_even
from costmodel.errors import CostModelError
from costmodel.families.sources import load_model
from costmodel.predict import Prediction, predict
from costmodel.profiles import load_engine, load_hardware
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

__all__ = [
    "BreakEven",
    "CostModelError",
    "ImageSize",
    "Prediction",
    "Workload",
    "break_even",
    "load_engine",
    "load_hardware",
    "load_model",
    "predict",
]
