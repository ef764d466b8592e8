"""The rule of the Qwen-VL families: patches of a fixed size, merged, resized within an area."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, FiniteFloat

from costmodel.errors import ConfigError, WorkloadError
from costmodel.image_rules.layout import ImageLayout, ImageSize, Rule, TileGroup, check_frames
from costmodel.image_rules.settings import check_equal
from costmodel.image_rules.volume import volume_resized
from costmodel.specs.base import Count, Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["SmartResize", "read_area_limits", "read_merge_size", "read_smart_resize"]

_TIME_STAMP_TOKENS = 6


class SmartResize(Rule):
    """Resize to multiples of ``patch_size * merge_size`` within an area, keeping the aspect ratio.

    The rule of ``Qwen2VLImageProcessor`` (Qwen2-VL, Qwen2.5-VL, Qwen3-VL, Qwen3.5), arXiv 2409.12191, section 2.1.
    Python's ``round`` rounds halves to even there, so it does here. Not quite monotone in image size: above the area
    limit one side more can round the other one down.

    Attributes
    ----------
    video_limits
        Smallest and largest volume of a video, pixels times frames (Qwen3-VL). None: each frame has the limits of an
        image (Qwen2-VL, Qwen2.5-VL, whose video processor reads ``preprocessor_config.json``).
    """

    rule: Literal["smart_resize"] = "smart_resize"
    patch_size: Size
    merge_size: Size
    min_pixels: Size
    max_pixels: Size
    temporal_patch_size: Size = 2
    video_limits: tuple[Size, Size] | None = None
    max_aspect_ratio: FiniteFloat = Field(default=200.0, ge=1)
    extra_text_tokens: Count = 2

    def resized(self, size: ImageSize) -> ImageSize:
        """Size after resizing.

        Raises
        ------
        WorkloadError
            If the aspect ratio is beyond what the processor accepts.
        """
        factor = self.patch_size * self.merge_size
        width, height = size.width, size.height
        ratio = max(width, height) / min(width, height)
        if ratio > self.max_aspect_ratio:
            raise WorkloadError(
                f"image {size}: aspect ratio is {ratio:.0f}, this model's processor accepts at most "
                f"{self.max_aspect_ratio:.0f}"
            )
        new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
        if new_height * new_width > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            new_height = max(factor, math.floor(height / shrink / factor) * factor)
            new_width = max(factor, math.floor(width / shrink / factor) * factor)
        elif new_height * new_width < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            new_height = math.ceil(height * grow / factor) * factor
            new_width = math.ceil(width * grow / factor) * factor
        return ImageSize(width=new_width, height=new_height)

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        return self._layout(self.resized(size), slices=1, extra_text_tokens=self.extra_text_tokens)

    def video_layout(self, size: ImageSize, frames: int) -> ImageLayout:
        """Patches and tokens of a video: ``temporal_patch_size`` frames a slice, each slice a sequence in the encoder.

        With ``video_limits`` each slice has its own start and end token, and a time stamp (six tokens below ten
        seconds, seven above; six are counted).

        Raises
        ------
        WorkloadError
            If the number of frames is impossible, or the aspect ratio beyond what the processor accepts.
        """
        slices = math.ceil(frames / self.temporal_patch_size)
        if self.video_limits is None:
            check_frames(frames)
            return self._layout(self.resized(size), slices=slices, extra_text_tokens=self.extra_text_tokens)
        check_frames(frames, lowest=self.temporal_patch_size)
        resized = volume_resized(
            size,
            frames=frames,
            temporal_factor=self.temporal_patch_size,
            factor=self.patch_size * self.merge_size,
            limits=self.video_limits,
            max_aspect_ratio=self.max_aspect_ratio,
        )
        text_tokens = slices * (self.extra_text_tokens + _TIME_STAMP_TOKENS)
        return self._layout(resized, slices=slices, extra_text_tokens=text_tokens)

    def _layout(self, resized: ImageSize, *, slices: int, extra_text_tokens: int) -> ImageLayout:
        grid_height, grid_width = resized.height // self.patch_size, resized.width // self.patch_size
        group = TileGroup(tiles=slices, grid_height=grid_height, grid_width=grid_width)
        visual_tokens = group.patches // self.merge_size**2
        return ImageLayout(
            groups=(group,),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=extra_text_tokens,
            resized_pixels=resized.pixels * (slices * self.temporal_patch_size if slices > 1 else 1),
        )


def read_merge_size(vision: ConfigReader) -> int:
    """Read the side of the square of patches that becomes one token."""
    return vision.integer("spatial_merge_size", default=2, highest=64)


def read_smart_resize(
    vision: ConfigReader,
    settings: ConfigReader | None,
    *,
    min_pixels: int,
    max_pixels: int,
    video_limits: tuple[int, int] | None = None,
) -> SmartResize:
    """Read the rule of ``preprocessor_config.json``; the published limits hold where that file is absent.

    The limits have two names: ``min_pixels``/``max_pixels``, and ``size.shortest_edge``/``.longest_edge``,
    which are areas in spite of their names. Those of videos are in a file of their own, which is not read: the
    published ones are given.
    """
    patch_size = vision.integer("patch_size")
    merge_size = read_merge_size(vision)
    temporal = vision.integer("temporal_patch_size", default=2, highest=64)
    if settings is not None:
        check_equal(settings, "patch_size", patch_size, why="as in the model config")
        check_equal(settings, "merge_size", merge_size, why="as in the model config")
        check_equal(settings, "temporal_patch_size", temporal, why="as in the model config")
    min_pixels, max_pixels = read_area_limits(settings, min_pixels=min_pixels, max_pixels=max_pixels)
    return SmartResize(
        patch_size=patch_size,
        merge_size=merge_size,
        min_pixels=min_pixels,
        max_pixels=max_pixels,
        temporal_patch_size=temporal,
        video_limits=video_limits,
    )


def read_area_limits(settings: ConfigReader | None, *, min_pixels: int, max_pixels: int) -> tuple[int, int]:
    """Read the smallest and largest area, in pixels; the given ones hold where the settings have none."""
    if settings is None:
        return min_pixels, max_pixels
    if settings.has("size"):
        size = settings.child("size")
        min_pixels = size.integer("shortest_edge", default=min_pixels)
        max_pixels = size.integer("longest_edge", default=max_pixels)
    min_pixels = settings.integer("min_pixels", default=min_pixels)
    max_pixels = settings.integer("max_pixels", default=max_pixels)
    if min_pixels > max_pixels:
        raise ConfigError(settings.path_of("max_pixels"), str(max_pixels), f"at least min_pixels {min_pixels}")
    return min_pixels, max_pixels
