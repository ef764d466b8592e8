"""Images in a spec: sizes, layouts, and the union of all image rules (each defined in ``costmodel.image_rules``)."""

from __future__ import annotations

from costmodel.image_rules.layout import MAX_SIDE_PIXELS, ImageLayout, ImageSize, TileGroup
from costmodel.image_rules.smart_resize import SmartResize

__all__ = ["MAX_SIDE_PIXELS", "ImageLayout", "ImageRule", "ImageSize", "SmartResize", "TileGroup"]

ImageRule = SmartResize
