"""Tables of measurements as columns: CSV, Parquet and JSON lines, read the same way and never executed."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from costmodel import strict_json
from costmodel.csv_text import read_csv
from costmodel.errors import MeasurementError
from costmodel.files import read_text

__all__ = ["FLAGS", "NUMBERS", "TEXTS", "Columns", "join_columns", "read_columns", "read_parquet", "write_columns"]

TEXTS = ("op", "dtype", "kv_dtype")
FLAGS = ("throttled", "contended")
NUMBERS = (
    "m",
    "n",
    "k",
    "batch",
    "q_len",
    "kv_len",
    "num_heads",
    "num_kv_heads",
    "head_dim",
    "window",
    "bytes",
    "num_devices",
    "weight_copies",
    "kv_copies",
    "tokens",
    "hidden_size",
    "intermediate_size",
    "num_experts",
    "top_k",
    "latency_s",
)
_OTHER_UNITS = ("latency", "latency_ms", "latency_us", "latency_ns", "time_ms", "time_us", "duration_ms")
_TRUE = {"true", "1", "1.0", "yes"}


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows of a table, column by column.

    Attributes
    ----------
    numbers
        Number columns that the table has; a missing value is NaN.
    texts
        ``op``, ``dtype`` and ``kv_dtype``; a missing value is the empty string.
    flagged
        Rows marked as throttled or contended.
    unreadable
        What could not be read at all, named and counted.
    """

    numbers: Mapping[str, NDArray[np.float64]]
    texts: Mapping[str, NDArray[np.str_]]
    flagged: NDArray[np.bool_]
    unreadable: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.flagged)


def read_columns(path: Path) -> Columns:
    """Read one table by its file ending.

    Raises
    ------
    InputError
        If the file can't be read as what its ending says.
    MeasurementError
        If there is no such file, its ending is unknown, or it holds no table of measurements in seconds.
    """
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
    if path.suffix not in readers:
        raise MeasurementError(f"{path.name}: got ending {path.suffix!r}, expected one of {', '.join(readers)}")
    if not path.is_file():
        raise MeasurementError(f"{path.name}: no such file")
    return readers[path.suffix](path)


def join_columns(parts: Sequence[Columns]) -> Columns:
    """One table under the other; a column that one of them lacks is NaN or empty there."""
    names = {name for part in parts for name in part.numbers}
    numbers = {
        name: np.concatenate([part.numbers.get(name, np.full(part.rows, np.nan)) for part in parts])
        for name in sorted(names)
    }
    texts = {name: np.concatenate([part.texts[name] for part in parts]) for name in TEXTS}
    unreadable: Counter[str] = Counter()
    for part in parts:
        unreadable.update(part.unreadable)
    return Columns(numbers, texts, np.concatenate([part.flagged for part in parts]), unreadable)


def write_columns(columns: Columns, path: Path) -> None:
    """Write rows as a table that :func:`read_columns` reads.

    Raises
    ------
    MeasurementError
        If the file's ending is unknown, or pyarrow is missing for Parquet.
    """
    content: dict[str, NDArray[Any]] = {**columns.texts, **columns.numbers}
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(content)
            writer.writerows(zip(*(values.tolist() for values in content.values()), strict=True))
        return
    if path.suffix != ".parquet":
        raise MeasurementError(f"{path.name}: got ending {path.suffix!r}, expected .parquet or .csv")
    arrow = _arrow(path)
    arrow.parquet.write_table(arrow.table({name: arrow.array(values) for name, values in content.items()}), path)


def _check_names(names: Iterable[str], label: str) -> None:
    found = set(names)
    wrong = sorted(found & set(_OTHER_UNITS))
    if wrong:
        raise MeasurementError(f"{label}: column {wrong[0]!r} is not in seconds, or does not say; expected 'latency_s'")
    missing = sorted({"op", "latency_s"} - found)
    if missing:
        raise MeasurementError(
            f"{label}: lacks column {', '.join(missing)}; it has {', '.join(name[:30] for name in sorted(found)[:12])}"
        )


def _from_records(records: Sequence[Mapping[str, Any]], names: Iterable[str], unreadable: Counter[str]) -> Columns:
    present = set(names)
    numbers = {
        name: np.array([_number(record.get(name)) for record in records], dtype=np.float64)
        for name in NUMBERS
        if name in present
    }
    texts = {name: np.array([str(record.get(name) or "") for record in records], dtype=str) for name in TEXTS}
    flags = [any(_flag(record.get(name)) for name in FLAGS) for record in records]
    return Columns(numbers, texts, np.array(flags, dtype=bool), unreadable)


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _flag(value: Any) -> bool:
    return str(value).lower() in _TRUE


def _read_csv(path: Path) -> Columns:
    names, records = read_csv(path)
    _check_names(names, path.name)
    return _from_records(records, names, Counter())


def _read_jsonl(path: Path) -> Columns:
    records, unreadable = [], Counter[str]()
    for line in read_text(path).split("\n"):
        record = _json_row(line, unreadable)
        if record is not None:
            records.append(record)
    names = {name for record in records for name in record}
    if records:
        _check_names(names, path.name)
    return _from_records(records, names, unreadable)


def _json_row(line: str, unreadable: Counter[str]) -> dict[str, Any] | None:
    """One row; ``None`` for an empty line, a header, or what a killed run left of its last line (counted)."""
    if not line.strip():
        return None
    try:
        record = strict_json.loads(line)
    except ValueError:
        unreadable["line is not JSON"] += 1
        return None
    if not isinstance(record, dict):
        unreadable["line is not an object"] += 1
        return None
    return None if record.get("kind") == "header" else record


def _read_parquet(path: Path) -> Columns:
    table = read_parquet(path)
    names = table.column_names
    _check_names(names, path.name)
    records = table.select([name for name in names if name in (*TEXTS, *FLAGS, *NUMBERS)]).to_pylist()
    return _from_records(records, names, Counter())


def read_parquet(path: Path) -> Any:
    """Read a Parquet file as an arrow table.

    Raises
    ------
    MeasurementError
        If pyarrow is not installed or the file is no Parquet file.
    """
    arrow = _arrow(path)
    try:
        return arrow.parquet.read_table(path)
    except arrow.ArrowException as error:
        raise MeasurementError(f"{path.name}: no readable Parquet file ({error})") from None


def _arrow(path: Path) -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MeasurementError(f"{path.name}: Parquet needs pyarrow; install the extra 'tables'") from None
    return pyarrow
