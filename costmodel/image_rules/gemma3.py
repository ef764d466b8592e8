"""The rule of Gemma 3: one square, and where pan-and-scan is on, crops of an elongated image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import Field, FiniteFloat

from costmodel.errors import ConfigError
from costmodel.image_rules.layout import (
    MAX_SIDE_PIXELS,
    MAX_TILES,
    ImageLayout,
    ImageSize,
    TileCount,
    TileGroup,
    TileRule,
)
from costmodel.image_rules.settings import check_equal, read_grid_side, read_patch_size, read_tile_size
from costmodel.specs.base import Flag, Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["Gemma3Crops", "read_gemma3"]

# Newlines, start and end of an image: one token each. The sentence around crops, a token a word.
_IMAGE_TEXT_TOKENS, _SENTENCE_TOKENS = 4, 15


class Gemma3Crops(TileRule):
    """The image as one square, average-pooled to ``tokens_per_tile``; crops are squares too.

    ``Gemma3ImageProcessor`` and ``Gemma3Processor`` (arXiv 2503.19786, section 2). Pan-and-scan is off by default. With
    it, not monotone in image size: it starts at an aspect ratio, and crops below ``min_crop_size`` aren't made. Text
    around crops is counted as one token a word.
    """

    rule: Literal["gemma3"] = "gemma3"
    tokens_per_tile: Size
    pan_and_scan: Flag = False
    min_crop_size: Size = 256
    max_crops: TileCount = 4
    min_aspect_ratio: FiniteFloat = Field(default=1.2, ge=1)

    def crops(self, size: ImageSize) -> int:
        """Crops beside the whole image."""
        longest, shortest = max(size.width, size.height), min(size.width, size.height)
        if not self.pan_and_scan or longest / shortest < self.min_aspect_ratio:
            return 0
        crops = min(math.floor(longest / self.min_crop_size), math.floor(longest / shortest + 0.5))
        crops = min(self.max_crops, max(2, crops))
        too_small = min(math.ceil(longest / crops), shortest) < self.min_crop_size
        return 0 if too_small else crops

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image with its crops."""
        crops = self.crops(size)
        tiles, side = 1 + crops, self.grid_side
        visual_tokens = tiles * self.tokens_per_tile
        return ImageLayout(
            groups=(TileGroup(tiles=tiles, grid_height=side, grid_width=side),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=tiles * _IMAGE_TEXT_TOKENS + _SENTENCE_TOKENS * (crops > 0),
            resized_pixels=tiles * self.tile_size**2,
        )


def read_gemma3(vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader) -> Gemma3Crops:
    """Read the rule of a Gemma 3 config.

    Raises
    ------
    ConfigError
        If a field is unusable, or patches can't be pooled to the square number of tokens.
    """
    tile_size = read_tile_size(vision, settings, "size")
    patch_size = read_patch_size(vision)
    tokens = config.integer("mm_tokens_per_image", default=256)
    token_side = math.isqrt(tokens)
    grid_side = read_grid_side(vision, tile_size, patch_size)
    if token_side**2 != tokens or grid_side % token_side:
        expected = f"the square of a divisor of the {grid_side} patches along a side"
        raise ConfigError(config.path_of("mm_tokens_per_image"), str(tokens), expected)
    rule = Gemma3Crops(tile_size=tile_size, patch_size=patch_size, tokens_per_tile=tokens)
    if settings is None:
        return rule
    check_equal(settings, "image_seq_length", tokens, why="the mm_tokens_per_image of the model config")
    prefix = "pan_and_scan"
    changes = {
        "pan_and_scan": settings.boolean(f"do_{prefix}", default=rule.pan_and_scan),
        "min_crop_size": settings.integer(
            f"{prefix}_min_crop_size", default=rule.min_crop_size, highest=MAX_SIDE_PIXELS
        ),
        "max_crops": settings.integer(f"{prefix}_max_num_crops", default=rule.max_crops, highest=MAX_TILES),
        "min_aspect_ratio": settings.number(
            f"{prefix}_min_ratio_to_activate", default=rule.min_aspect_ratio, lowest=1.0, highest=1024.0
        ),
    }
    return rule.model_copy(update=changes)
