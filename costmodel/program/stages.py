"""What a stage is made of, and how its layers are run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from costmodel.errors import UnknownKeyError
from costmodel.ops import DTYPES, Num, Op

__all__ = ["QUANTIZATIONS", "Component", "Features", "Options", "Stage"]

QUANTIZATIONS = {
    "w8a8-fp8": "fp8",
    "w8a8-fp8-block": "fp8-block",
    "w8a8-int8": "int8",
    "w8a16": "w8a16",
    "w4a16": "w4a16",
    "w4a4-nvfp4": "nvfp4",
    **{name: name for name in DTYPES if name.startswith("gguf-")},
}
"""Scheme → number format of the decoder layers' matrices. Vision tower, connector, router, embedding and head stay."""


@dataclass(frozen=True, slots=True)
class Options:
    """How the layers are run.

    Attributes
    ----------
    dtype
        Number format of activations, and of weights that are not quantised.
    kv_dtype
        Number format of the KV cache.
    fused
        See :class:`~costmodel.profiles.EngineProfile`.
    quantization
        Scheme of the decoder layers' weights: ``none`` or a key of :data:`QUANTIZATIONS`.
    num_devices
        Devices that share each layer (tensor parallelism). 1 is the plain case.
    chunk_tokens
        Most tokens of a request in one pass of a prefill (``None``: all of them).
    quantised_vocabulary
        Whether the scheme holds for token table and head too.
    fused_attention_tokens
        Longest sequence whose attention is one kernel, by stage; beyond it scores go through memory.
    """

    dtype: str
    kv_dtype: str
    fused: bool
    quantization: str = "none"
    num_devices: int = 1
    chunk_tokens: int | None = None
    quantised_vocabulary: bool = False
    fused_attention_tokens: Mapping[str, int] = field(default_factory=dict)

    @property
    def vocabulary_dtype(self) -> str:
        """Number format of token table and head."""
        return self.linear_dtype if self.quantised_vocabulary else self.dtype

    @property
    def linear_dtype(self) -> str:
        """Number format of the decoder layers' matrices.

        Raises
        ------
        UnknownKeyError
            If the scheme is unknown.
        """
        if self.quantization == "none":
            return self.dtype
        if self.quantization not in QUANTIZATIONS:
            raise UnknownKeyError("quantization", self.quantization, ["none", *QUANTIZATIONS])
        return QUANTIZATIONS[self.quantization]


class Features(Mapping[str, Num]):
    """Sizes by name, each worked out when it is asked for: only slices ask."""

    def __init__(self, **sizes: Callable[[], Num]) -> None:
        self._sizes = sizes

    def __getitem__(self, name: str) -> Num:
        return self._sizes[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._sizes)

    def __len__(self) -> int:
        return len(self._sizes)


@dataclass(frozen=True, slots=True)
class Component:
    """A piece that runs ``count`` times in a stage.

    Attributes
    ----------
    features
        The sizes that its time depends on; the coefficients of a slice are per unit of these (equation 13).
    """

    name: str
    count: int
    ops: tuple[Op, ...]
    features: Mapping[str, Num] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a request, on one device."""

    name: str
    components: tuple[Component, ...]

    def flops(self, *, dense: bool = False) -> Num:
        """FLOPs of the stage; ``dense`` counts masked pairs too, as ``torch.utils.flop_counter`` does."""
        return self._sum((op.dense_flops if dense else op.flops, c.count) for c in self.components for op in c.ops)

    def bytes(self) -> Num:
        """Bytes read and written by the stage's operators."""
        return self._sum((op.bytes, c.count) for c in self.components for op in c.ops)

    def launches(self) -> int:
        """Kernels launched."""
        return sum(c.count * op.launches for c in self.components for op in c.ops)

    @staticmethod
    def _sum(terms: Iterable[tuple[Num, int]]) -> Num:
        return sum((value * count for value, count in terms), start=np.float64(0.0))
