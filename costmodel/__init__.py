"""Predict how long a vision-language model takes to answer.

>>> from costmodel import Workload, load_engine, load_hardware, load_model, predict
>>> model = load_model("Qwen/Qwen3-VL-8B-Instruct")
>>> model.visual_tokens(640, 480)
300
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from costmodel.breakeven import BreakEven, break_even
from costmodel.errors import CostModelError
from costmodel.families.sources import load_model
from costmodel.predict import Prediction, predict
from costmodel.profiles import load_engine, load_hardware
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

if TYPE_CHECKING:
    from costmodel.load import predict_load
    from costmodel.policy.choose import choose_policy

__all__ = [
    "BreakEven",
    "CostModelError",
    "ImageSize",
    "Prediction",
    "Workload",
    "break_even",
    "choose_policy",
    "load_engine",
    "load_hardware",
    "load_model",
    "predict",
    "predict_load",
]


def __getattr__(name: str) -> Any:
    """What a single prediction does not need is loaded when it is asked for."""
    if name == "predict_load":
        from costmodel.load import predict_load

        return predict_load
    if name == "choose_policy":
        from costmodel.policy.choose import choose_policy

        return choose_policy
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
