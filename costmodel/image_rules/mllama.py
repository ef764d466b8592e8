"""The rule of Llama 3.2 Vision: up to four tiles that cross-attention layers read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from costmodel.image_rules.layout import ImageLayout, ImageSize, TileCount, TileGroup, TileRule
from costmodel.image_rules.settings import check_equal, read_grid_side, read_patch_size, read_tile_size
from costmodel.image_rules.tiles import least_rescaled

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["MllamaTiles", "read_mllama"]

_LENGTH_MULTIPLE = 8


class MllamaTiles(TileRule):
    """Tiles of the canvas that needs the least rescaling; the decoder's own sequence holds one ``<|image|>`` token.

    ``MllamaImageProcessor`` and ``MllamaVisionModel`` of transformers. The encoder always runs ``max_tiles`` tiles as
    one sequence, each with a class token and padded to a multiple of eight; what padding tiles put out is held as
    masked keys and values. Not monotone in image size: a longer side can ask for a canvas of fewer tiles.
    """

    rule: Literal["mllama"] = "mllama"
    max_tiles: TileCount = 4

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """Rows and columns of tiles."""
        sides = range(1, self.max_tiles + 1)
        grids = [(rows, columns) for rows in sides for columns in sides if rows * columns <= self.max_tiles]
        return least_rescaled(size.height, size.width, self.tile_size, grids)

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and vision states of one image."""
        rows, columns = self.grid(size)
        used, side = rows * columns, self.grid_side
        states = side**2 + 1
        group = TileGroup(
            tiles=self.max_tiles,
            grid_height=side,
            grid_width=side,
            class_tokens=1,
            padding_tokens=-states % _LENGTH_MULTIPLE,
            tiles_per_sequence=self.max_tiles,
        )
        return ImageLayout(
            groups=(group,),
            visual_tokens=1,
            connector_tokens=self.max_tiles * states,
            extra_text_tokens=0,
            resized_pixels=self.max_tiles * self.tile_size**2,
            cross_attention_tokens=used * states,
            cross_attention_padding=(self.max_tiles - used) * states,
        )


def read_mllama(vision: ConfigReader, settings: ConfigReader | None) -> MllamaTiles:
    """Read the rule of a Llama 3.2 Vision config."""
    tile_size = read_tile_size(vision, settings, "size")
    patch_size = read_patch_size(vision)
    read_grid_side(vision, tile_size, patch_size)
    max_tiles = vision.integer("max_num_tiles", default=4, highest=64)
    if settings is not None:
        check_equal(settings, "max_image_tiles", max_tiles, why="the max_num_tiles of the model config")
    return MllamaTiles(tile_size=tile_size, patch_size=patch_size, max_tiles=max_tiles)
