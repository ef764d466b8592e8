"""Results as tables: for a terminal, and as CSV or Markdown for other programs."""

from __future__ import annotations

import csv
import io
import re
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from costmodel.terminal import Table, layout

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Format", "Table", "emit", "note"]

# Width, in characters, of what goes to a file or a pipe.
_NO_LIMIT = 100_000


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def emit(tables: Sequence[Table], json_text: str, output: Format) -> None:
    """Print a result to standard output."""
    if output is Format.JSON:
        sys.stdout.write(json_text.rstrip() + "\n")
        return
    for table in tables:
        if output is Format.CSV:
            sys.stdout.write(_csv(table))
        elif output is Format.MARKDOWN:
            sys.stdout.write(_markdown(table))
        else:
            _terminal(table)


def note(text: str) -> None:
    """Print a line that is not data to standard error."""
    sys.stderr.write(text.rstrip() + "\n")


def _csv(table: Table) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table.columns)
    writer.writerows(table.rows)
    return buffer.getvalue()


def _markdown(table: Table) -> str:
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines) + "\n"


def _terminal(table: Table) -> None:
    """Fit the width of a terminal; in a pipe, lines are as long as they are, and end where their text does."""
    from rich.console import Console

    narrow = sys.stdout.isatty()
    console = Console(width=None if narrow else _NO_LIMIT, highlight=False)
    with console.capture() as captured:
        _print_table(console, table, console.width if narrow else None)
    text = captured.get()
    sys.stdout.write(text if narrow else re.sub(r" +$", "", text, flags=re.MULTILINE))


def _print_table(console: Console, table: Table, width: int | None) -> None:
    if table.title:
        console.print(table.title, markup=False, style="bold")
    if table.rows:
        grid, left_out = layout(table, width)
        console.print(grid)
        if left_out:
            console.print(left_out, style="dim")
    for line in table.footer:
        console.print(line, markup=False)
    console.print()
