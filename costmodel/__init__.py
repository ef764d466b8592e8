"""Predict how long a vision-language model takes to answer.

>>> from costmodel import Workload, load_engine, load_hardware, load_model, predict
>>> model = load_model("Qwen/Qwen3-VL-8B-Instruct")
>>> model.visual_tokens(640, 480)
300
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from costmodel.errors import CostModelError
from costmodel.families.sources import load_model
from costmodel.predict import Prediction, predict
from costmodel.profiles import load_engine, load_hardware
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

if TYPE_CHECKING:
    from costmodel.breakeven import BreakEven, break_even
    from costmodel.load import predict_load
    from costmodel.policy.choose import choose_policy
    from costmodel.sweeping.result import Sweep, sweep

__all__ = [
    "BreakEven",
    "CostModelError",
    "ImageSize",
    "Prediction",
    "Sweep",
    "Workload",
    "break_even",
    "choose_policy",
    "load_engine",
    "load_hardware",
    "load_model",
    "predict",
    "predict_load",
    "sweep",
]

_LATER = {
    "BreakEven": "costmodel.breakeven",
    "Sweep": "costmodel.sweeping.result",
    "break_even": "costmodel.breakeven",
    "choose_policy": "costmodel.policy.choose",
    "predict_load": "costmodel.load",
    "sweep": "costmodel.sweeping.result",
}


def __getattr__(name: str) -> Any:
    """What is not a prediction is loaded when it is asked for: predictions start faster without."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
