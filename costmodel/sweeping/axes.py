"""The axes of a sweep: images, prompt, cached prefix, output, batch; and how their outer product is cut into blocks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costmodel.errors import WorkloadError
from costmodel.specs.images import ImageSize

__all__ = ["AXES", "Axes", "Block", "Images", "blocks", "image_sets"]

AXES = ("images", "prompt_tokens", "cached_prefix_tokens", "output_tokens", "batch")

Images = tuple[ImageSize, ...]
Counts = NDArray[np.int64]
Block = tuple[slice, ...]
"""A part of the outer product: one slice an axis, in the order of :data:`AXES`."""

_LOWEST = {"prompt_tokens": 0, "cached_prefix_tokens": 0, "output_tokens": 1, "batch": 1}
_MOST_TOKENS = 2**31


@dataclass(frozen=True, slots=True)
class Axes:
    """Values along every axis; configurations are their outer product.

    Attributes
    ----------
    images
        Image sizes of one request, for each entry of the axis.
    """

    images: tuple[Images, ...]
    prompt_tokens: Counts
    cached_prefix_tokens: Counts
    output_tokens: Counts
    batch: Counts

    @classmethod
    def of(
        cls,
        images: Iterable[object],
        prompt_tokens: ArrayLike,
        cached_prefix_tokens: ArrayLike,
        output_tokens: ArrayLike,
        batch: ArrayLike,
    ) -> Axes:
        """Check and convert what a caller gives.

        Raises
        ------
        WorkloadError
            If an axis is empty, or a value is out of range or no whole number.
        """
        given = (prompt_tokens, cached_prefix_tokens, output_tokens, batch)
        return cls(image_sets(images), *(_counts(name, value) for name, value in zip(AXES[1:], given, strict=True)))

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return tuple(len(getattr(self, name)) for name in AXES)

    @property
    def size(self) -> int:
        """Number of configurations."""
        return math.prod(self.shape)


def image_sets(images: Iterable[object]) -> tuple[Images, ...]:
    """Image sizes of every entry of the axis: a size, a text ``WxH`` (several joined by ``+`` or ``;``), or sizes."""
    sets = tuple(_image_set(entry) for entry in images)
    if not sets:
        raise WorkloadError("images is empty, expected at least one entry; () or 'none' stands for a text-only request")
    return sets


def _image_set(entry: object) -> Images:
    if isinstance(entry, ImageSize):
        return (entry,)
    if isinstance(entry, str):
        texts = [] if entry.strip().lower() in ("", "none") else entry.replace(";", "+").split("+")
        return tuple(ImageSize.parse(text) for text in texts)
    if isinstance(entry, Sequence):
        return tuple(size if isinstance(size, ImageSize) else ImageSize.parse(str(size)) for size in entry)
    raise WorkloadError(f"images: got {entry!r:.60}, expected WIDTHxHEIGHT, an ImageSize or a sequence of them")


def _counts(name: str, value: ArrayLike) -> Counts:
    array = np.atleast_1d(np.asarray(value))
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iuf":
        raise WorkloadError(f"{name}: got shape {array.shape} of {array.dtype}, expected one or more whole numbers")
    if array.dtype.kind == "f" and not np.all(np.isfinite(array) & (array == np.round(array))):
        raise WorkloadError(f"{name}: got {array.tolist()!r:.60}, expected whole numbers")
    low, high = float(array.min()), float(array.max())
    if low < _LOWEST[name] or high > _MOST_TOKENS:
        raise WorkloadError(f"{name} is {low:.0f} to {high:.0f}, expected {_LOWEST[name]} to {_MOST_TOKENS}")
    return array.astype(np.int64)


def blocks(shape: Sequence[int], most: int) -> Iterator[Block]:
    """Cut an outer product into blocks of at most ``most`` configurations, each contiguous in row-major order."""
    inner, axis = 1, len(shape) - 1
    while axis > 0 and inner * shape[axis] <= most:
        inner *= shape[axis]
        axis -= 1
    step = max(most // inner, 1)
    whole = tuple(slice(0, length) for length in shape[axis + 1 :])
    for place in np.ndindex(*shape[:axis]):
        single = tuple(slice(i, i + 1) for i in place)
        for start in range(0, shape[axis], step):
            yield (*single, slice(start, min(start + step, shape[axis])), *whole)
