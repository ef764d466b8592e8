"""The rule of Molmo: overlapping crops and a global one, pooled two by two."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from costmodel.errors import ConfigError
from costmodel.image_rules.layout import MAX_TILES, Edge, ImageLayout, ImageSize, TileCount, TileGroup, TileRule
from costmodel.image_rules.settings import read_side
from costmodel.image_rules.tiles import grids_up_to, least_rescaled
from costmodel.specs.base import Count

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["MolmoCrops", "read_molmo"]

_POOLING = 2
_MOST_PATCHES_A_SIDE = 512


class MolmoCrops(TileRule):
    """Crops overlapping by their margins, whose features are read once; a global view; a column token a row.

    ``MolmoImageProcessor``, which comes with the checkpoint (arXiv 2409.17146, section 2). Not
    monotone in image size: the grid follows the aspect ratio, and where a side is not longer than the
    margins there is one crop, whatever the other side. Column, start and end tokens are text tokens.
    """

    rule: Literal["molmo"] = "molmo"
    tile_size: Edge = 336
    patch_size: Edge = 14
    max_crops: TileCount = 12
    left_margin: Count = 4
    right_margin: Count = 4
    class_tokens: Count = 1

    @model_validator(mode="after")
    def _crops_have_a_middle(self) -> MolmoCrops:
        margins = self.left_margin + self.right_margin
        if self.grid_side <= margins or margins % (2 * _POOLING):
            raise ValueError(f"margins are {margins} patches, expected a multiple of 4 below the side of a crop")
        return self

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """Rows and columns of crops."""
        margin = self.patch_size * (self.left_margin + self.right_margin)
        window = self.grid_side * self.patch_size - margin
        height, width = size.height - margin, size.width - margin
        return least_rescaled(height, width, window, grids_up_to(self.max_crops))

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        rows, columns = self.grid(size)
        side, tiles = self.grid_side, rows * columns + 1
        pooled = math.ceil(side / _POOLING)
        height, width = self._features(rows), self._features(columns)
        return ImageLayout(
            groups=(TileGroup(tiles=tiles, grid_height=side, grid_width=side, class_tokens=self.class_tokens),),
            visual_tokens=pooled**2 + height * width,
            connector_tokens=tiles * pooled**2,
            extra_text_tokens=4 + pooled + height,
            resized_pixels=tiles * self.tile_size**2,
        )

    def _features(self, crops: int) -> int:
        """Pooled features along a side of that many overlapping crops."""
        side = self.grid_side
        if crops == 1:
            return math.ceil(side / _POOLING)
        middle = side - self.left_margin - self.right_margin
        edges = math.ceil((middle + self.left_margin) / _POOLING) + math.ceil((middle + self.right_margin) / _POOLING)
        return edges + (crops - 2) * math.ceil(middle / _POOLING)


def read_molmo(settings: ConfigReader | None) -> MolmoCrops:
    """Read the rule from Molmo's image settings (its model config says nothing of images).

    Raises
    ------
    ConfigError
        If a field is unusable, or the crops are smaller than their margins.
    """
    rule = MolmoCrops()
    if settings is None:
        return rule
    tile_size = read_side(settings, "base_image_input_size", default=rule.tile_size)
    patch_size = settings.integer("image_patch_size", default=rule.patch_size)
    left, right = rule.left_margin, rule.right_margin
    if settings.has("overlap_margins"):
        left, right = settings.pair("overlap_margins", lowest=0, highest=_MOST_PATCHES_A_SIDE)
    if tile_size // patch_size <= left + right or (left + right) % (2 * _POOLING):
        got = f"margins of {left + right} patches in crops of {tile_size // patch_size}"
        raise ConfigError(settings.path_of("overlap_margins"), got, "a multiple of 4 below the side of a crop")
    return MolmoCrops(
        tile_size=tile_size,
        patch_size=patch_size,
        max_crops=settings.integer("max_crops", default=rule.max_crops, highest=MAX_TILES),
        left_margin=left,
        right_margin=right,
    )
