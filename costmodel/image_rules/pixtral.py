"""The rule of Pixtral and Mistral-Small-3.1: reduced to a longest edge, then rounded up to whole tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from costmodel.errors import WorkloadError
from costmodel.image_rules.layout import MAX_SIDE_PIXELS, Edge, ImageLayout, ImageSize, Rule, TileGroup
from costmodel.image_rules.settings import read_patch_size, read_side
from costmodel.specs.base import Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["PixtralResize", "read_pixtral"]


class PixtralResize(Rule):
    """One token a square of ``merge_size``² patches; each row of tokens ends with a break token, the last with an end.

    ``PixtralImageProcessor`` and ``PixtralProcessor`` (arXiv 2410.07073, section 2). The break tokens are text tokens.
    Not monotone in image size: past the longest edge, a longer side makes the other one shorter.
    """

    rule: Literal["pixtral"] = "pixtral"
    patch_size: Size
    merge_size: Size
    longest_edge: Edge

    def resized(self, size: ImageSize) -> ImageSize:
        """Size after resizing.

        Raises
        ------
        WorkloadError
            If nothing would be left of the shorter side.
        """
        width, height = size.width, size.height
        ratio = max(height / self.longest_edge, width / self.longest_edge)
        if ratio > 1:
            width, height = math.floor(width / ratio), math.floor(height / ratio)
        if min(width, height) < 1:
            raise WorkloadError(
                f"image {size}: reduced to {self.longest_edge} pixels, its shorter side is less than one pixel"
            )
        token_side = self.patch_size * self.merge_size
        columns, rows = math.ceil(width / token_side), math.ceil(height / token_side)
        return ImageSize(width=columns * token_side, height=rows * token_side)

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image.

        Raises
        ------
        WorkloadError
            If nothing would be left of the shorter side.
        """
        resized = self.resized(size)
        grid_height, grid_width = resized.height // self.patch_size, resized.width // self.patch_size
        visual_tokens = grid_height * grid_width // self.merge_size**2
        return ImageLayout(
            groups=(TileGroup(tiles=1, grid_height=grid_height, grid_width=grid_width),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=grid_height // self.merge_size,
            resized_pixels=resized.pixels,
        )


def read_pixtral(vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader) -> PixtralResize:
    """Read the rule of a config with a Pixtral tower; Mistral-Small-3.1 merges patches, Pixtral has no such field."""
    default = 2 if config.text("model_type") == "mistral3" else 1
    longest_edge = read_side(vision, "image_size", default=1024)
    if settings is not None and settings.has("size"):
        longest_edge = settings.child("size").integer("longest_edge", default=longest_edge, highest=MAX_SIDE_PIXELS)
    return PixtralResize(
        patch_size=read_patch_size(vision, settings, default=16),
        merge_size=config.integer("spatial_merge_size", default=default, highest=64),
        longest_edge=longest_edge,
    )
