"""The rule of Kimi-VL: native resolution, reduced to a budget of patches, padded to whole tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from costmodel.errors import ConfigError, WorkloadError
from costmodel.image_rules.layout import ImageLayout, ImageSize, Rule, TileGroup
from costmodel.image_rules.settings import read_patch_size, read_side
from costmodel.specs.base import Count, Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["KimiVLResize", "read_kimi_vl"]

_LONGEST_GRID = 512


class KimiVLResize(Rule):
    """Reduce to ``max_patches``, pad to a multiple of ``merge_size`` patches, ``merge_size``² patches a token.

    ``KimiVLImageProcessor``, which comes with the checkpoint (arXiv 2504.07491, section 2.1). Not quite monotone in
    image size: padding is added after the reduction. The text around: start, the word "image", content, end.
    """

    rule: Literal["kimi_vl"] = "kimi_vl"
    patch_size: Size
    merge_size: Size
    max_patches: Size = 4096
    extra_text_tokens: Count = 4

    def resized(self, size: ImageSize) -> ImageSize:
        """Size after resizing and padding.

        Raises
        ------
        WorkloadError
            If a side exceeds the position table.
        """
        width, height = size.width, size.height
        patches = (width // self.patch_size) * (height // self.patch_size)
        if patches > self.max_patches:
            scale = math.sqrt(self.max_patches / patches)
            width, height = int(width * scale), int(height * scale)
        token_side = self.patch_size * self.merge_size
        columns, rows = (math.ceil(side / token_side) * self.merge_size for side in (width, height))
        if max(columns, rows) >= _LONGEST_GRID:
            raise WorkloadError(
                f"image {size}: {max(columns, rows)} patches along a side, "
                f"this model's processor accepts fewer than {_LONGEST_GRID}"
            )
        return ImageSize(width=columns * self.patch_size, height=rows * self.patch_size)

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image.

        Raises
        ------
        WorkloadError
            If a side exceeds the position table.
        """
        resized = self.resized(size)
        grid_height, grid_width = resized.height // self.patch_size, resized.width // self.patch_size
        visual_tokens = grid_height * grid_width // self.merge_size**2
        return ImageLayout(
            groups=(TileGroup(tiles=1, grid_height=grid_height, grid_width=grid_width),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=self.extra_text_tokens,
            resized_pixels=resized.pixels,
        )


def read_kimi_vl(vision: ConfigReader, settings: ConfigReader | None) -> KimiVLResize:
    """Read the rule of a Kimi-VL config; 4096 patches and padding are the published settings."""
    rule = KimiVLResize(
        patch_size=read_patch_size(vision, settings),
        merge_size=read_side(vision, "merge_kernel_size", default=2),
    )
    if settings is None:
        return rule
    max_patches = settings.integer("in_token_limit", default=rule.max_patches)
    if not settings.boolean("pad_input", default=True):
        raise ConfigError(settings.path_of("pad_input"), "false", "true: unpadded images don't merge into whole tokens")
    return rule.model_copy(update={"max_patches": max_patches})
