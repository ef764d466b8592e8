"""The rule of Gemma 4: the largest size within a budget of patches, pooled three by three."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from costmodel.errors import ConfigError, WorkloadError
from costmodel.image_rules.layout import ImageLayout, ImageSize, Rule, TileGroup, check_frames
from costmodel.image_rules.settings import check_equal, read_patch_size
from costmodel.specs.base import Count, Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["Gemma4Resize", "read_gemma4"]

_BUDGETS = (70, 140, 280, 560, 1120)
_TIME_STAMP_TOKENS = 6


class Gemma4Resize(Rule):
    """Resize, also up, to as many patches as fit; the encoder runs on all of the budget, padded.

    ``Gemma4ImageProcessor`` and ``Gemma4VideoProcessor`` of transformers. Not monotone in image size: only the aspect
    ratio counts.

    Attributes
    ----------
    pooling_size
        Side of the square of patches that becomes one token.
    max_tokens, max_frame_tokens
        Budget of tokens for an image, and for a frame of a video.
    """

    rule: Literal["gemma4"] = "gemma4"
    patch_size: Size
    pooling_size: Size
    max_tokens: Size = 280
    max_frame_tokens: Size = 70
    extra_text_tokens: Count = 2

    def resized(self, size: ImageSize, max_tokens: int) -> ImageSize:
        """Size after resizing, a multiple of the patches of one token.

        Raises
        ------
        WorkloadError
            If the budget holds no image of this aspect ratio.
        """
        token_side = self.pooling_size * self.patch_size
        patches = max_tokens * self.pooling_size**2
        scale = math.sqrt(patches * self.patch_size**2 / size.pixels)
        height, width = (math.floor(scale * side / token_side) for side in (size.height, size.width))
        if height == 0 and width == 0:
            raise WorkloadError(f"image {size}: a budget of {max_tokens} visual tokens holds no image")
        longest = patches // self.pooling_size**2
        if height == 0:
            height, width = 1, min(size.width // size.height, longest)
        elif width == 0:
            height, width = min(size.height // size.width, longest), 1
        return ImageSize(width=width * token_side, height=height * token_side)

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image.

        Raises
        ------
        WorkloadError
            If the budget holds no image of this aspect ratio.
        """
        return self._layout(size, 1, self.max_tokens, self.extra_text_tokens)

    def video_layout(self, size: ImageSize, frames: int) -> ImageLayout:
        """Patches and tokens of a video: each frame on a smaller budget, after its time stamp ``mm:ss``.

        Raises
        ------
        WorkloadError
            If the number of frames is impossible, or the budget holds no frame of this aspect ratio.
        """
        check_frames(frames)
        text_tokens = frames * (self.extra_text_tokens + _TIME_STAMP_TOKENS)
        return self._layout(size, frames, self.max_frame_tokens, text_tokens)

    def _layout(self, size: ImageSize, tiles: int, max_tokens: int, extra_text_tokens: int) -> ImageLayout:
        resized = self.resized(size, max_tokens)
        grid_height, grid_width = resized.height // self.patch_size, resized.width // self.patch_size
        budget = max_tokens * self.pooling_size**2
        if grid_height * grid_width > budget:
            raise WorkloadError(f"image {size}: resized to {resized}, more than the {budget} patches of the budget")
        group = TileGroup(
            tiles=tiles,
            grid_height=grid_height,
            grid_width=grid_width,
            padding_tokens=budget - grid_height * grid_width,
        )
        visual_tokens = group.patches // self.pooling_size**2
        return ImageLayout(
            groups=(group,),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=extra_text_tokens,
            resized_pixels=tiles * max_tokens * (self.pooling_size * self.patch_size) ** 2,
        )


def read_gemma4(vision: ConfigReader, settings: ConfigReader | None) -> Gemma4Resize:
    """Read the rule of a Gemma 4 config; a budget of 280 tokens is the published default."""
    patch_size = read_patch_size(vision, settings)
    pooling_size = vision.integer("pooling_kernel_size", default=3, highest=64)
    max_tokens = 280
    if settings is not None:
        check_equal(settings, "pooling_kernel_size", pooling_size, why="as in the model config")
        max_tokens = settings.integer("max_soft_tokens", default=max_tokens)
        if max_tokens not in _BUDGETS:
            expected = f"one of {', '.join(map(str, _BUDGETS))}"
            raise ConfigError(settings.path_of("max_soft_tokens"), str(max_tokens), expected)
    return Gemma4Resize(patch_size=patch_size, pooling_size=pooling_size, max_tokens=max_tokens)
