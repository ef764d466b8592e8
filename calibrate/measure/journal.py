"""The file that samples go to: one JSON object a line, written through to the disk, never rewritten.

A calibration that is killed loses at most the line that was being written, and goes on where it stopped.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from filelock import FileLock, Timeout

from costmodel import strict_json
from costmodel.errors import MeasurementError

__all__ = ["JOURNAL_SCHEMA_VERSION", "Journal", "read_journal"]

JOURNAL_SCHEMA_VERSION = 1

Row = dict[str, Any]


def read_journal(path: Path) -> tuple[Row, list[Row]]:
    """Header and rows of a journal; a last line without an end (a killed writer) is left out.

    Raises
    ------
    MeasurementError
        If the file can't be read, has no header of ours, or a complete line that is not JSON.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError as error:
        raise MeasurementError(f"{path.name}: can't be read ({error.strerror})") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        try:
            row = strict_json.loads(line)
        except ValueError as error:
            raise MeasurementError(
                f"{path.name}: line {number} is not JSON ({error}); expected one object a line"
            ) from None
        if not isinstance(row, dict):
            raise MeasurementError(f"{path.name}: line {number} is {type(row).__name__}, expected an object")
        rows.append(row)
    if not rows or rows[0].get("kind") != "header" or not isinstance(rows[0].get("environment"), dict):
        raise _foreign(path)
    version = rows[0].get("schema_version")
    if not isinstance(version, int) or version > JOURNAL_SCHEMA_VERSION:
        raise MeasurementError(
            f"{path.name}: schema_version is {version}, this version reads up to {JOURNAL_SCHEMA_VERSION}"
        )
    return rows[0], rows[1:]


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, allow_nan=False).encode() + b"\n"


def _foreign(path: Path) -> MeasurementError:
    return MeasurementError(f"{path.name}: got no header line, expected a file written by calibrate run")


class Journal:
    """An open journal.

    Parameters
    ----------
    path
        File to create or to go on with.
    environment
        Device and software; a journal of another environment is refused, not mixed.

    Raises
    ------
    MeasurementError
        If the file is not a journal, was measured in another environment, can't be written, or is being written by
        another process.
    """

    def __init__(self, path: Path, environment: Mapping[str, str]) -> None:
        self.path = path
        self._rows: list[Row] = []
        # Released by the operating system too, however the process ends.
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        header = {
            "kind": "header",
            "schema_version": JOURNAL_SCHEMA_VERSION,
            "environment": dict(environment),
        }
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
            content = path.read_bytes() if path.exists() else b""
            whole = content.rfind(b"\n") + 1
            if whole:
                self._rows = self._resume(header)
            elif not _line(header).startswith(content):
                raise _foreign(path)
            # Only now that the file is known to be ours: a line that a killed writer left goes.
            self._file = path.open("ab", buffering=0)
            self._file.truncate(whole)
        except Timeout:
            raise MeasurementError(f"{path.name}: another process is writing to it; give another file") from None
        except OSError as error:
            raise MeasurementError(f"{path}: can't be written ({error.strerror})") from None
        if not whole:
            self._write(header)

    def _resume(self, header: Row) -> list[Row]:
        found, rows = read_journal(self.path)
        differing = sorted(
            name
            for name in {*found["environment"], *header["environment"]}
            if found["environment"].get(name) != header["environment"].get(name)
        )
        if differing:
            name = differing[0]
            raise MeasurementError(
                f"{self.path.name}: measured with {name} {found['environment'].get(name)!r}, "
                f"this run has {header['environment'].get(name)!r}; give another --measurements file"
            )
        return rows

    def append(self, row: Mapping[str, Any]) -> None:
        """Write one row through to the disk."""
        self._write(row)
        self._rows.append(dict(row))

    def _write(self, row: Mapping[str, Any]) -> None:
        try:
            rest = memoryview(_line(row))
            while rest:
                # On a disk that fills up the first write is short, and only the next one fails.
                rest = rest[self._file.write(rest) :]
            os.fsync(self._file.fileno())
        except OSError as error:
            raise MeasurementError(
                f"{self.path}: can't be written ({error.strerror}); the rows before are kept: run again to go on"
            ) from None

    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._lock.release()
