"""Tables that stay readable in a narrow terminal: wrap words first, then leave out what is spare, then stack."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Table", "is_numeric", "layout"]

_GAP = 2
# A column of words is not wrapped to less than this: a leaning tower of syllables is worse than a missing column.
_LEAST_WORDS = 20


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of strings.

    Attributes
    ----------
    title
        Printed above the table in a terminal only.
    footer
        Lines below it, in a terminal only.
    spare
        Positions of the columns that a narrow terminal leaves out, those that are missed least first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: tuple[str, ...] = ()
    spare: tuple[int, ...] = ()


def layout(table: Table, width: int | None) -> tuple[RenderableType, str]:
    """Arrange a table.

    Parameters
    ----------
    width
        Columns of the terminal; ``None`` where there is no limit, as in a pipe.

    Returns
    -------
    tuple of RenderableType and str
        What rich prints, and a line that says which columns are left out (empty: none).
    """
    tries = [(left_out, True) for left_out in range(len(table.spare) + 1)]
    for left_out, whole_names in [*tries, (len(table.spare), False)]:
        shown = _without(table, table.spare[:left_out])
        widths = _widths(shown, width, whole_names=whole_names)
        if widths is not None:
            names = ", ".join(table.columns[index] for index in sorted(table.spare[:left_out]))
            return _grid(shown, widths), names and f"not shown: {names}; a wider terminal or --format csv has them"
    return _stacked(table), ""


def _without(table: Table, indices: tuple[int, ...]) -> Table:
    kept = [index for index in range(len(table.columns)) if index not in indices]
    return replace(
        table,
        columns=tuple(table.columns[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in table.rows),
        spare=(),
    )


def _widths(table: Table, width: int | None, *, whole_names: bool) -> list[int] | None:
    """Widths that fit, the widest column giving way first; nothing where even the least widths do not.

    ``whole_names`` keeps the first column, by which rows are found, on one line.
    """
    cells = [tuple(row[index] for row in table.rows) for index in range(len(table.columns))]
    natural = [max(map(len, (name, *column))) for name, column in zip(table.columns, cells, strict=True)]
    if width is None:
        return natural
    least = [
        _least(name, column, whole=is_numeric(column) or (whole_names and index == 0))
        for index, (name, column) in enumerate(zip(table.columns, cells, strict=True))
    ]
    room = width - _GAP * (len(natural) - 1)
    if sum(least) > room:
        return None
    while sum(natural) > room:
        widest = max((index for index in range(len(natural)) if natural[index] > least[index]), key=natural.__getitem__)
        natural[widest] -= 1
    return natural


def _least(name: str, column: tuple[str, ...], *, whole: bool) -> int:
    """Width below which a column is not worth reading; ``whole``: its cells are never broken."""
    header = max(map(len, name.split()), default=0)
    longest = max(map(len, column), default=0)
    words = max((len(word) for cell in column for word in _words(cell)), default=0)
    return max(header, longest if whole else min(longest, max(words, _LEAST_WORDS)))


def _words(cell: str) -> list[str]:
    """Pieces that a cell may be broken into: at spaces, and after the hyphens of a name."""
    return textwrap.wrap(cell, width=1, break_long_words=False)


def is_numeric(column: tuple[str, ...]) -> bool:
    """Whether a column lines up better on the right."""
    return all(cell[:1].isdigit() or cell[:1] in "+-±" for cell in column if cell)


def _grid(table: Table, widths: list[int]) -> RenderableType:
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for index, (name, width) in enumerate(zip(table.columns, widths, strict=True)):
        numeric = index > 0 and is_numeric(tuple(row[index] for row in table.rows))
        grid.add_column(Text(name), justify="right" if numeric else "left", width=width, overflow="fold")
    for row in table.rows:
        lines = (textwrap.wrap(cell, max(width, 1)) for cell, width in zip(row, widths, strict=True))
        grid.add_row(*(Text("\n".join(each)) for each in lines))
    return grid


def _stacked(table: Table) -> RenderableType:
    """One block a row: its first cell, then a line for each of the others."""
    from rich.text import Text

    label = max(map(len, table.columns[1:]), default=0) + _GAP
    lines = []
    for first, *others in table.rows:
        lines.append(Text(first, style="bold"))
        pairs = zip(table.columns[1:], others, strict=True)
        lines += [Text(f"  {name:<{label}}{cell}") for name, cell in pairs if cell]
    return Text("\n").join(lines)
