"""The rule of LLaVA-NeXT (v1.6): a base view and the tiles of the best fitting canvas, without its padding."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from costmodel.errors import ConfigError
from costmodel.image_rules.fixed import read_class_tokens, read_select_class_tokens
from costmodel.image_rules.layout import MAX_SIDE_PIXELS, Edge, ImageLayout, ImageSize, TileGroup, TileRule
from costmodel.image_rules.settings import read_grid_side, read_patch_size, read_tile_size
from costmodel.specs.base import Count

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = [
    "Canvas",
    "Canvases",
    "LlavaNextTiles",
    "best_canvas",
    "check_canvases",
    "read_canvases",
    "read_llava_next",
    "unpadded_grid",
]

Canvas = tuple[Edge, Edge]
"""Height and width in pixels."""

_MAX_CANVASES = 1024

Canvases = Annotated[tuple[Canvas, ...], Field(min_length=1, max_length=_MAX_CANVASES)]
"""Canvases to choose from."""

_CANVASES = ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))


def best_canvas(size: ImageSize, canvases: tuple[Canvas, ...]) -> Canvas:
    """Canvas that keeps most of the image's pixels, and of these the one that wastes fewest of its own.

    ``select_best_resolution`` of transformers.
    """
    best, best_kept, best_waste = canvases[0], 0, float("inf")
    for height, width in canvases:
        scale = min(width / size.width, height / size.height)
        kept = min(int(size.width * scale) * int(size.height * scale), size.pixels)
        waste = height * width - kept
        if kept > best_kept or (kept == best_kept and waste < best_waste):
            best, best_kept, best_waste = (height, width), kept, waste
    return best


def check_canvases(canvases: tuple[Canvas, ...], tile_size: int) -> None:
    """Refuse canvases that aren't whole tiles, with the ``ValueError`` that a model validator may raise."""
    if any(side % tile_size for canvas in canvases for side in canvas):
        raise ValueError(f"canvases are not multiples of tile_size {tile_size}")


def unpadded_grid(size: ImageSize, rows: int, columns: int) -> tuple[int, int]:
    """Rows and columns of features that remain of a canvas when those of its padding are cut off (none of a thread)."""
    if size.width / size.height > columns / rows:
        kept = int(round(size.height * (columns / size.width), 7))
        return rows - (rows - kept) // 2 * 2, columns
    kept = int(round(size.width * (rows / size.height), 7))
    return rows, columns - (columns - kept) // 2 * 2


class LlavaNextTiles(TileRule):
    """A base view of the whole image, the canvas' tiles unpadded, and one newline token a row of features.

    ``LlavaNextImageProcessor`` and ``LlavaNextProcessor`` (LLaVA-NeXT, 2024; AnyRes). Not monotone in image size: the
    canvas, and how much of it is padding, follow the aspect ratio.

    Attributes
    ----------
    canvases
        Allowed canvases, height and width, multiples of ``tile_size``.
    """

    rule: Literal["llava_next"] = "llava_next"
    canvases: Canvases
    class_tokens: Count = 1

    @model_validator(mode="after")
    def _canvases_are_tiled(self) -> LlavaNextTiles:
        check_canvases(self.canvases, self.tile_size)
        return self

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        height, width = best_canvas(size, self.canvases)
        side = self.grid_side
        tiles = 1 + (height // self.tile_size) * (width // self.tile_size)
        rows, columns = unpadded_grid(size, height // self.tile_size * side, width // self.tile_size * side)
        return ImageLayout(
            groups=(TileGroup(tiles=tiles, grid_height=side, grid_width=side, class_tokens=self.class_tokens),),
            visual_tokens=side**2 + rows * (columns + 1),
            connector_tokens=tiles * side**2,
            extra_text_tokens=0,
            resized_pixels=tiles * self.tile_size**2,
        )


def read_llava_next(vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader) -> LlavaNextTiles:
    """Read the rule of a LLaVA-NeXT config."""
    tile_size = read_tile_size(vision, settings, "crop_size", "size", default=336)
    patch_size = read_patch_size(vision, default=14)
    read_grid_side(vision, tile_size, patch_size)
    class_tokens = read_class_tokens(vision)
    if class_tokens and read_select_class_tokens(config):
        path = config.path_of("vision_feature_select_strategy")
        raise ConfigError(path, "'full'", "'default': a tile with its class token isn't a grid")
    return LlavaNextTiles(
        tile_size=tile_size,
        patch_size=patch_size,
        canvases=read_canvases(settings, config, tile_size, default=_CANVASES),
        class_tokens=class_tokens,
    )


def read_canvases(
    settings: ConfigReader | None, config: ConfigReader, tile_size: int, *, default: tuple[Canvas, ...]
) -> tuple[Canvas, ...]:
    """Read ``image_grid_pinpoints``, from the image settings or else from the model's config.

    Raises
    ------
    ConfigError
        If it isn't a list of pairs of multiples of ``tile_size``.
    """
    key = "image_grid_pinpoints"
    source = next((reader for reader in (settings, config) if reader is not None and reader.has(key)), None)
    if source is None:
        return default
    canvases = source.pairs(key, highest=MAX_SIDE_PIXELS)
    if not 1 <= len(canvases) <= _MAX_CANVASES or any(side % tile_size for pair in canvases for side in pair):
        got = f"{len(canvases)} pairs"
        raise ConfigError(source.path_of(key), got, f"1 to {_MAX_CANVASES} pairs of multiples of {tile_size}")
    return canvases
