"""Images of a request before they reach the device."""

from __future__ import annotations

from collections.abc import Iterable

from costmodel.errors import WorkloadError
from costmodel.ops import Num
from costmodel.program.stages import Component, Options, Stage
from costmodel.specs.images import ImageLayout, ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.units import MEGA

__all__ = ["cross_tokens", "host_work", "image_layouts", "preprocess"]


def image_layouts(model: ModelSpec, images: Iterable[ImageSize]) -> tuple[ImageLayout, ...]:
    """Layout of every image.

    Raises
    ------
    WorkloadError
        If there are images and the model reads none: an image is never ignored.
    """
    sizes = tuple(images)
    if not sizes:
        return ()
    if model.image_rule is None:
        raise WorkloadError(f"{model.name} reads text only, got {len(sizes)} image(s)")
    return tuple(model.image_rule.layout(size, images_in_prompt=len(sizes)) for size in sizes)


def cross_tokens(layouts: Iterable[ImageLayout], options: Options) -> int:
    """Vision states that cross-attention reads; an eager implementation reads those of padding tiles too."""
    padding = 0 if options.fused else 1
    return sum(layout.cross_attention_tokens + padding * layout.cross_attention_padding for layout in layouts)


def preprocess(images: Iterable[ImageSize], layouts: Iterable[ImageLayout], *, batch: Num = 1) -> Stage:
    """Host work before the device starts, all requests of the batch; it has no operators, only sizes."""
    sizes, resized = tuple(images), tuple(layouts)
    pixels = sum(size.pixels for size in sizes)
    tiles = sum(layout.tiles for layout in resized)
    return host_work(len(sizes), pixels, sum(layout.resized_pixels for layout in resized), tiles, batch=batch)


def host_work(images: Num, pixels: Num, resized_pixels: Num, tiles: Num, *, batch: Num = 1) -> Stage:
    """Host work on so many images, pixels and tiles a request."""
    features: dict[str, Num] = {
        "requests": 1.0,
        "images": 1.0 * images * batch,
        "megapixels": pixels * batch / MEGA,
        "resized_megapixels": resized_pixels * batch / MEGA,
        "tiles": 1.0 * tiles * batch,
    }
    return Stage("preprocess", (Component("preprocess", 1, (), features),))
