"""The rule of InternVL3 and InternVL3.5: square tiles in the grid of the closest aspect ratio, and a thumbnail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from costmodel.errors import ConfigError
from costmodel.image_rules.layout import (
    MAX_TILES,
    Edge,
    ImageLayout,
    ImageSize,
    TileCount,
    TileGroup,
    TileRule,
    check_frames,
)
from costmodel.image_rules.settings import read_grid_side, read_patch_size, read_tile_size
from costmodel.image_rules.tiles import closest_aspect_ratio, grids_up_to
from costmodel.specs.base import Count, Flag

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["InternVLTiles", "read_internvl"]


class InternVLTiles(TileRule):
    """Tiles of one size; past one tile, also the whole image as a thumbnail; ``merge_size``² patches a token.

    The rule of ``GotOcr2ImageProcessor`` under ``InternVLProcessor`` (arXiv 2404.16821, section 3.1), which tiles even
    where ``preprocessor_config.json`` says ``crop_to_patches: false``. Not monotone in image size: the aspect ratio
    alone chooses the grid, so a small image can take twelve tiles and a larger one nine.
    """

    rule: Literal["internvl"] = "internvl"
    merge_size: Edge
    min_tiles: TileCount = 1
    max_tiles: TileCount = 12
    crop_to_patches: Flag = True
    class_tokens: Count = 1
    extra_text_tokens: Count = 2

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """Columns and rows of tiles."""
        if not self.crop_to_patches or self.max_tiles == 1:
            return (1, 1)
        return closest_aspect_ratio(size, self.tile_size, grids_up_to(self.max_tiles, self.min_tiles))

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        columns, rows = self.grid(size)
        tiles = columns * rows + (columns * rows > 1)
        return self._layout(tiles, self.extra_text_tokens)

    def video_layout(self, size: ImageSize, frames: int) -> ImageLayout:
        """Patches and tokens of a video: one tile a frame; the text ``Frame<i>:`` counts as four tokens, a newline one.

        Raises
        ------
        WorkloadError
            If the number of frames is impossible.
        """
        check_frames(frames)
        return self._layout(frames, frames * (self.extra_text_tokens + 4) + frames - 1)

    def _layout(self, tiles: int, extra_text_tokens: int) -> ImageLayout:
        side = self.grid_side
        group = TileGroup(tiles=tiles, grid_height=side, grid_width=side, class_tokens=self.class_tokens)
        visual_tokens = tiles * (side // self.merge_size) ** 2
        return ImageLayout(
            groups=(group,),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=extra_text_tokens,
            resized_pixels=tiles * self.tile_size**2,
        )


def read_internvl(vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader) -> InternVLTiles:
    """Read the rule of an InternVL config (``downsample_ratio`` is one over the side of the merged square)."""
    tile_size = read_tile_size(vision, settings, "size")
    patch_size = read_patch_size(vision)
    merge_size = read_ratio(config, "downsample_ratio")
    grid_side = read_grid_side(vision, tile_size, patch_size, multiple_of=merge_size)
    expected = (grid_side // merge_size) ** 2
    if config.integer("image_seq_length", default=expected) != expected:
        got = str(config.integer("image_seq_length"))
        raise ConfigError(config.path_of("image_seq_length"), got, f"{expected}, the tokens of a tile")
    rule = InternVLTiles(tile_size=tile_size, patch_size=patch_size, merge_size=merge_size)
    if settings is None:
        return rule
    most = settings.integer("max_patches", default=rule.max_tiles, highest=MAX_TILES)
    fewest = settings.integer("min_patches", default=rule.min_tiles, highest=most)
    return rule.model_copy(update={"min_tiles": fewest, "max_tiles": most})


def read_ratio(config: ConfigReader, key: str) -> int:
    """Read a ratio below one, such as 0.5, as the integer that it is one over; 0.5 where it is left out."""
    if not config.has(key):
        return 2
    ratio = config.number(key, lowest=1 / 64, highest=1.0)
    if round(1 / ratio) * ratio != 1:
        raise ConfigError(config.path_of(key), str(ratio), "one over an integer, for example 0.5")
    return round(1 / ratio)
