"""Files that a caller names: whatever is wrong with them is a typed error, and nobody sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from costmodel import units
from costmodel.errors import InputError

__all__ = ["atomic_path", "check_writable", "existing_file", "read_bytes", "read_text", "write_atomic"]

# More than any table or log that people work with; less than what a wrong path (/dev/zero) would give.
_MOST_BYTES = 4 * units.GIB
_PIECE_BYTES = 2**20


def existing_file(path: Path, *, inside: str = "") -> Path | None:
    """Find a file.

    Parameters
    ----------
    path
        Of a file, or of a folder.
    inside
        Name of the file that is meant where ``path`` is a folder.

    Returns
    -------
    Path or None
        The file; nothing where there is none, or where the text can't be a path.
    """
    try:
        file = path / inside if inside and path.is_dir() else path
        return file if file.is_file() else None
    except OSError:
        return None


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises
    ------
    InputError
        If it can't be read, or is larger than anything this toolkit works with.
    """
    pieces = bytearray()
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                pieces += piece
                if len(pieces) > _MOST_BYTES:
                    most = units.format_bytes(_MOST_BYTES)
                    raise InputError(f"{path.name}: more than {most}, expected a table or a document")
    except OSError as error:
        raise InputError(f"{path.name}: can't be read ({error.strerror})") from None
    return bytes(pieces)


def read_text(path: Path) -> str:
    """Text of a file.

    Raises
    ------
    InputError
        If it can't be read, or is not UTF-8.
    """
    try:
        return read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not a text file in UTF-8") from None


def write_atomic(path: Path, text: str) -> None:
    """Write a text: all or nothing.

    Raises
    ------
    InputError
        If it can't be written (no such folder, no permission, disk full); nothing is left behind.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside ``path`` to write to, which takes its name at the end: all or nothing.

    Raises
    ------
    InputError
        As of :func:`write_atomic`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        with _removed_unless_renamed(Path(name)) as temporary:
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(_ordinary_mode())
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}") from None


def check_writable(path: Path) -> None:
    """Find out before long work whether its result can be written.

    Raises
    ------
    InputError
        If it can't.
    """
    probe = path.with_name(f".{path.name}.probe")
    write_atomic(probe, "")
    probe.unlink()


@contextmanager
def _removed_unless_renamed(temporary: Path) -> Iterator[Path]:
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _ordinary_mode() -> int:
    """Permissions of an ordinary new file; a temporary one starts out private."""
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask
