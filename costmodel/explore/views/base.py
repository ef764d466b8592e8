"""What a view is: a part of the page that is drawn only while it is open."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from costmodel.explore.catalogue import Catalogue
from costmodel.explore.components import Component
from costmodel.explore.results import Results
from costmodel.explore.state import State

__all__ = ["View", "slots"]


@dataclass(frozen=True, slots=True)
class View:
    """One view.

    Attributes
    ----------
    key
        Its name in the URL.
    layout
        Its part of the page, empty.
    outputs
        Component ids and properties that ``render`` fills, in order.
    render
        ``render(results, state, token)``; the token names the loaded traces, if any.
    """

    key: str
    layout: Callable[[Catalogue], Component]
    outputs: tuple[tuple[str, str], ...]
    render: Callable[[Results, State, str], tuple[Any, ...]]


def slots(*names: str) -> tuple[tuple[str, str], ...]:
    """Outputs of figure slots: title and figure of each."""
    return tuple(pair for name in names for pair in ((f"{name}-title", "children"), (name, "figure")))
