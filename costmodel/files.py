"""Files that a caller names: whatever is wrong with them is a typed error."""

from __future__ import annotations

from pathlib import Path

from costmodel.errors import InputError

__all__ = ["existing_file", "read_bytes"]


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
