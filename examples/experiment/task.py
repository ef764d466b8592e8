"""Pictures of arrows, and questions that need them followed: what both models are trained and asked on.

A picture has 4 x 4 cells. Each has a background colour, an arrow to a neighbouring cell, and a fine mark in its corner;
everything is under pixel noise. A question names a cell and a number of steps: which *colour*, or which *mark*, is at
the end of the arrows? Following arrows is serial, so reasoning helps. Colours survive a halved resolution; half of what
tells the marks apart does not, so a model that sees fewer pixels can follow the arrows and still misread the mark.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "CELLS",
    "COLOURS",
    "DIRECTIONS",
    "IMAGE_PIXELS",
    "KINDS",
    "MARKS",
    "MAX_STEPS",
    "Kind",
    "Pictures",
    "draw",
    "hop",
    "picture",
    "question",
    "reasoning",
    "walk",
]

Kind = Literal["colour", "mark"]

KINDS: tuple[Kind, ...] = ("colour", "mark")
DIRECTIONS = ("right", "down", "left", "up")
COLOURS = ("red", "green", "blue", "yellow", "cyan", "magenta", "orange", "purple")
MARKS = tuple("ABCDEFGHIJKLMNOP")
CELLS = tuple(f"{column}{row}" for row in "1234" for column in "abcd")
MAX_STEPS = 6

_SIDE, _CELL_PIXELS = 4, 12
IMAGE_PIXELS = _SIDE * _CELL_PIXELS
_RGB = np.array(
    [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 1, 1), (1, 0, 1), (1, 0.5, 0), (0.5, 0, 1)], dtype=np.float32
)
_STEPS = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
_MARK_CORNER, _MARK_PIXELS = 8, 4
_ARROW_REGION = 9


@dataclass(frozen=True, slots=True)
class Pictures:
    """Several pictures and what is in them; cells row by row.

    Attributes
    ----------
    pixels
        Bytes, (pictures, height, width, 3).
    colours, arrows, marks
        Index for each cell, (pictures, 16).
    """

    pixels: NDArray[np.uint8]
    colours: NDArray[np.int64]
    arrows: NDArray[np.int64]
    marks: NDArray[np.int64]

    def answer(self, index: int, kind: Kind, cell: int) -> str:
        """Colour or mark of a cell."""
        return COLOURS[self.colours[index, cell]] if kind == "colour" else MARKS[self.marks[index, cell]]


def draw(rng: np.random.Generator, count: int, *, noise: float | tuple[float, float]) -> Pictures:
    """Draw pictures.

    Parameters
    ----------
    noise
        Standard deviation of the noise on a channel that goes from 0 to 1; of two, each picture gets one in between.
    """
    cells = _SIDE * _SIDE
    colours = rng.integers(len(COLOURS), size=(count, cells))
    marks = rng.integers(len(MARKS), size=(count, cells))
    arrows = _arrows(rng, count)
    brightness = rng.uniform(0.6, 1.0, (count, cells, 1, 1, 1)).astype(np.float32)
    values = np.broadcast_to(
        _RGB[colours][:, :, None, None, :] * brightness, (count, cells, _CELL_PIXELS, _CELL_PIXELS, 3)
    ).copy()
    masks = _ARROW_MASKS[arrows, rng.integers(3, size=(count, cells)), rng.integers(9, size=(count, cells))]
    ink = rng.integers(2, size=(count, cells, 1, 1, 1)).astype(np.float32)
    values = np.where(masks[..., None], ink, values)
    corner = slice(_MARK_CORNER, _MARK_CORNER + _MARK_PIXELS)
    values[:, :, corner, corner, :] = _MARK_PATTERNS[marks][..., None]
    values = values.reshape(count, _SIDE, _SIDE, _CELL_PIXELS, _CELL_PIXELS, 3).transpose(0, 1, 3, 2, 4, 5)
    values = values.reshape(count, IMAGE_PIXELS, IMAGE_PIXELS, 3)
    spread = np.asarray(noise if isinstance(noise, float) else rng.uniform(*noise, (count, 1, 1, 1)), dtype=np.float32)
    values = values + spread * rng.standard_normal(values.shape, dtype=np.float32)
    return Pictures(np.round(values.clip(0, 1) * 255).astype(np.uint8), colours, arrows, marks)


def picture(pictures: Pictures, index: int) -> Image.Image:
    """One picture."""
    return Image.fromarray(pictures.pixels[index])


def hop(cell: int, direction: int) -> int:
    """Neighbour of a cell."""
    down, right = _STEPS[direction]
    return int(cell + _SIDE * down + right)


def walk(arrows: NDArray[np.int64], start: int, steps: int) -> list[int]:
    """Cells that the arrows lead through, the start included."""
    cells = [start]
    for _ in range(steps):
        cells.append(hop(cells[-1], int(arrows[cells[-1]])))
    return cells


def question(kind: Kind, steps: int, start: int) -> str:
    """Words of a question; the start comes last, next to the answer."""
    return f"{kind} {steps} {CELLS[start]}"


def reasoning(arrows: NDArray[np.int64], cells: list[int], answer: str) -> str:
    """Words of a reasoning: each cell, the arrow in it, and what is found at the end."""
    words = []
    for cell in cells[:-1]:
        words += [CELLS[cell], DIRECTIONS[arrows[cell]]]
    return " ".join([*words, CELLS[cells[-1]], answer])


def _arrows(rng: np.random.Generator, count: int) -> NDArray[np.int64]:
    """Arrows that stay inside: of each cell's ways in, one at random."""
    preference = rng.random((count, _SIDE * _SIDE, len(DIRECTIONS)))
    for cell in range(_SIDE * _SIDE):
        for direction, (down, right) in enumerate(_STEPS):
            inside = 0 <= cell // _SIDE + down < _SIDE and 0 <= cell % _SIDE + right < _SIDE
            preference[:, cell, direction] *= inside
    return np.asarray(preference.argmax(axis=2))


def _arrow_masks() -> NDArray[np.bool_]:
    """Arrows by direction, size and place: a head and a shaft, moved by up to a pixel."""
    masks = np.zeros((len(DIRECTIONS), 3, 9, _CELL_PIXELS, _CELL_PIXELS), dtype=bool)
    for size, half in enumerate((2, 3, 4)):
        plain = np.zeros((_ARROW_REGION, _ARROW_REGION), dtype=bool)
        middle = _ARROW_REGION // 2
        base = middle + 1 - (half + 1) // 2
        for step in range(half + 1):
            plain[middle - half + step : middle + half - step + 1, base + step] = True
        plain[middle, max(base - half + 1, 0) : base] = True
        for direction in range(len(DIRECTIONS)):
            turned = np.rot90(plain, -direction)
            for place in range(9):
                top, left = place // 3, place % 3
                region = np.zeros((_CELL_PIXELS, _CELL_PIXELS), dtype=bool)
                region[top : top + _ARROW_REGION, left : left + _ARROW_REGION] = turned
                masks[direction, size, place] = region
    return masks


def _mark_patterns() -> NDArray[np.float32]:
    """Marks of four blocks of 2 x 2 pixels: two are bright or dark, two lean one way or the other.

    The mean of a block that leans is the same either way, so that halving the resolution hides it.
    """
    lean = np.eye(2, dtype=np.float32)
    blocks = ((lean, lean[::-1]), (np.zeros((2, 2)), np.ones((2, 2))))
    patterns = np.zeros((len(MARKS), _MARK_PIXELS, _MARK_PIXELS), dtype=np.float32)
    for mark in range(len(MARKS)):
        for block in range(4):
            top, left = 2 * (block // 2), 2 * (block % 2)
            patterns[mark, top : top + 2, left : left + 2] = blocks[block // 2][mark >> block & 1]
    return patterns


_ARROW_MASKS = _arrow_masks()
_MARK_PATTERNS = _mark_patterns()
