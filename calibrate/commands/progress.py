"""A progress bar on standard error; one line a change of phase where that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """A function ``update(share, what)`` while the bar is shown."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _plain(title)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=1.0, what="")
        yield lambda share, what: progress.update(task, completed=share, what=what[-50:])


def _plain(title: str) -> Callable[[float, str], None]:
    tenths = [-1]

    def update(share: float, what: str) -> None:
        if int(share * 10) > tenths[0]:
            tenths[0] = int(share * 10)
            sys.stderr.write(f"{title}: {share:.0%}\n")

    return update
