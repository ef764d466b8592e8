"""Files that a caller names: whatever is wrong with them is a typed error, and nobody sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from costmodel.errors import InputError

__all__ = ["check_writable", "existing_file", "is_folder", "read_bytes", "write_atomic"]


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


def is_folder(path: Path) -> bool:
    """Whether there is a folder; no, where the text can't be a path."""
    try:
        return path.is_dir()
    except OSError:
        return False


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises
    ------
    InputError
        If it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name}: can't be read ({error.strerror})") from None


def write_atomic(path: Path, text: str) -> None:
    """Write to a temporary file beside ``path``, then rename it: all or nothing.

    Raises
    ------
    InputError
        If it can't be written (no such folder, no permission, disk full); nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with _removed_unless_renamed(Path(name)) as temporary:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
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
