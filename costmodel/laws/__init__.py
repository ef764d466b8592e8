"""Latency laws: one small file each, all behind the one interface of :mod:`costmodel.laws.base`.

A kernel family has variants of a law (its tile sizes, whether it splits); a fit tries them and keeps the
best.
"""

from __future__ import annotations

from costmodel.errors import UnknownKeyError
from costmodel.laws.base import Law
from costmodel.laws.collective import COLLECTIVE
from costmodel.laws.context_attention import CONTEXT_LAWS
from costmodel.laws.encoder_attention import ENCODER_LAWS
from costmodel.laws.gemm_block_scaled import BLOCK_SCALED_GEMM_LAWS
from costmodel.laws.gemm_quantised import QUANTISED_GEMM_LAWS
from costmodel.laws.gemm_tiled import GEMM_LAWS
from costmodel.laws.generation_attention import GENERATION_LAWS
from costmodel.laws.latency import LATENCY_ROOFLINE
from costmodel.laws.moe import MOE
from costmodel.laws.roofline import ROOFLINE
from costmodel.laws.streaming import LAUNCH, STREAMING

__all__ = ["LAWS", "law_named", "laws_for"]

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        ROOFLINE,
        LATENCY_ROOFLINE,
        STREAMING,
        LAUNCH,
        COLLECTIVE,
        MOE,
        *GEMM_LAWS,
        *QUANTISED_GEMM_LAWS,
        *BLOCK_SCALED_GEMM_LAWS,
        *CONTEXT_LAWS,
        *ENCODER_LAWS,
        *GENERATION_LAWS,
    )
}

# Formats whose activations are quantised on the fly, by kernels of their own.
_QUANTISED = ("fp8", "int8", "nvfp4")
_BLOCK_SCALED = ("fp8-block",)
_BY_KIND: dict[str, tuple[Law, ...]] = {
    "elementwise": (STREAMING,),
    "copy": (STREAMING,),
    "launch": (LAUNCH,),
    "all_reduce": (COLLECTIVE,),
    "all_gather": (COLLECTIVE,),
}
_ON_TILES: dict[str, tuple[Law, ...]] = {
    "gemm": GEMM_LAWS,
    "moe": (MOE,),
    "attention_context": CONTEXT_LAWS,
    "attention_encoder": ENCODER_LAWS,
    "attention_generation": GENERATION_LAWS,
}


def law_named(name: str) -> Law:
    """Look a law up by its exact name."""
    if name not in LAWS:
        raise UnknownKeyError("law", name, LAWS)
    return LAWS[name]


def laws_for(kind: str, dtype: str, *, device_kind: str) -> tuple[Law, ...]:
    """Laws worth trying for an operator, the most trusted first.

    Parameters
    ----------
    kind, dtype
        Of the operator.
    device_kind
        ``cuda``, ``cpu`` …: a processor without thousands of lanes has no tiles that its time would step
        with.
    """
    if kind in _BY_KIND:
        return _BY_KIND[kind]
    if device_kind == "cpu":
        return (ROOFLINE,)
    if kind == "gemm" and dtype in _BLOCK_SCALED:
        return BLOCK_SCALED_GEMM_LAWS
    if kind == "gemm" and dtype in _QUANTISED:
        return (*QUANTISED_GEMM_LAWS, ROOFLINE)
    return (*_ON_TILES[kind], ROOFLINE)
