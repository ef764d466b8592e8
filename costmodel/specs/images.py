"""Image rules: from pixels to patches (encoder) and visual tokens (decoder).

One class a rule, each the rule of a published image processor. Patches and tokens differ: a connector merges
several patches into one token.
"""

from __future__ import annotations

import math
import re
from typing import Literal

from pydantic import Field, FiniteFloat, PositiveInt, model_validator

from costmodel.errors import WorkloadError
from costmodel.specs.base import Count, Frozen, Size

__all__ = ["MAX_SIDE_PIXELS", "ImageLayout", "ImageRule", "ImageSize", "SmartResize"]

MAX_SIDE_PIXELS = 65_535
"""The longest side that a JPEG file can have."""

_SIZE_TEXT = re.compile(r"(-?[0-9]{1,9}) *[xX] *(-?[0-9]{1,9})")


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


class ImageLayout(Frozen):
    """What an image processor makes of one image.

    Attributes
    ----------
    tiles
        Independent sequences in the encoder.
    grid_height, grid_width
        Patches per tile.
    visual_tokens
        Embeddings that enter the decoder.
    extra_text_tokens
        Text tokens that the prompt template adds around them.
    resized_pixels
        Pixels after resizing, all tiles.
    """

    tiles: PositiveInt
    grid_height: PositiveInt
    grid_width: PositiveInt
    visual_tokens: PositiveInt
    extra_text_tokens: int
    resized_pixels: PositiveInt

    @property
    def patches(self) -> int:
        """Patches that enter the encoder, all tiles."""
        return self.tiles * self.grid_height * self.grid_width


class SmartResize(Frozen):
    """Resize to multiples of ``patch_size * merge_size`` within an area, keeping the aspect ratio.

    The rule of ``Qwen2VLImageProcessor`` (Qwen2-VL, Qwen2.5-VL, Qwen3-VL), arXiv 2409.12191, section 2.1.
    Python's ``round`` rounds halves to even there, so it does here.
    """

    rule: Literal["smart_resize"] = "smart_resize"
    patch_size: Size
    merge_size: Size
    min_pixels: Size
    max_pixels: Size
    max_aspect_ratio: FiniteFloat = Field(default=200.0, ge=1)
    extra_text_tokens: Count = 2

    def resized(self, size: ImageSize) -> ImageSize:
        """Size after resizing.

        Raises
        ------
        WorkloadError
            If the aspect ratio is beyond what the processor accepts.
        """
        factor = self.patch_size * self.merge_size
        width, height = size.width, size.height
        ratio = max(width, height) / min(width, height)
        if ratio > self.max_aspect_ratio:
            raise WorkloadError(
                f"image {size}: aspect ratio is {ratio:.0f}, this model's processor accepts at most "
                f"{self.max_aspect_ratio:.0f}"
            )
        new_height, new_width = round(height / factor) * factor, round(width / factor) * factor
        if new_height * new_width > self.max_pixels:
            shrink = math.sqrt(height * width / self.max_pixels)
            new_height = max(factor, math.floor(height / shrink / factor) * factor)
            new_width = max(factor, math.floor(width / shrink / factor) * factor)
        elif new_height * new_width < self.min_pixels:
            grow = math.sqrt(self.min_pixels / (height * width))
            new_height = math.ceil(height * grow / factor) * factor
            new_width = math.ceil(width * grow / factor) * factor
        return ImageSize(width=new_width, height=new_height)

    def layout(self, size: ImageSize) -> ImageLayout:
        """Patches and tokens of one image."""
        resized = self.resized(size)
        grid_height, grid_width = resized.height // self.patch_size, resized.width // self.patch_size
        return ImageLayout(
            tiles=1,
            grid_height=grid_height,
            grid_width=grid_width,
            visual_tokens=grid_height * grid_width // self.merge_size**2,
            extra_text_tokens=self.extra_text_tokens,
            resized_pixels=resized.pixels,
        )


ImageRule = SmartResize
