"""Image settings of the Qwen-VL families: patches of a fixed size, merged, resized within an area."""

from __future__ import annotations

from costmodel.errors import ConfigError
from costmodel.families.reader import ConfigReader
from costmodel.specs.images import SmartResize

__all__ = ["check_equal", "read_merge_size", "read_smart_resize"]


def read_merge_size(vision: ConfigReader) -> int:
    """Read the side of the square of patches that becomes one token."""
    return vision.integer("spatial_merge_size", default=2, highest=64)


def read_smart_resize(
    vision: ConfigReader, settings: ConfigReader | None, *, min_pixels: int, max_pixels: int
) -> SmartResize:
    """Read the rule of ``preprocessor_config.json``; the published limits hold where that file is absent.

    The limits have two names: ``min_pixels``/``max_pixels``, and ``size.shortest_edge``/``.longest_edge``,
    which are areas in spite of their names.
    """
    patch_size = vision.integer("patch_size")
    merge_size = read_merge_size(vision)
    if settings is not None:
        check_equal(settings, "patch_size", patch_size, why="as in the model config")
        check_equal(settings, "merge_size", merge_size, why="as in the model config")
        if settings.has("size"):
            size = settings.child("size")
            min_pixels = size.integer("shortest_edge", default=min_pixels)
            max_pixels = size.integer("longest_edge", default=max_pixels)
        min_pixels = settings.integer("min_pixels", default=min_pixels)
        max_pixels = settings.integer("max_pixels", default=max_pixels)
    if min_pixels > max_pixels:
        where = settings.path_of("max_pixels") if settings is not None else "max_pixels"
        raise ConfigError(where, str(max_pixels), f"at least min_pixels {min_pixels}")
    return SmartResize(patch_size=patch_size, merge_size=merge_size, min_pixels=min_pixels, max_pixels=max_pixels)


def check_equal(config: ConfigReader, key: str, expected: int, *, why: str) -> None:
    """Refuse a field that is there and has another value than the one that follows from elsewhere."""
    got = config.integer(key, default=expected)
    if got != expected:
        raise ConfigError(config.path_of(key), str(got), f"{expected}, {why}")
