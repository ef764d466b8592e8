"""Images of a request before they reach the device."""

from __future__ import annotations

from collections.abc import Iterable

from costmodel.errors import WorkloadError
from costmodel.program.stages import Component, Options, Stage
from costmodel.specs.images import ImageLayout, ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.units import MEGA

__all__ = ["cross_tokens", "image_layouts", "megapixels", "preprocess"]


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


def preprocess(images: Iterable[ImageSize], layouts: Iterable[ImageLayout]) -> Stage:
    """Host work before the device starts; it has no operators, only sizes."""
    sizes, resized = tuple(images), tuple(layouts)
    features = {
        "requests": 1.0,
        "images": float(len(sizes)),
        "megapixels": megapixels(sizes),
        "resized_megapixels": sum(layout.resized_pixels for layout in resized) / MEGA,
        "tiles": float(sum(layout.tiles for layout in resized)),
    }
    return Stage("preprocess", (Component("preprocess", 1, (), features),))


def megapixels(images: Iterable[ImageSize]) -> float:
    """Pixels of all images as they come, in 10⁶."""
    return sum(size.pixels for size in images) / MEGA
