"""The rule of LLaVA-OneVision: AnyRes tiles whose features are interpolated down to a budget of tiles."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Literal

from pydantic import model_validator

from costmodel.errors import ConfigError
from costmodel.image_rules.fixed import read_class_tokens
from costmodel.image_rules.layout import ImageLayout, ImageSize, TileCount, TileGroup, TileRule, check_frames
from costmodel.image_rules.llava_next import Canvases, best_canvas, check_canvases, read_canvases, unpadded_grid
from costmodel.image_rules.settings import read_grid_side, read_patch_size, read_tile_size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["LlavaOnevisionTiles", "read_llava_onevision"]

_INTERPOLATE_BEYOND = 1.1
_MOST_TILES_A_SIDE = 6
_BUDGET_TEXT = re.compile(r"anyres_max_([1-9][0-9]{0,2})")


class LlavaOnevisionTiles(TileRule):
    """A base view, the canvas' tiles unpadded and interpolated to ``budget_tiles`` tiles, one newline token a row.

    ``LlavaOnevisionImageProcessor`` and ``LlavaOnevisionProcessor`` (arXiv 2408.03326, section 3.2). Several images in
    one prompt get the base view and one newline token each. All tiles run through encoder and connector, so patches
    can be several times the tokens. Not monotone in image size: the canvas follows the aspect ratio.
    """

    rule: Literal["llava_onevision"] = "llava_onevision"
    canvases: Canvases
    budget_tiles: TileCount = 9

    @model_validator(mode="after")
    def _canvases_are_tiled(self) -> LlavaOnevisionTiles:
        check_canvases(self.canvases, self.tile_size)
        return self

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image: tiled if it is the only one in the prompt."""
        side = self.grid_side
        if images_in_prompt > 1:
            return self._layout(tiles=1, visual_tokens=side**2 + 1)
        height, width = best_canvas(size, self.canvases)
        tile_rows, tile_columns = height // self.tile_size, width // self.tile_size
        rows, columns = unpadded_grid(size, tile_rows * side, tile_columns * side)
        shrink = math.sqrt(rows * columns / (self.budget_tiles * side**2))
        if shrink > _INTERPOLATE_BEYOND:
            rows, columns = int(rows // shrink), int(columns // shrink)
        return self._layout(tiles=1 + tile_rows * tile_columns, visual_tokens=side**2 + rows * (columns + 1))

    def video_layout(self, size: ImageSize, frames: int) -> ImageLayout:
        """Patches and tokens of a video: one tile a frame, pooled two by two, and one newline token for them all.

        Raises
        ------
        WorkloadError
            If the number of frames is impossible.
        """
        check_frames(frames)
        pooled = math.ceil(self.grid_side / 2)
        return self._layout(tiles=frames, visual_tokens=frames * pooled**2 + 1)

    def _layout(self, *, tiles: int, visual_tokens: int) -> ImageLayout:
        side = self.grid_side
        return ImageLayout(
            groups=(TileGroup(tiles=tiles, grid_height=side, grid_width=side),),
            visual_tokens=visual_tokens,
            connector_tokens=tiles * side**2,
            extra_text_tokens=0,
            resized_pixels=tiles * self.tile_size**2,
        )


def read_llava_onevision(
    vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader
) -> LlavaOnevisionTiles:
    """Read the rule of a LLaVA-OneVision config; canvases of up to 6 by 6 tiles are the published default."""
    tile_size = read_tile_size(vision, settings, "size", default=384)
    patch_size = read_patch_size(vision, default=14)
    read_grid_side(vision, tile_size, patch_size)
    if read_class_tokens(vision):
        raise ConfigError(vision.path_of("model_type"), "a tower with class tokens", "siglip_vision_model")
    sides = [tile_size * tiles for tiles in range(1, _MOST_TILES_A_SIDE + 1)]
    default = tuple((height, width) for height in sides for width in sides)
    return LlavaOnevisionTiles(
        tile_size=tile_size,
        patch_size=patch_size,
        canvases=read_canvases(settings, config, tile_size, default=default),
        budget_tiles=_read_budget(config),
    )


def _read_budget(config: ConfigReader) -> int:
    key = "vision_aspect_ratio"
    text = config.text(key) if config.has(key) else "anyres_max_9"
    match = _BUDGET_TEXT.fullmatch(text)
    if match is None:
        raise ConfigError(config.path_of(key), repr(text)[:40], "anyres_max_<tiles>")
    return int(match[1])
