"""The rule of MiniCPM-V: a source view and slices of the image's own shape, each resampled to 64 tokens."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from costmodel.image_rules.layout import MAX_TILES, ImageLayout, ImageSize, Rule, TileCount, TileGroup
from costmodel.image_rules.settings import check_equal, read_patch_size
from costmodel.specs.base import Flag, Size

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["MiniCPMVSlices", "read_minicpmv"]

_IMAGE_ID_TOKENS = 3


class MiniCPMVSlices(Rule):
    """Slice by area, up to ``max_slices``, in the grid of the closest aspect ratio; ``queries`` tokens a view.

    ``MiniCPMVImageProcessor``, which comes with the checkpoint (arXiv 2408.01800, section 3.1). Views keep the image's
    proportions, so source and slices have grids of their own. Not monotone in image size: the closest aspect ratio can
    be that of a grid with fewer slices. Marks around each view, image number and newlines are text tokens.
    """

    rule: Literal["minicpmv"] = "minicpmv"
    patch_size: Size
    view_size: Size = 448
    max_slices: TileCount = 9
    queries: Size = 64
    slice_images: Flag = True
    image_id: Flag = True

    def grid(self, size: ImageSize) -> tuple[int, int] | None:
        """Columns and rows of slices; none where the image is small."""
        slices = min(math.ceil(size.pixels / self.view_size**2), self.max_slices)
        if slices <= 1 or not self.slice_images:
            return None
        best, least = (1, 1), float("inf")
        for count in (slices - 1, slices, slices + 1):
            if not 1 < count <= self.max_slices:
                continue
            for columns in (side for side in range(1, count + 1) if count % side == 0):
                error = abs(math.log(size.width / size.height) - math.log(columns / (count // columns)))
                if error < least:
                    best, least = (columns, count // columns), error
        return best

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image."""
        grid = self.grid(size)
        groups = [self._view(size.width, size.height, enlarge=grid is None, views=1)]
        text_tokens = 2 + _IMAGE_ID_TOKENS * self.image_id
        if grid is not None:
            columns, rows = grid
            width, height = (max(1, round(side / n)) for side, n in zip((size.width, size.height), grid, strict=True))
            groups.append(self._view(width, height, enlarge=True, views=columns * rows))
            text_tokens += 2 * columns * rows + rows - 1
        visual_tokens = self.queries * sum(group.tiles for group in groups)
        return ImageLayout(
            groups=tuple(groups),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=text_tokens,
            resized_pixels=self.patch_size**2 * sum(group.patches for group in groups),
        )

    def _view(self, width: float, height: float, *, enlarge: bool, views: int) -> TileGroup:
        """Patches of views of this shape, reduced (or enlarged) to the area of a view."""
        if enlarge or width * height > self.view_size**2:
            ratio = width / height
            height = int(self.view_size / math.sqrt(ratio))
            width = int(height * ratio)
        columns, rows = (max(1, round(side / self.patch_size)) for side in (width, height))
        return TileGroup(tiles=views, grid_height=rows, grid_width=columns)


def read_minicpmv(vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader) -> MiniCPMVSlices:
    """Read the rule of a MiniCPM-V config; nine slices around 448 pixels are the published settings."""
    patch_size = read_patch_size(vision, settings)
    rule = MiniCPMVSlices(patch_size=patch_size, queries=config.integer("query_num", default=64))
    slices = config.child("slice_config") if config.has("slice_config") else None
    max_slices = rule.max_slices
    if slices is not None:
        max_slices = slices.integer("max_slice_nums", default=max_slices, highest=MAX_TILES)
    changes: dict[str, int | bool] = {"max_slices": max_slices}
    if settings is not None:
        check_equal(settings, "image_feature_size", rule.queries, why="the query_num of the model config")
        changes = {
            "max_slices": settings.integer("max_slice_nums", default=max_slices, highest=MAX_TILES),
            "view_size": settings.integer("scale_resolution", default=rule.view_size),
            "slice_images": settings.boolean("slice_mode", default=rule.slice_images),
            "image_id": settings.boolean("use_image_id", default=rule.image_id),
        }
    return rule.model_copy(update=changes)
