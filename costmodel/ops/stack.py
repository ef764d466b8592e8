"""Many operators as few: sizes of operators that one law prices alike become arrays with a first axis over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from operator import attrgetter
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from costmodel.ops.formats import Num

__all__ = ["Stack", "at_points", "stacked"]

_O = TypeVar("_O")

# Fields of an operator that are sizes; the others tell kinds of work apart.
_SIZE_TYPES = ("Num", "Num | None", "int")


@dataclass(frozen=True, slots=True)
class Stack(Generic[_O]):
    """Operators of one kind and number format whose sizes have the same shapes.

    Attributes
    ----------
    op
        All of them in one: every size has a first axis over the members.
    members
        Their places in the sequence that was stacked, ascending.
    """

    op: _O
    members: tuple[int, ...]


@cache
def _fields_of(cls: Any) -> tuple[tuple[str, ...], Callable[[Any], Any], Callable[[Any], Any]]:
    """Names of the sizes, a getter of the sizes, and a getter of what must be equal in a stack."""
    sizes = tuple(f.name for f in fields(cls) if f.type in _SIZE_TYPES)
    kinds = tuple(f.name for f in fields(cls) if f.type not in _SIZE_TYPES and f.name != "name")
    return sizes, attrgetter(*sizes), attrgetter(*kinds)


def stacked(ops: Sequence[_O]) -> list[Stack[_O]]:
    """Stack all that can be stacked.

    Parameters
    ----------
    ops
        Operators; sizes of one operator broadcast against each other, and keep their own shapes in the stack, so that
        a law computes what depends on few axes once for all others.
    """
    groups: dict[tuple[object, ...], list[int]] = {}
    sizes: list[Any] = []
    for place, op in enumerate(ops):
        cls: Any = type(op)
        _, sizes_of, kinds_of = _fields_of(cls)
        values = sizes_of(op)
        values = values if isinstance(values, tuple) else (values,)
        sizes.append(values)
        plain = np.ndarray not in map(type, values) and None not in values
        shapes = () if plain else tuple([v.shape if isinstance(v, np.ndarray) else v is None for v in values])
        groups.setdefault((cls, kinds_of(op), shapes), []).append(place)
    return [_stack(ops, places, [sizes[place] for place in places]) for places in groups.values()]


def _stack(ops: Sequence[_O], places: list[int], values: list[tuple[Any, ...]]) -> Stack[_O]:
    first: Any = ops[places[0]]
    columns = list(zip(*values, strict=True))
    names, _, _ = _fields_of(first.__class__)
    given = [(name, column) for name, column in zip(names, columns, strict=True) if column[0] is not None]
    ndim = max(np.ndim(column[0]) for _, column in given)
    joined = {name: _column(column, ndim) for name, column in given}
    return Stack(replace(first, **joined), tuple(places))


def _column(values: tuple[Num, ...], ndim: int) -> NDArray[np.float64]:
    """One size of all members, with its own axes right of the first."""
    array = np.array(values, dtype=float)
    return array.reshape(len(values), *(1,) * (ndim + 1 - array.ndim), *array.shape[1:])


def at_points(op: _O, points: NDArray[np.bool_]) -> _O:
    """The operator at chosen points of the shape that its sizes broadcast to, along one axis."""
    kind: Any = op.__class__
    names, sizes_of, _ = _fields_of(kind)
    values = sizes_of(op) if len(names) > 1 else (sizes_of(op),)
    arrays = {n: v for n, v in zip(names, values, strict=True) if isinstance(v, np.ndarray)}
    chosen: dict[str, Any] = {name: np.broadcast_to(value, points.shape)[points] for name, value in arrays.items()}
    return replace(op, **chosen)  # type: ignore[type-var]
