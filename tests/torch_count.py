"""FLOPs as torch counts them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def counted(function: Callable[[], Any]) -> tuple[int, Any]:
    """FLOPs that torch counts while a function runs, and what it returns."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        result = function()
    return counter.get_total_flops(), result
