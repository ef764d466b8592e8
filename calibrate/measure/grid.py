"""Which sizes are measured: log-uniform over what a transformer layer uses, within a bound on the time of one call."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

from calibrate.measure.device import Device
from calibrate.measure.slices import SliceGrid
from costmodel.specs.images import ImageSize

__all__ = ["KernelGrid", "kernel_grid", "slice_grid"]

# Largest work of one sample: on a CPU some 20 ms, on a GPU far less than the launch of the sample.
_MOST_FLOPS = {"cpu": 2e9, "cuda": 4e11}
_MOST_ELEMENTS = {"cpu": 1 << 24, "cuda": 1 << 28}
# A GPU with less memory than this for each of those elements gets fewer: they have to fit its arena.
_MEMORY_PER_ELEMENT_BYTES = 64
# Tokens in the caches of all requests of a GPU, at most.
_MOST_CACHED_TOKENS = 1 << 18
_BATCHES = (1, 1, 2, 4, 8, 16, 32, 64)
_WIDTHS = (256, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)


@dataclass(frozen=True, slots=True)
class KernelGrid:
    """Shapes by operator; the tuples are in the order that :mod:`calibrate.measure.kernels` names them."""

    gemm: tuple[tuple[int, int, int], ...]
    context: tuple[tuple[int, int, int, int, int], ...]
    generation: tuple[tuple[int, int, int, int, int], ...]
    encoder: tuple[tuple[int, int, int, int], ...]
    elementwise: tuple[int, ...]


def kernel_grid(device: Device, *, gemm_shapes: int, attention_shapes: int, seed: int) -> KernelGrid:
    """Random shapes, stratified in the size that matters most (rows of a GEMM, length of a sequence).

    Parameters
    ----------
    gemm_shapes, attention_shapes
        How many per operator and number format.
    """
    rng = random.Random(seed)
    most = _MOST_FLOPS.get(device.kind, _MOST_FLOPS["cuda"])
    lengths = _strata(attention_shapes, 32, 2048 if device.kind == "cpu" else 16_384, rng)
    heads = [_heads(rng) for _ in range(attention_shapes)]
    dims = [rng.choice((64, 128)) for _ in range(attention_shapes)]
    pairs = list(zip(lengths, heads, dims, strict=True))
    bounded = [_bounded(n, h * d, most) for n, (h, _), d in pairs]
    # A CPU serves one request at a time; a GPU is filled by several.
    batches = [1 if device.kind == "cpu" else rng.choice(_BATCHES) for _ in pairs]
    cached = [min(b, max(1, _MOST_CACHED_TOKENS // n)) for b, n in zip(batches, lengths, strict=True)]
    filled = [_batch(b, n * n * h * d, most) for b, n, (_, (h, _), d) in zip(batches, bounded, pairs, strict=True)]
    elements = min(_MOST_ELEMENTS.get(device.kind, 1 << 24), device.memory_bytes() // _MEMORY_PER_ELEMENT_BYTES)
    return KernelGrid(
        gemm=tuple(_gemm(m, most, rng) for m in _strata(gemm_shapes, 1, 4096, rng)),
        context=tuple((b, n, h, kv, d) for b, n, (_, (h, kv), d) in zip(filled, bounded, pairs, strict=True)),
        generation=tuple((b, n, h, kv, d) for b, (n, (h, kv), d) in zip(cached, pairs, strict=True)),
        encoder=tuple((b, n, h, d) for b, n, (_, (h, _), d) in zip(filled, bounded, pairs, strict=True)),
        elementwise=tuple(_strata(12, 1 << 10, elements, rng)),
    )


def slice_grid(*, quick: bool) -> SliceGrid:
    """Image sizes and prompt lengths at which slices are measured; none of them fits a patch grid as it is."""
    images = ("250x190", "620x470", "740x560") if quick else ("250x190", "430x330", "620x470", "740x560")
    text = (64, 256, 640) if quick else (64, 256, 640, 1024)
    requests = (("250x190", 16), ("430x330", 100), ("620x470", 300), ("740x560", 40), ("300x900", 600))
    return SliceGrid(
        images=tuple(ImageSize.parse(size) for size in images),
        text_tokens=text,
        shell_requests=tuple((ImageSize.parse(size), tokens) for size, tokens in requests),
    )


def _strata(count: int, low: int, high: int, rng: random.Random) -> list[int]:
    """``count`` integers, one random one from each of as many equal parts of the logarithmic range."""
    ratio = math.log(high / low) / count
    return [round(low * math.exp(ratio * (index + rng.random()))) for index in range(count)]


def _gemm(m: int, most_flops: float, rng: random.Random) -> tuple[int, int, int]:
    shapes = [(n, k) for n in _WIDTHS for k in _WIDTHS if 2.0 * m * n * k <= most_flops]
    n, k = rng.choice(shapes or [(_WIDTHS[0], _WIDTHS[0])])
    return m, n, k


def _heads(rng: random.Random) -> tuple[int, int]:
    heads = rng.choice((4, 8, 16, 32))
    return heads, heads // rng.choice([group for group in (1, 2, 4, 8) if group <= heads])


def _batch(batch: int, pairs: int, most_flops: float) -> int:
    """The batch, or the largest one whose attention stays within the bound."""
    return max(1, min(batch, int(most_flops / (4.0 * pairs))))


def _bounded(length: int, width: int, most_flops: float) -> int:
    """The length, or the longest one whose attention stays within the bound."""
    return min(length, int(math.sqrt(most_flops / (4.0 * width))))
