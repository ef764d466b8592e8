"""The rule of LLaVA-1.5 and PaliGemma: every image becomes one square of the same size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from costmodel.errors import ConfigError
from costmodel.image_rules.layout import ImageLayout, ImageSize, TileGroup, TileRule
from costmodel.image_rules.settings import read_grid_side, read_patch_size, read_tile_size
from costmodel.specs.base import Count, Flag

if TYPE_CHECKING:
    from costmodel.families.reader import ConfigReader

__all__ = ["FixedSize", "read_class_tokens", "read_llava", "read_paligemma", "read_select_class_tokens"]


class FixedSize(TileRule):
    """One tile of ``tile_size``, one token a patch.

    ``CLIPImageProcessor`` for LLaVA-1.5 (arXiv 2310.03744; resize and centre crop, CLS token dropped after the encoder)
    and ``SiglipImageProcessor`` for PaliGemma (arXiv 2412.03555).

    Attributes
    ----------
    class_tokens
        Class tokens that the encoder adds.
    keep_class_tokens
        Whether they enter the decoder too (``vision_feature_select_strategy: full``).
    """

    rule: Literal["fixed"] = "fixed"
    class_tokens: Count = 0
    keep_class_tokens: Flag = False
    extra_text_tokens: Count = 0

    def layout(self, size: ImageSize, images_in_prompt: int = 1) -> ImageLayout:
        """Patches and tokens of one image, the same for every size."""
        side = self.grid_side
        visual_tokens = side**2 + self.class_tokens * self.keep_class_tokens
        return ImageLayout(
            groups=(TileGroup(tiles=1, grid_height=side, grid_width=side, class_tokens=self.class_tokens),),
            visual_tokens=visual_tokens,
            connector_tokens=visual_tokens,
            extra_text_tokens=self.extra_text_tokens,
            resized_pixels=self.tile_size**2,
        )


def read_llava(vision: ConfigReader, settings: ConfigReader | None, config: ConfigReader) -> FixedSize:
    """Read the rule of a LLaVA-1.5 config; the class defaults of its CLIP tower hold where it leaves a field out."""
    tile_size = read_tile_size(vision, settings, "crop_size", default=336)
    patch_size = read_patch_size(vision, default=14)
    read_grid_side(vision, tile_size, patch_size)
    return FixedSize(
        tile_size=tile_size,
        patch_size=patch_size,
        class_tokens=read_class_tokens(vision),
        keep_class_tokens=read_select_class_tokens(config),
    )


def read_paligemma(vision: ConfigReader, settings: ConfigReader | None) -> FixedSize:
    """Read the rule of a PaliGemma config; 224 pixels is its tower's class default."""
    tile_size = read_tile_size(vision, settings, "size", default=224)
    patch_size = read_patch_size(vision, default=14)
    read_grid_side(vision, tile_size, patch_size)
    return FixedSize(tile_size=tile_size, patch_size=patch_size)


def read_class_tokens(vision: ConfigReader) -> int:
    """Class tokens that the vision tower adds: one in CLIP, none in SigLIP.

    Raises
    ------
    ConfigError
        If the tower is another one.
    """
    towers = {"clip_vision_model": 1, "siglip_vision_model": 0}
    tower = vision.text("model_type")
    if tower not in towers:
        raise ConfigError(vision.path_of("model_type"), repr(tower)[:40], f"one of {', '.join(towers)}")
    return towers[tower]


def read_select_class_tokens(config: ConfigReader) -> bool:
    """Whether class tokens go on into the decoder (strategy ``full``); the published default drops them."""
    key = "vision_feature_select_strategy"
    strategy = config.text(key) if config.has(key) else "default"
    if strategy not in ("default", "full"):
        raise ConfigError(config.path_of(key), repr(strategy)[:40], "'default' or 'full'")
    return strategy == "full"
