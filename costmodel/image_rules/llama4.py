"""The rule of Llama 4: tiles of the canvas that needs the least rescaling, and a global one."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Literal

from costmodel.image_rules.internvl import read_ratio
from costmodel.image_rules.layout import MAX_TILES, Edge, ImageLayout, ImageSize, TileCount, TileGroup, TileRule
from costmodel.image_rules.settings import read_grid_side, read_patch_size, read_tile_size
from costmodel.image_rules.tiles import least_rescaled
from costmodel.specs.base import Flag

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["Llama4Tiles", "read_llama4"]


@cache
def _grids(max_tiles: int) -> tuple[tuple[int, int], ...]:
    """Rows and columns by number of tiles, most first, those of an aspect ratio met before next to it."""
    by_ratio: dict[float, list[tuple[int, int]]] = {}
    for tiles in range(max_tiles, 0, -1):
        for rows in (side for side in range(1, tiles + 1) if tiles % side == 0):
            by_ratio.setdefault(rows / (tiles // rows), []).append((rows, tiles // rows))
    return tuple(grid for grids in by_ratio.values() for grid in grids)


class Llama4Tiles(TileRule):
    """Up to ``max_tiles`` tiles, past one also the whole image; ``merge_size``² patches a token, a class token a tile.

    ``Llama4ImageProcessor`` and ``Llama4Processor`` of transformers. Not monotone in image size: a longer
    side can ask for a canvas of fewer tiles. Tile separators are text tokens.
    """

    rule: Literal["llama4"] = "llama4"
    merge_size: Edge
    max_tiles: TileCount = 16
    largest_canvas: Flag = False

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """Rows and columns of tiles."""
        return least_rescaled(
            size.height,
            size.width,
            self.tile_size,
            _grids(self.max_tiles),
            largest=self.largest_canvas,
        )

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        rows, columns = self.grid(size)
        cut = rows * columns if rows * columns > 1 else 0
        tiles, side = cut + 1, self.grid_side
        visual_tokens = tiles * (side // self.merge_size) ** 2
        return ImageLayout(
            groups=(TileGroup(tiles=tiles, grid_height=side, grid_width=side, class_tokens=1),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=3 + cut,
            resized_pixels=tiles * self.tile_size**2,
        )


def read_llama4(vision: ConfigReader, settings: ConfigReader | None) -> Llama4Tiles:
    """Read the rule of a Llama 4 config (``pixel_shuffle_ratio`` is one over the side of the merged square)."""
    tile_size = read_tile_size(vision, settings, "size")
    patch_size = read_patch_size(vision)
    merge_size = read_ratio(vision, "pixel_shuffle_ratio")
    read_grid_side(vision, tile_size, patch_size, multiple_of=merge_size)
    rule = Llama4Tiles(tile_size=tile_size, patch_size=patch_size, merge_size=merge_size)
    if settings is None:
        return rule
    max_tiles = settings.integer("max_patches", default=rule.max_tiles, highest=MAX_TILES)
    largest_canvas = settings.boolean("resize_to_max_canvas", default=False)
    return rule.model_copy(update={"max_tiles": max_tiles, "largest_canvas": largest_canvas})
