"""A progress bar on standard error for work of more than a second; lines where that is not a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import TypeAlias

__all__ = ["Progress", "no_progress", "progress_bar"]

Progress: TypeAlias = Callable[[float, str], None]
"""Called with the share that is done, 0 to 1, and what is being done."""

# Work that is done sooner needs no bar.
_DELAY_S = 1.0


def no_progress(share: float, what: str) -> None:
    """Show nothing."""


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Give a function ``update(share, what)``; the bar pulses until it is called, and vanishes at the end."""
    if not sys.stderr.isatty():
        yield _lines(title)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[what]}"),
    )
    bar = Progress(*columns, console=Console(stderr=True), transient=True)
    task = bar.add_task(title, total=None, what="")
    timer = Timer(_DELAY_S, bar.start)
    timer.daemon = True
    timer.start()
    try:
        yield lambda share, what: bar.update(task, total=1.0, completed=share, what=what[-24:])
    finally:
        timer.cancel()
        # A bar that is being started just now is stopped all the same.
        timer.join()
        bar.stop()


def _lines(title: str) -> Progress:
    """One line for each tenth that is done, none in the first second."""
    started, tenths = time.monotonic(), [0]

    def update(share: float, what: str) -> None:
        if int(share * 10) > tenths[0] and time.monotonic() - started > _DELAY_S:
            tenths[0] = int(share * 10)
            sys.stderr.write(f"{title}: {share:.0%}\n")

    return update
