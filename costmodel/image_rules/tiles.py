"""Choosing a grid of square tiles, as several processors do."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

from costmodel.image_rules.layout import ImageSize

__all__ = ["closest_aspect_ratio", "grids_up_to", "least_rescaled"]


@cache
def grids_up_to(tiles: int, fewest: int = 1) -> tuple[tuple[int, int], ...]:
    """Grids (columns, rows) of ``fewest`` to ``tiles`` tiles: fewest tiles first, then fewest columns."""
    sides = range(1, tiles + 1)
    grids = [(columns, rows) for columns in sides for rows in sides if fewest <= columns * rows <= tiles]
    return tuple(sorted(grids, key=lambda grid: grid[0] * grid[1]))


def closest_aspect_ratio(size: ImageSize, tile_size: int, grids: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Grid (columns, rows) whose aspect ratio is closest to the image's.

    Of equally close ones, a later (larger) grid is taken while the image has more than half its pixels.
    """
    aspect_ratio = size.width / size.height
    best, best_difference = (1, 1), float("inf")
    for columns, rows in grids:
        difference = abs(aspect_ratio - columns / rows)
        filled = size.pixels > 0.5 * tile_size * tile_size * columns * rows
        if difference < best_difference or (difference == best_difference and filled):
            best, best_difference = (columns, rows), difference
    return best


def least_rescaled(
    height: int, width: int, tile_size: int, grids: Sequence[tuple[int, int]], *, largest: bool = False
) -> tuple[int, int]:
    """Grid (rows, columns) that the image fits with the least enlargement, else the least reduction.

    Some processors compute the scales in single precision: at these sizes two scales that differ do so there too.

    Parameters
    ----------
    height, width
        Size of the image in pixels; Molmo takes its margins off first, which may leave nothing.
    tile_size
        Side of a tile in pixels.
    grids
        Grids (rows, columns) to choose from; of equally good ones the earliest with the fewest tiles is taken.
    largest
        Take the largest enlargement instead.
    """
    scales = [min(_ratio(rows * tile_size, height), _ratio(columns * tile_size, width)) for rows, columns in grids]
    enlarging = [scale for scale in scales if scale >= 1]
    wanted = max(scales) if not enlarging or largest else min(enlarging)
    fitting = [grid for grid, scale in zip(grids, scales, strict=True) if scale == wanted]
    return min(fitting, key=lambda grid: grid[0] * grid[1])


def _ratio(canvas: int, side: int) -> float:
    return canvas / side if side else math.inf
