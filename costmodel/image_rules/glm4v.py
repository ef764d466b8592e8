"""The rule of GLM-4.1V and GLM-4.5V: as the Qwen-VL one, but the area limits count frames too."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, FiniteFloat

from costmodel.image_rules.layout import ImageLayout, ImageSize, Rule, TileGroup, check_frames
from costmodel.image_rules.settings import check_equal
from costmodel.image_rules.smart_resize import read_area_limits, read_merge_size
from costmodel.image_rules.volume import volume_resized
from costmodel.specs.base import Count, Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["Glm4vResize", "read_glm4v"]

# Limits of the published preprocessor_config.json, in pixels times frames.
_MIN_PIXELS, _MAX_PIXELS = 112 * 112, 28 * 28 * 2 * 6144
_VIDEO_MAX_PIXELS = 28 * 28 * 2 * 30_000


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
    video_max_pixels: Size = _VIDEO_MAX_PIXELS
    max_aspect_ratio: FiniteFloat = Field(default=200.0, ge=1)
    extra_text_tokens: Count = 2

    def resized(self, size: ImageSize) -> ImageSize:
        """Size of an image after resizing.

        Raises
        ------
        WorkloadError
            If the aspect ratio is beyond what the processor accepts.
        """
        return self._resized(size, self.temporal_patch_size, self.max_pixels)

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        return self._layout(self.resized(size), slices=1, extra_text_tokens=self.extra_text_tokens)

    def video_layout(self, size: ImageSize, frames: int) -> ImageLayout:
        """Patches and tokens of a video: each slice of frames is an image of its own, with its second as one token.

        Raises
        ------
        WorkloadError
            If the number of frames is impossible, or the aspect ratio beyond what the processor accepts.
        """
        check_frames(frames, lowest=self.temporal_patch_size)
        slices = math.ceil(frames / self.temporal_patch_size)
        resized = self._resized(size, frames, self.video_max_pixels)
        return self._layout(resized, slices=slices, extra_text_tokens=self.extra_text_tokens + 3 * slices)

    def _resized(self, size: ImageSize, frames: int, max_pixels: int) -> ImageSize:
        return volume_resized(
            size,
            frames=frames,
            temporal_factor=self.temporal_patch_size,
            factor=self.patch_size * self.merge_size,
            limits=(self.min_pixels, max_pixels),
            max_aspect_ratio=self.max_aspect_ratio,
        )

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
