"""The rule of Phi-4-multimodal: as many crops as the image covers, masked where padded, and a global one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from costmodel.errors import ConfigError, WorkloadError
from costmodel.image_rules.layout import MAX_TILES, Edge, ImageLayout, ImageSize, TileCount, TileGroup, TileRule
from costmodel.image_rules.settings import check_equal, read_grid_side, read_patch_size, read_side
from costmodel.image_rules.tiles import closest_aspect_ratio, grids_up_to

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["Phi4Crops", "read_phi4mm"]

_TILE_SIZE, _PATCH_SIZE, _MIN_SIDE = 448, 14, 10


class Phi4Crops(TileRule):
    """Crops and a global view, pooled two by two; a newline embedding a row, one separator between the two.

    ``Phi4MultimodalImageProcessor`` (arXiv 2503.01743, section 2.1, dynamic multi-crop). The image isn't enlarged:
    the crops cover it, ``max_crops`` at most. Not monotone in image size once that limit is met.
    """

    rule: Literal["phi4mm"] = "phi4mm"
    tile_size: Edge = _TILE_SIZE
    patch_size: Edge = _PATCH_SIZE
    max_crops: TileCount = 36

    @model_validator(mode="after")
    def _features_pool_in_pairs(self) -> Phi4Crops:
        if self.tile_size % self.patch_size or self.grid_side % 2:
            raise ValueError(f"crops of {self.tile_size} pixels aren't an even number of patches of {self.patch_size}")
        return self

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """Columns and rows of crops."""
        columns, rows = math.ceil(size.width / self.tile_size), math.ceil(size.height / self.tile_size)
        if columns * rows <= self.max_crops:
            return columns, rows
        return closest_aspect_ratio(size, self.tile_size, grids_up_to(self.max_crops))

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image.

        Raises
        ------
        WorkloadError
            If the image is thinner than ten pixels once resized.
        """
        columns, rows = self.grid(size)
        height, width = self._features(size, columns, rows)
        tiles, side = 1 + columns * rows, self.grid_side
        pooled = side // 2
        visual_tokens = pooled * (pooled + 1) + 1 + height * (width + 1)
        return ImageLayout(
            groups=(TileGroup(tiles=tiles, grid_height=side, grid_width=side),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=0,
            resized_pixels=tiles * self.tile_size**2,
        )

    def _features(self, size: ImageSize, columns: int, rows: int) -> tuple[int, int]:
        """Rows and columns of pooled features that aren't padding, all crops."""
        width, height = columns * self.tile_size, rows * self.tile_size
        width_scale, height_scale = width / size.width, height / size.height
        if width_scale < height_scale:
            new_width, new_height = width, int(size.height * width_scale)
        else:
            new_width, new_height = int(size.width * height_scale), height
        if min(new_width, new_height) < _MIN_SIDE:
            raise WorkloadError(
                f"image {size}: aspect ratio is too extreme, resized to {new_width}x{new_height} "
                f"it is thinner than {_MIN_SIDE} pixels"
            )
        patch_rows = (height - (height - new_height) // self.patch_size * self.patch_size) // self.patch_size
        patch_columns = (width - (width - new_width) // self.patch_size * self.patch_size) // self.patch_size
        return math.ceil(patch_rows / 2), math.ceil(patch_columns / 2)


def read_phi4mm(vision: ConfigReader, settings: ConfigReader | None) -> Phi4Crops:
    """Read the rule of a Phi-4-multimodal config; the class defaults hold where it leaves a field out."""
    tile_size = read_side(vision, "crop_size", default=_TILE_SIZE)
    patch_size = read_patch_size(vision, settings, default=_PATCH_SIZE)
    read_grid_side(vision, tile_size, patch_size, multiple_of=2)
    if tile_size % patch_size:
        expected = f"a divisor of crop_size {tile_size}"
        raise ConfigError(vision.path_of("patch_size"), str(patch_size), expected)
    max_crops = 36
    if settings is not None:
        if settings.has("size"):
            check_equal(settings.child("size"), "height", tile_size, why="as in the model config")
        max_crops = settings.integer("dynamic_hd", default=max_crops, highest=MAX_TILES)
    return Phi4Crops(tile_size=tile_size, patch_size=patch_size, max_crops=max_crops)
