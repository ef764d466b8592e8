"""Reading image settings: the forms in which checkpoints write the same fact."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costmodel.errors import ConfigError
from costmodel.image_rules.layout import MAX_SIDE_PIXELS

if TYPE_CHECKING:
    # families imports the specs, and these import the rules.
    from costmodel.families.reader import ConfigReader

__all__ = ["check_equal", "read_grid_side", "read_patch_size", "read_side", "read_tile_size"]


def read_side(config: ConfigReader, key: str, *, default: int | None = None) -> int:
    """Read the side of a square: a number, two equal numbers, or an object of edges.

    Raises
    ------
    ConfigError
        If it is missing without a default, has another form, or isn't square.
    """
    if config.holds(key, list):
        sides: tuple[int, ...] = config.pair(key, highest=MAX_SIDE_PIXELS)
    elif config.holds(key, dict):
        child = config.child(key)
        edges = [name for name in ("shortest_edge", "longest_edge") if child.has(name)] or ["height", "width"]
        sides = tuple(child.integer(name, highest=MAX_SIDE_PIXELS) for name in edges)
    else:
        sides = (config.integer(key, default=default, highest=MAX_SIDE_PIXELS),)
    if len(set(sides)) != 1:
        raise ConfigError(config.path_of(key), "x".join(map(str, sides)), "the sides of a square")
    return sides[0]


def read_patch_size(vision: ConfigReader, settings: ConfigReader | None = None, *, default: int | None = None) -> int:
    """Read the side of a patch from the model's config; the image settings must not contradict it."""
    patch_size = read_side(vision, "patch_size", default=default)
    if settings is not None and settings.has("patch_size"):
        got = read_side(settings, "patch_size")
        if got != patch_size:
            expected = f"{patch_size}, as in the model config"
            raise ConfigError(settings.path_of("patch_size"), str(got), expected)
    return patch_size


def read_tile_size(vision: ConfigReader, settings: ConfigReader | None, *keys: str, default: int | None = None) -> int:
    """Read the side of what enters the encoder, in pixels.

    Parameters
    ----------
    vision
        The model's vision config, whose ``image_size`` decides.
    settings
        The image settings, whose fields must not contradict it.
    *keys
        Fields of the image settings that name the size.
    default
        Value of the published config class, where its config may leave the field out.

    Raises
    ------
    ConfigError
        If the two files differ: the encoder's position table fits one size only.
    """
    side = read_side(vision, "image_size", default=default)
    for key in keys:
        if settings is None or not settings.has(key):
            continue
        got = read_side(settings, key)
        if got != side:
            raise ConfigError(settings.path_of(key), str(got), f"{side}, the image_size of the model config")
    return side


def read_grid_side(vision: ConfigReader, tile_size: int, patch_size: int, *, multiple_of: int = 1) -> int:
    """Patches along the side of a tile.

    Raises
    ------
    ConfigError
        If no patch fits, or the connector can't merge them.
    """
    grid_side = tile_size // patch_size
    if grid_side < 1 or grid_side % multiple_of:
        expected = f"at most image_size {tile_size}, for a multiple of {multiple_of} patches along a side"
        raise ConfigError(vision.path_of("patch_size"), str(patch_size), expected)
    return grid_side


def check_equal(config: ConfigReader, key: str, expected: int, *, why: str) -> None:
    """Refuse a field that is there and has another value than the one that follows from elsewhere."""
    got = config.integer(key, default=expected)
    if got != expected:
        raise ConfigError(config.path_of(key), str(got), f"{expected}, {why}")
