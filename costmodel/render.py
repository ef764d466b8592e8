"""Results as tables: for a terminal, and as CSV or Markdown for other programs."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Format", "Table", "emit", "note"]

_PLAIN_WIDTH = 160


class Format(StrEnum):
    """How a result is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table of strings.

    Attributes
    ----------
    title
        Printed above the table in a terminal only.
    footer
        Lines below it, in a terminal only.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    footer: tuple[str, ...] = ()


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
    from rich.console import Console
    from rich.table import Table as RichTable

    terminal = sys.stdout.isatty()
    console = Console(width=None if terminal else _PLAIN_WIDTH, highlight=False)
    if table.title:
        console.print(table.title, markup=False, style="bold")
    grid = RichTable(box=None, pad_edge=False)
    for index, column in enumerate(table.columns):
        numeric = all(row[index][:1].isdigit() or row[index][:1] in "+-±" for row in table.rows if row[index])
        grid.add_column(column, justify="right" if index and numeric else "left", overflow="fold")
    for row in table.rows:
        grid.add_row(*(cell.replace("[", r"\[") for cell in row))
    console.print(grid)
    for line in table.footer:
        console.print(line, markup=False)
    console.print()
