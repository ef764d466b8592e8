"""What every image rule takes and gives: a size in pixels, and the patches and tokens that it becomes."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, PositiveInt, model_validator

from costmodel.errors import WorkloadError
from costmodel.specs.base import Count, Frozen

__all__ = [
    "MAX_FRAMES",
    "MAX_SIDE_PIXELS",
    "MAX_TILES",
    "Edge",
    "ImageLayout",
    "ImageSize",
    "Rule",
    "TileCount",
    "TileGroup",
    "TileRule",
    "VideoSize",
    "check_frames",
]

MAX_SIDE_PIXELS = 65_535
"""The longest side that a JPEG file can have."""

MAX_FRAMES = 65_535
"""More frames than any processor samples from a video."""

MAX_TILES = 128
"""More tiles of one image than any published model allows."""

Edge = Annotated[int, Field(strict=True, ge=1, le=MAX_SIDE_PIXELS)]
"""A side of what enters the encoder, in pixels or patches."""

TileCount = Annotated[int, Field(strict=True, ge=1, le=MAX_TILES)]
"""A limit on the tiles of one image."""

_SIZE_TEXT = re.compile(r"(-?[0-9]{1,9}) *[xX] *(-?[0-9]{1,9})")
_VIDEO_TEXT = re.compile(rf"{_SIZE_TEXT.pattern} *[xX] *(-?[0-9]{{1,9}})")


class ImageSize(Frozen):
    """Width and height of an image before any processing, in pixels."""

    width: int
    height: int

    @model_validator(mode="after")
    def _sides_are_possible(self) -> ImageSize:
        for name, side in (("width", self.width), ("height", self.height)):
            if not 1 <= side <= MAX_SIDE_PIXELS:
                raise WorkloadError(f"image {self}: {name} is {side}, expected 1 to {MAX_SIDE_PIXELS} pixels")
        return self

    @classmethod
    def parse(cls, text: str) -> ImageSize:
        """Read ``WIDTHxHEIGHT``.

        Raises
        ------
        WorkloadError
            If the text has another form or a side is out of range.
        """
        match = _SIZE_TEXT.fullmatch(text.strip())
        if match is None:
            got = repr(text) if len(text) <= 40 else f"{text[:37]!r}..."
            raise WorkloadError(f"image {got}: expected WIDTHxHEIGHT in pixels, for example 640x480")
        return cls(width=int(match[1]), height=int(match[2]))

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class VideoSize(Frozen):
    """Width and height of a video in pixels, and the frames sampled from it that are given to the model."""

    width: int
    height: int
    frames: int

    @model_validator(mode="after")
    def _size_is_possible(self) -> VideoSize:
        ImageSize(width=self.width, height=self.height)
        check_frames(self.frames)
        return self

    @classmethod
    def parse(cls, text: str) -> VideoSize:
        """Read ``WIDTHxHEIGHTxFRAMES``.

        Raises
        ------
        WorkloadError
            If the text has another form, or a number is out of range.
        """
        match = _VIDEO_TEXT.fullmatch(text.strip())
        if match is None:
            got = repr(text) if len(text) <= 40 else f"{text[:37]!r}..."
            raise WorkloadError(f"video {got}: expected WIDTHxHEIGHTxFRAMES, for example 640x480x32")
        return cls(width=int(match[1]), height=int(match[2]), frames=int(match[3]))

    @property
    def frame(self) -> ImageSize:
        """Size of a frame."""
        return ImageSize(width=self.width, height=self.height)

    @property
    def pixels(self) -> int:
        """Number of pixels, all frames."""
        return self.width * self.height * self.frames

    def __str__(self) -> str:
        return f"{self.width}x{self.height}x{self.frames}"


class TileGroup(Frozen):
    """Tiles of equal shape.

    Attributes
    ----------
    tiles
        Number of tiles.
    grid_height, grid_width
        Patches of one tile, in rows and columns.
    class_tokens
        Learned tokens that the encoder adds to a tile's patches.
    padding_tokens
        Masked positions that the encoder computes all the same, a tile.
    tiles_per_sequence
        Tiles that attend to each other in the encoder (1: each tile alone).
    """

    tiles: PositiveInt
    grid_height: PositiveInt
    grid_width: PositiveInt
    class_tokens: Count = 0
    padding_tokens: Count = 0
    tiles_per_sequence: PositiveInt = 1

    @property
    def patches(self) -> int:
        """Patches of all tiles."""
        return self.tiles * self.grid_height * self.grid_width

    @property
    def tokens_per_tile(self) -> int:
        """Positions of one tile in the encoder: patches, class tokens and padding."""
        return self.grid_height * self.grid_width + self.class_tokens + self.padding_tokens

    @property
    def sequences(self) -> int:
        """Independent sequences in the encoder."""
        return self.tiles // self.tiles_per_sequence

    @property
    def sequence_tokens(self) -> int:
        """Length of one sequence in the encoder."""
        return self.tiles_per_sequence * self.tokens_per_tile


class ImageLayout(Frozen):
    """What an image processor makes of one image, or of one video.

    Attributes
    ----------
    groups
        Tiles that enter the encoder; those of another shape are another group.
    visual_tokens
        Positions in the decoder's sequence that hold the image.
    connector_tokens
        Rows that the connector puts out, before any is dropped, interpolated or joined by newline rows.
    extra_text_tokens
        Text tokens that the prompt template puts around and between them.
    resized_pixels
        Pixels after resizing, all tiles.
    cross_attention_tokens
        Vision states that cross-attention layers read (0 where visual tokens enter the sequence).
    cross_attention_padding
        Further vision states, of padding tiles, that are masked but held and computed by transformers.
    """

    groups: tuple[TileGroup, ...] = Field(min_length=1)
    visual_tokens: PositiveInt
    connector_tokens: PositiveInt
    extra_text_tokens: Count
    resized_pixels: PositiveInt
    cross_attention_tokens: Count = 0
    cross_attention_padding: Count = 0

    @property
    def patches(self) -> int:
        """Patches that enter the encoder, all tiles; class tokens and padding are not counted."""
        return sum(group.patches for group in self.groups)

    @property
    def tiles(self) -> int:
        """Tiles of all groups."""
        return sum(group.tiles for group in self.groups)

    @property
    def sequences(self) -> int:
        """Independent sequences in the encoder."""
        return sum(group.sequences for group in self.groups)

    @property
    def grid_height(self) -> int:
        """Rows of patches in a tile of the first group."""
        return self.groups[0].grid_height

    @property
    def grid_width(self) -> int:
        """Columns of patches in a tile of the first group."""
        return self.groups[0].grid_width


class Rule(Frozen):
    """Base class of the rules; each has a ``rule`` literal by which a spec file names it."""

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image.

        Parameters
        ----------
        size
            Size of the image before any processing.
        images_in_prompt
            Images in the same prompt; some processors tile only a single image.

        Raises
        ------
        WorkloadError
            If the processor refuses such an image.
        """
        raise NotImplementedError

    def video_layout(self, size: ImageSize, frames: int) -> ImageLayout:
        """Patches and tokens of one video of ``frames`` sampled frames.

        Raises
        ------
        WorkloadError
            If the processor takes no video, or not such a one.
        """
        raise WorkloadError(f"video {size} of {frames} frames: this model's processor reads images only")


class TileRule(Rule):
    """Base class of the rules that cut square tiles; those that merge patches have a field ``merge_size`` too."""

    tile_size: Edge
    patch_size: Edge

    @model_validator(mode="after")
    def _tiles_hold_whole_tokens(self) -> TileRule:
        merge_size = getattr(self, "merge_size", 1)
        if self.grid_side < 1 or self.grid_side % merge_size:
            raise ValueError(
                f"tiles of {self.tile_size} pixels hold {self.grid_side} patches a side, "
                f"expected a multiple of {merge_size} above zero"
            )
        return self

    @property
    def grid_side(self) -> int:
        """Patches along the side of a tile."""
        return self.tile_size // self.patch_size


def check_frames(frames: int, *, lowest: int = 1) -> None:
    """Refuse a number of frames that no video has.

    Raises
    ------
    WorkloadError
        If it is below ``lowest`` or absurd.
    """
    if not lowest <= frames <= MAX_FRAMES:
        raise WorkloadError(f"video of {frames} frames: expected {lowest} to {MAX_FRAMES}")
