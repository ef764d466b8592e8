"""Decoder layers of real models whose operators the public tables hold shape by shape."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["LAYER_SHAPES", "LayerCase", "LayerShape", "layer_cases"]

_PREFILL_TOKENS = (256, 512, 1024, 2048, 4096, 8192)
_DECODE_BATCHES = (1, 2, 4, 8, 16, 32, 64)
_DECODE_CONTEXTS = (256, 1024, 4096, 16384)


@dataclass(frozen=True, slots=True)
class LayerShape:
    """Sizes of one decoder layer, from the model's published config; ``up_parts`` GEMMs make gate and up."""

    name: str
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    up_parts: int


LAYER_SHAPES = (
    LayerShape("Qwen3-VL-2B", 2048, 6144, 16, 8, 128, up_parts=1),
    LayerShape("Qwen3-VL-8B", 4096, 12288, 32, 8, 128, up_parts=2),
    LayerShape("Llama-3.2-3B", 3072, 8192, 24, 8, 128, up_parts=1),
)


@dataclass(frozen=True, slots=True)
class LayerCase:
    """One run of a layer: shapes of its GEMMs (m, n, k) and of its attention, in the order of the operator's sizes."""

    shapes: dict[str, tuple[tuple[float, ...], ...]]


def layer_cases(shape: LayerShape, phase: str) -> Iterator[LayerCase]:
    """Prompts of one request, or steps of a batch, that the tables measured."""
    heads = (shape.num_heads, shape.num_kv_heads, shape.head_dim)
    if phase == "prefill":
        for tokens in _PREFILL_TOKENS:
            yield LayerCase({"gemm": _gemms(shape, tokens), "attention": ((1, tokens, tokens, *heads),)})
        return
    for batch in _DECODE_BATCHES:
        for context in _DECODE_CONTEXTS:
            yield LayerCase({"gemm": _gemms(shape, batch), "attention": ((batch, context, *heads),)})


def _gemms(shape: LayerShape, rows: int) -> tuple[tuple[float, ...], ...]:
    attended = shape.num_heads * shape.head_dim
    qkv = attended + 2 * shape.num_kv_heads * shape.head_dim
    up = 2 * shape.intermediate_size // shape.up_parts
    return (
        (rows, qkv, shape.hidden_size),
        (rows, shape.hidden_size, attended),
        *(((rows, up, shape.hidden_size),) * shape.up_parts),
        (rows, shape.hidden_size, shape.intermediate_size),
    )
