"""Images in a spec: sizes, layouts, and the union of all image rules (each defined in ``costmodel.image_rules``)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, get_args

from pydantic import BeforeValidator, Field

from costmodel.image_rules.fixed import FixedSize
from costmodel.image_rules.gemma3 import Gemma3Crops
from costmodel.image_rules.gemma4 import Gemma4Resize
from costmodel.image_rules.glm4v import Glm4vResize
from costmodel.image_rules.internvl import InternVLTiles
from costmodel.image_rules.kimi_vl import KimiVLResize
from costmodel.image_rules.layout import MAX_SIDE_PIXELS, ImageLayout, ImageSize, TileGroup, VideoSize
from costmodel.image_rules.llama4 import Llama4Tiles
from costmodel.image_rules.llava_next import LlavaNextTiles
from costmodel.image_rules.llava_onevision import LlavaOnevisionTiles
from costmodel.image_rules.minicpmv import MiniCPMVSlices
from costmodel.image_rules.mllama import MllamaTiles
from costmodel.image_rules.molmo import MolmoCrops
from costmodel.image_rules.phi4mm import Phi4Crops
from costmodel.image_rules.pixtral import PixtralResize
from costmodel.image_rules.smart_resize import SmartResize
from costmodel.image_rules.smolvlm import SmolVLMTiles

__all__ = [
    "MAX_SIDE_PIXELS",
    "FixedSize",
    "Gemma3Crops",
    "Gemma4Resize",
    "Glm4vResize",
    "ImageLayout",
    "ImageRule",
    "ImageSize",
    "InternVLTiles",
    "KimiVLResize",
    "Llama4Tiles",
    "LlavaNextTiles",
    "LlavaOnevisionTiles",
    "MiniCPMVSlices",
    "MllamaTiles",
    "MolmoCrops",
    "Phi4Crops",
    "PixtralResize",
    "SmartResize",
    "SmolVLMTiles",
    "TileGroup",
    "VideoSize",
]

_AnyRule = (
    FixedSize
    | Gemma3Crops
    | Gemma4Resize
    | Glm4vResize
    | InternVLTiles
    | KimiVLResize
    | Llama4Tiles
    | LlavaNextTiles
    | LlavaOnevisionTiles
    | MiniCPMVSlices
    | MllamaTiles
    | MolmoCrops
    | Phi4Crops
    | PixtralResize
    | SmartResize
    | SmolVLMTiles
)
_NAMES = [rule.model_fields["rule"].default for rule in get_args(_AnyRule)]


def _is_known(value: object) -> object:
    """Refuse an unknown name here: pydantic's own message would list all of them."""
    if isinstance(value, Mapping) and value.get("rule") not in _NAMES:
        raise ValueError("no image rule has this name")
    return value


ImageRule = Annotated[_AnyRule, Field(discriminator="rule"), BeforeValidator(_is_known)]
"""Any image rule; a spec file names it by its field ``rule``."""
