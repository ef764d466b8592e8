"""The rule of Idefics3 and SmolVLM: resized to one longest edge, tiled, and a global view."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from costmodel.errors import ConfigError
from costmodel.image_rules.layout import (
    MAX_SIDE_PIXELS,
    MAX_TILES,
    Edge,
    ImageLayout,
    ImageSize,
    TileGroup,
    TileRule,
    check_frames,
)
from costmodel.image_rules.settings import read_grid_side, read_patch_size, read_tile_size
from costmodel.specs.base import Flag

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["SmolVLMTiles", "read_smolvlm"]

_LARGEST_SIDE = 4096
# "Frame from mm:ss:" with the newline before it; the sentence about the video, and the newline after it.
_FRAME_TEXT_TOKENS, _VIDEO_TEXT_TOKENS = 9, 24


class SmolVLMTiles(TileRule):
    """Resize to ``longest_edge`` (also up), cut into tiles, add the whole image; ``merge_size``² patches a token.

    ``Idefics3ImageProcessor`` and ``SmolVLMImageProcessor`` with their processors (arXiv 2408.12637, 2504.05299). Not
    monotone in image size: every image is brought to the same longest edge, so the aspect ratio alone counts.
    """

    rule: Literal["smolvlm"] = "smolvlm"
    longest_edge: Edge
    merge_size: Edge
    split: Flag = True
    videos: Flag = True

    def resized(self, size: ImageSize) -> ImageSize:
        """Size after the first resizing, before it is rounded up to tiles."""
        width, height = _with_longest(size.width, size.height, self.longest_edge, even=True)
        if max(width, height) > _LARGEST_SIDE:
            width, height = _with_longest(width, height, _LARGEST_SIDE, even=False)
        return ImageSize(width=width, height=height)

    def grid(self, size: ImageSize) -> tuple[int, int]:
        """Rows and columns of tiles; none where the image is not cut."""
        if not self.split:
            return (0, 0)
        resized = self.resized(size)
        ratio = resized.width / resized.height
        tile = self.tile_size
        if resized.width >= resized.height:
            width = math.ceil(resized.width / tile) * tile
            height = math.ceil(int(width / ratio) / tile) * tile
        else:
            height = math.ceil(resized.height / tile) * tile
            width = math.ceil(int(height * ratio) / tile) * tile
        return (0, 0) if max(width, height) <= tile else (height // tile, width // tile)

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image.

        The text around: two tokens a tile, one newline a row (two newlines are one token), three for the global view.
        """
        rows, columns = self.grid(size)
        return self._layout(rows * columns + 1, extra_text_tokens=rows * columns * 2 + rows + 3)

    def video_layout(self, size: ImageSize, frames: int) -> ImageLayout:
        """Patches and tokens of a video: one uncut tile a frame, with a time stamp (text tokens approximately).

        Raises
        ------
        WorkloadError
            If the number of frames is impossible, or the processor takes no videos (Idefics3).
        """
        if not self.videos:
            return super().video_layout(size, frames)
        check_frames(frames)
        return self._layout(frames, extra_text_tokens=frames * (_FRAME_TEXT_TOKENS + 3) + _VIDEO_TEXT_TOKENS)

    def _layout(self, tiles: int, *, extra_text_tokens: int) -> ImageLayout:
        side = self.grid_side
        visual_tokens = tiles * (side // self.merge_size) ** 2
        return ImageLayout(
            groups=(TileGroup(tiles=tiles, grid_height=side, grid_width=side),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=extra_text_tokens,
            resized_pixels=tiles * self.tile_size**2,
        )


def _with_longest(width: int, height: int, longest: int, *, even: bool) -> tuple[int, int]:
    """Width and height with the longer side as given, the other in proportion (rounded up to even if asked)."""
    ratio = width / height
    other = int(longest / ratio) if width >= height else int(longest * ratio)
    other = max(1, other + other % 2 if even else other)
    return (longest, other) if width >= height else (other, longest)


def read_smolvlm(vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader) -> SmolVLMTiles:
    """Read the rule of an Idefics3 or SmolVLM config; four tiles along the longest edge are the published default.

    Raises
    ------
    ConfigError
        If a field is unusable, or the longest edge would make too many tiles.
    """
    tile_size = read_tile_size(vision, settings, "max_image_size")
    patch_size = read_patch_size(vision)
    merge_size = config.integer("scale_factor", default=2, highest=64)
    read_grid_side(vision, tile_size, patch_size, multiple_of=merge_size)
    longest_edge, split = 4 * tile_size, True
    if settings is not None:
        split = settings.boolean("do_image_splitting", default=True)
        longest_edge = _read_longest_edge(settings, tile_size)
    return SmolVLMTiles(
        longest_edge=longest_edge,
        tile_size=tile_size,
        patch_size=patch_size,
        merge_size=merge_size,
        split=split,
        videos=config.text("model_type") != "idefics3",
    )


def _read_longest_edge(settings: ConfigReader, tile_size: int) -> int:
    if not settings.has("size"):
        return 4 * tile_size
    edges = settings.child("size")
    longest_edge = edges.integer("longest_edge", highest=MAX_SIDE_PIXELS)
    if math.ceil(longest_edge / tile_size) ** 2 > MAX_TILES:
        expected = f"at most {MAX_TILES} tiles of {tile_size} pixels"
        raise ConfigError(edges.path_of("longest_edge"), str(longest_edge), expected)
    return longest_edge
