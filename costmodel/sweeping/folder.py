"""Parts of a sweep as files: each appears whole or not at all, so that the files that are there say what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from costmodel.errors import InputError, WorkloadError
from costmodel.files import atomic_path, write_atomic
from costmodel.specs.base import Frozen
from costmodel.sweeping.compute import rows_of
from costmodel.sweeping.plan import Job, SweepPlan

__all__ = ["Folder", "Manifest", "merge", "my_parts", "remove", "write_csv", "write_part"]

_MANIFEST = "sweep.json"
# Rows of a group in a file: what a reader must hold at once.
_GROUP_ROWS = 1 << 17


class Manifest(Frozen):
    """What the parts in a folder belong to."""

    schema_version: int = 1
    digest: str
    parts: int
    plan: SweepPlan


def my_parts(parts: int, shard: tuple[int, int]) -> list[int]:
    """Numbers of the parts of shard ``i`` of ``n`` (from 1)."""
    index, count = shard
    if not 1 <= index <= count:
        raise WorkloadError(f"shard is {index}/{count}, expected 1/{count} to {count}/{count}")
    return list(range(index - 1, parts, count))


@dataclass(frozen=True)
class Folder:
    """A folder of parts.

    Attributes
    ----------
    manifest
        Says which sweep they are of.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: Path, job: Job) -> Folder:
        """Use a folder for a sweep: a new one, or the one of an earlier run of the same sweep.

        Raises
        ------
        InputError
            If it holds another sweep, or can't be written.
        """
        manifest = Manifest(digest=job.digest, parts=len(job.plan.parts), plan=job.plan)
        file = path / _MANIFEST
        if file.is_file():
            found = cls.read(path).manifest
            if found.digest != manifest.digest:
                raise InputError(
                    f"{path} holds parts of another sweep ({found.plan.text}; other options, models or profiles): "
                    "remove it, or choose another --out"
                )
        else:
            write_atomic(file, manifest.model_dump_json(indent=1))
        return cls(path, manifest)

    @classmethod
    def read(cls, path: Path) -> Folder:
        """A folder that an earlier run has left.

        Raises
        ------
        InputError
            If it is none.
        """
        from costmodel.documents import read_document

        file = path / _MANIFEST
        if not file.is_file():
            raise InputError(f"{path}: no {_MANIFEST} there, expected a folder that costmodel sweep has written")
        return cls(path, read_document(file, Manifest))

    def file(self, part: int) -> Path:
        """Where a part is, or will be."""
        return self.path / f"part-{part:06d}.parquet"

    def missing(self, parts: Iterable[int]) -> list[int]:
        """Those of the parts that are not there, or not readable."""
        return [part for part in parts if not self._is_whole(part)]

    def _is_whole(self, part: int) -> bool:
        try:
            return bool(pq.read_metadata(self.file(part)).num_rows == rows_of(self.manifest.plan, part))
        except (OSError, pa.ArrowException):
            return False


def write_part(tables: Iterable[pa.Table], file: Path) -> int:
    """Write tables to a Parquet file, whole or not at all; returns its rows."""
    rows = 0
    with atomic_path(file) as temporary:
        writer: pq.ParquetWriter | None = None
        for table in _grouped(tables):
            writer = writer or _writer(temporary, table.schema)
            writer.write_table(table, row_group_size=_GROUP_ROWS)
            rows += table.num_rows
        if writer is not None:
            writer.close()
    return rows


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    """A writer that looks for repeated values where there are some: options repeat, times do not."""
    repeated = [column.name for column in schema if not pa.types.is_floating(column.type)]
    return pq.ParquetWriter(path, schema, compression="zstd", compression_level=1, use_dictionary=repeated)


def _grouped(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Small tables joined to groups of rows."""
    waiting: list[pa.Table] = []
    rows = 0
    for table in tables:
        waiting.append(table)
        rows += table.num_rows
        if rows >= _GROUP_ROWS:
            yield pa.concat_tables(waiting).unify_dictionaries()
            waiting, rows = [], 0
    if waiting:
        yield pa.concat_tables(waiting).unify_dictionaries()


def merge(folders: Iterable[Path], out: Path, progress: Callable[[float, str], None]) -> int:
    """Join the parts of one sweep, from one or several folders, into one file; returns its rows.

    Raises
    ------
    InputError
        If the folders are of different sweeps, or parts are missing: it names them.
    """
    opened = [Folder.read(path) for path in folders]
    manifest = opened[0].manifest
    for other in opened[1:]:
        if other.manifest.digest != manifest.digest:
            raise InputError(f"{opened[0].path} and {other.path} hold parts of different sweeps")
    where: dict[int, Path] = {}
    for folder in opened:
        absent = set(folder.missing(range(manifest.parts)))
        where |= {part: folder.file(part) for part in range(manifest.parts) if part not in absent}
    missing = [part for part in range(manifest.parts) if part not in where]
    if missing:
        shown = ", ".join(map(str, missing[:5])) + (" …" if len(missing) > 5 else "")
        raise InputError(f"{len(missing)} of {manifest.parts} parts are missing ({shown}): run their shards again")

    def tables() -> Iterator[pa.Table]:
        for part in range(manifest.parts):
            file = pq.ParquetFile(where[part])
            for group in range(file.num_row_groups):
                yield file.read_row_group(group)
            progress((part + 1) / manifest.parts, f"part {part + 1} of {manifest.parts}")

    return write_csv(tables(), out) if out.suffix == ".csv" else write_part(tables(), out)


def write_csv(tables: Iterable[pa.Table], file: Path) -> int:
    """Write tables to a CSV file with one header, whole or not at all; returns its rows."""
    rows = 0
    with atomic_path(file) as temporary, temporary.open("wb") as sink:
        for table in tables:
            plain = pa.table([_plain(column) for column in table.columns], names=table.column_names)
            pyarrow.csv.write_csv(
                plain, sink, pyarrow.csv.WriteOptions(include_header=rows == 0, quoting_style="needed")
            )
            rows += table.num_rows
    return rows


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def remove(folder: Folder) -> None:
    """Remove the parts of a folder, whose content is elsewhere by now, and the folder if it holds nothing else."""
    for part in range(folder.manifest.parts):
        folder.file(part).unlink(missing_ok=True)
    (folder.path / _MANIFEST).unlink(missing_ok=True)
    if not any(folder.path.iterdir()):
        folder.path.rmdir()
