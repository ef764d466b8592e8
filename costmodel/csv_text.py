"""Tables as text, read strictly: what a cell belongs to is never a guess."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from costmodel.errors import InputError
from costmodel.files import read_text

__all__ = ["read_csv"]

# Recorded reasoning easily outgrows the csv module's default of 128 KiB a cell.
_LONGEST_CELL = 2**24


def read_csv(path: Path, *, delimiter: str = ",") -> tuple[tuple[str, ...], list[dict[str, str]]]:
    """Columns and rows of a table; cells that a short row lacks are empty.

    Raises
    ------
    InputError
        If it is not a text in UTF-8, a column is there twice, or a row has more cells than columns.
    """
    csv.field_size_limit(_LONGEST_CELL)
    reader = csv.DictReader(io.StringIO(read_text(path), newline=""), delimiter=delimiter, restval="")
    try:
        columns = tuple(reader.fieldnames or ())
        twice = [name for name, count in Counter(columns).items() if count > 1]
        if twice:
            raise InputError(f"{path.name}: column {twice[0]!r} is there twice")
        return columns, list(_rows(reader, path.name))
    except csv.Error as error:
        raise InputError(f"{path.name}: line {reader.line_num}: not a table ({error})") from None


def _rows(reader: csv.DictReader[str], name: str) -> Iterator[dict[str, str]]:
    for row in reader:
        if None in row:
            raise InputError(f"{name}: line {reader.line_num}: more cells than the {len(row) - 1} columns")
        yield row
