"""The rule of GLM-4.1V and GLM-4.5V: as the Qwen-VL one, but the area limits count frames too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, FiniteFloat

from costmodel.errors import WorkloadError
from costmodel.image_rules.layout import ImageLayout, ImageSize, Rule, TileGroup
from costmodel.image_rules.settings import check_equal
from costmodel.image_rules.smart_resize import read_area_limits, read_merge_size
from costmodel.specs.base import Count, Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["Glm4vResize", "read_glm4v", "volume_resized"]

# Limits of the published preprocessor_config.json, in pixels times frames.
_MIN_PIXELS, _MAX_PIXELS = 112 * 112, 28 * 28 * 2 * 6144


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


class Glm4vResize(Rule):
    """Resize to multiples of ``patch_size * merge_size``; an image counts as ``temporal_patch_size`` equal frames.

    The rule of ``Glm4vImageProcessor`` (arXiv 2507.01006). Not quite monotone in image size, as ``SmartResize``.
    """

    rule: Literal["glm4v"] = "glm4v"
    patch_size: Size
    merge_size: Size
    temporal_patch_size: Size = 2
    min_pixels: Size = _MIN_PIXELS
    max_pixels: Size = _MAX_PIXELS
    max_aspect_ratio: FiniteFloat = Field(default=200.0, ge=1)
    extra_text_tokens: Count = 2

    def resized(self, size: ImageSize) -> ImageSize:
        """Size after resizing.

        Raises
        ------
        WorkloadError
            If the aspect ratio is beyond what the processor accepts.
        """
        return volume_resized(
            size,
            frames=self.temporal_patch_size,
            temporal_factor=self.temporal_patch_size,
            factor=self.patch_size * self.merge_size,
            limits=(self.min_pixels, self.max_pixels),
            max_aspect_ratio=self.max_aspect_ratio,
        )

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        resized = self.resized(size)
        grid_height, grid_width = resized.height // self.patch_size, resized.width // self.patch_size
        visual_tokens = grid_height * grid_width // self.merge_size**2
        return ImageLayout(
            groups=(TileGroup(tiles=1, grid_height=grid_height, grid_width=grid_width),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=self.extra_text_tokens,
            resized_pixels=resized.pixels,
        )


def read_glm4v(vision: ConfigReader, settings: ConfigReader | None) -> Glm4vResize:
    """Read the rule of a GLM-4V config; the published limits hold where the image settings have none."""
    patch_size, merge_size = vision.integer("patch_size"), read_merge_size(vision)
    temporal = vision.integer("temporal_patch_size", default=2, highest=64)
    if settings is not None:
        check_equal(settings, "patch_size", patch_size, why="as in the model config")
        check_equal(settings, "merge_size", merge_size, why="as in the model config")
        check_equal(settings, "temporal_patch_size", temporal, why="as in the model config")
    min_pixels, max_pixels = read_area_limits(settings, min_pixels=_MIN_PIXELS, max_pixels=_MAX_PIXELS)
    return Glm4vResize(
        patch_size=patch_size,
        merge_size=merge_size,
        temporal_patch_size=temporal,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
    )
