"""Images in a spec: sizes, layouts, and the union of all image rules (each defined in ``costmodel.image_rules``)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from costmodel.image_rules.fixed import FixedSize
from costmodel.image_rules.gemma3 import Gemma3Crops
from costmodel.image_rules.gemma4 import Gemma4Resize
from costmodel.image_rules.glm4v import Glm4vResize
from costmodel.image_rules.internvl import InternVLTiles
from costmodel.image_rules.kimi_vl import KimiVLResize
from costmodel.image_rules.layout import MAX_SIDE_PIXELS, ImageLayout, ImageSize, TileGroup
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
]

ImageRule = Annotated[
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
    | SmolVLMTiles,
    Field(discriminator="rule"),
]
"""Any image rule; a spec file names it by its field ``rule``."""
