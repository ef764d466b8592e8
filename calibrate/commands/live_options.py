"""Options that the commands which talk to a server share."""

from __future__ import annotations

from typing import cast

from calibrate.engines.dialects import DIALECTS, Dialect
from costmodel.errors import InputError

__all__ = ["dialect_named", "numbers"]


def dialect_named(text: str) -> Dialect:
    """The dialect of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if text not in DIALECTS:
        raise InputError(f"--dialect is {text!r}, expected one of {', '.join(DIALECTS)}")
    return cast("Dialect", text)


def numbers(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers from 1 with commas between them; none of an empty text.

    Raises
    ------
    InputError
        If there is anything else.
    """
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and int(part) for part in parts):
        raise InputError(f"{option} is {text!r}, expected whole numbers from 1, for example 1,2,4")
    return tuple(int(part) for part in parts)
