"""Questions of a data set, one JSON object a line: ``item_id question answer``, and ``images`` as paths of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import Field, ValidationError

from costmodel.errors import InputError
from costmodel.files import existing_file, read_bytes
from costmodel.policy.run import Item
from costmodel.specs.base import Frozen, first_problem
from costmodel.specs.images import ImageSize

__all__ = ["ItemRow", "read_items", "read_items_digest"]


class ItemRow(Frozen):
    """One line of a file of items.

    Attributes
    ----------
    answer
        The correct one.
    images
        Paths, relative to the file.
    """

    item_id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    answer: str = Field(min_length=1)
    images: tuple[str, ...] = ()


def read_items(path: Path) -> tuple[Item, ...]:
    """Read a file of items, and the size of every image.

    Raises
    ------
    InputError
        If a line is not an item, an item comes twice, or an image is missing or no image; names the line.
    """
    items: dict[str, Item] = {}
    for number, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = ItemRow.model_validate_json(line)
        except ValidationError as error:
            where, got, message = first_problem(error)
            raise InputError(f"{path.name}: line {number}: field {where or 'line'}: {message}, got {got}") from None
        if row.item_id in items:
            raise InputError(f"{path.name}: line {number}: item {row.item_id!r} comes twice")
        paths = tuple(str(path.parent / image) for image in row.images)
        try:
            sizes = tuple(_size(Path(image)) for image in paths)
        except InputError as error:
            raise InputError(f"{path.name}: line {number}: {error}") from None
        items[row.item_id] = Item(row.item_id, row.question, sizes, paths, row.answer)
    if not items:
        raise InputError(f"{path.name}: no items in it; expected one JSON object a line")
    return tuple(items.values())


def read_items_digest(path: Path) -> str:
    """What tells one file of items from another."""
    return hashlib.sha256(read_bytes(path)).hexdigest()[:16]


def _text(path: Path) -> str:
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not a text file; expected JSON Lines in UTF-8") from None


def _size(path: Path) -> ImageSize:
    from PIL import Image

    if existing_file(path) is None:
        raise InputError(f"image {path.name!r}: no such file")
    try:
        with Image.open(path) as image:
            return ImageSize(width=image.width, height=image.height)
    except (OSError, ValueError, Image.DecompressionBombError):
        raise InputError(f"image {path.name!r}: not an image of a known kind") from None
