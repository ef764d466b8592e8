"""Files that a caller names: whatever is wrong with them is a typed error, and nobody sees half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from costmodel.errors import InputError

__all__ = ["existing_file", "read_bytes", "write_atomic"]


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
        If the folder cannot be written to.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; give it the permissions that an ordinary new file has.
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
