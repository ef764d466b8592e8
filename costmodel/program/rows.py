"""Rows of activations that pass a layer: the operators that layers are put together from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from costmodel.ops import AllReduce, Elementwise, Gemm, Num, Op, dtype_of
from costmodel.program.stages import Options

__all__ = ["Rows", "elementwise", "scores", "share"]

# Passes over memory of an unfused implementation: kernels that transformers launches for each of these in eager mode.
_EAGER_PASSES = {"rms_norm": 6, "layer_norm": 1, "rope": 6, "swiglu": 2, "gelu": 1, "add": 1}


_SCORE_PASSES = 2


def share(count: int, devices: int) -> int:
    """Heads that the busiest device has; fewer heads than devices are repeated."""
    return -(-count // devices)


def elementwise(name: str, kind: str, elements: Num, options: Options) -> Elementwise:
    """Norm, rotation, activation or addition in as many passes as the engine needs."""
    return Elementwise(name, elements, options.dtype, 1 if options.fused else _EAGER_PASSES[kind])


def scores(stage: str, heads: Num, q_len: Num, kv_len: Num, options: Options) -> list[Op]:
    """Attention scores that leave the kernel: written, read and written by the softmax, read (equation 72).

    Parameters
    ----------
    heads
        Query heads of all sequences.
    """
    limit = options.fused_attention_tokens.get(stage)
    if limit is None or not np.any(np.asarray(kv_len) > limit):
        return []
    values: Num = heads * q_len * np.where(np.asarray(kv_len) > limit, kv_len, 0.0)
    return [Elementwise("scores", values, options.dtype, _SCORE_PASSES)]


@dataclass(frozen=True, slots=True)
class Rows:
    """``count`` rows of ``hidden`` values, on their way through layers whose matrices have the format ``dtype``.

    ``devices`` share the layer: matrices that widen are cut by columns, matrices that come back by rows, whose
    partial sums are then added up over the devices.
    """

    count: Num
    hidden: int
    dtype: str
    options: Options
    devices: int = 1

    def widen(self, name: str, *widths: int) -> list[Op]:
        """Maps from the hidden state to ``widths``, each already this device's share; one GEMM where fused."""
        if self.options.fused:
            return [Gemm(name, self.count, sum(widths), self.hidden, self.dtype)]
        return [Gemm(name, self.count, width, self.hidden, self.dtype) for width in widths]

    def narrow(self, name: str, width: float) -> list[Op]:
        """Map from this device's share of a width back to the hidden state, and the sum over devices."""
        return [self.back(name, width), *self.summed(name)]

    def back(self, name: str, width: float) -> Op:
        """Map back to the hidden state that leaves the sum over devices to later."""
        return Gemm(name, self.count, self.hidden, width, self.dtype)

    def summed(self, name: str) -> list[Op]:
        """Sum of what the devices have (nothing where there is one)."""
        if self.devices == 1:
            return []
        size = self.count * self.hidden * dtype_of(self.options.dtype).activation_bytes
        return [AllReduce(f"{name}_sum", size, self.devices, self.options.dtype)]

    def pass_over(self, name: str, kind: str, width: float) -> Elementwise:
        """Elementwise work over ``width`` values a row."""
        return elementwise(name, kind, self.count * width, self.options)
