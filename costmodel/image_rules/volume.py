"""Resizing within a volume: an area that all frames of a video share."""

from __future__ import annotations

import math

from costmodel.errors import WorkloadError
from costmodel.image_rules.layout import ImageSize

__all__ = ["volume_resized"]


def volume_resized(
    size: ImageSize,
    *,
    frames: int,
    temporal_factor: int,
    factor: int,
    limits: tuple[int, int],
    max_aspect_ratio: float = 200.0,
) -> ImageSize:
    """Size of each frame, a multiple of ``factor``, such that all frames together stay within an area.

    ``smart_resize`` of ``Glm4vImageProcessor`` and of ``Qwen3VLVideoProcessor``: a side below ``factor`` is first
    scaled up to it, and Python's ``round`` rounds halves to even.

    Raises
    ------
    WorkloadError
        If the aspect ratio is beyond what the processor accepts.
    """
    width, height = size.width, size.height
    if min(width, height) < factor:
        scale = max(factor / height, factor / width)
        width, height = int(width * scale), int(height * scale)
    ratio = max(width, height) / min(width, height)
    if ratio > max_aspect_ratio:
        raise WorkloadError(
            f"image {size}: aspect ratio is {ratio:.0f}, this model's processor accepts at most {max_aspect_ratio:.0f}"
        )
    new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
    volume = round(frames / temporal_factor) * temporal_factor * new_height * new_width
    smallest, largest = limits
    if volume > largest:
        shrink = math.sqrt(frames * height * width / largest)
        new_height = max(factor, math.floor(height / shrink / factor) * factor)
        new_width = max(factor, math.floor(width / shrink / factor) * factor)
    elif volume < smallest:
        grow = math.sqrt(smallest / (frames * height * width))
        new_height = math.ceil(height * grow / factor) * factor
        new_width = math.ceil(width * grow / factor) * factor
    return ImageSize(width=new_width, height=new_height)
