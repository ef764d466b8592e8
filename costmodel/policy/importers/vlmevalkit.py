"""Results of VLMEvalKit: ``<model>_<dataset>.xlsx``, ``.tsv`` or ``.json``, one question a row.

Columns: ``index``, ``question``, the options ``A``, ``B``, …, ``answer``, ``prediction``, with ``SPLIT_THINK`` also
``thinking``; the files of its judge add ``hit`` (or ``score``). An answer that it failed to obtain counts as empty.
"""

from __future__ import annotations

import io
import math
import string
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from costmodel import strict_json, units
from costmodel.csv_text import read_csv
from costmodel.errors import TraceError
from costmodel.files import read_bytes, read_text
from costmodel.policy.importers.common import LogOptions, LogRow, split_reasoning

__all__ = ["read_vlmevalkit"]

_SCORES = ("hit", "score")
# What a workbook may hold when it is unpacked.
_MOST_UNPACKED_BYTES = units.GIB


def read_vlmevalkit(path: Path, options: LogOptions) -> Iterator[LogRow]:
    """Rows of one result file.

    Raises
    ------
    TraceError
        If the file is of another kind, or has no column ``index`` or ``prediction``.
    """
    readers = {".tsv": _tsv, ".json": _json, ".xlsx": _xlsx}
    if path.suffix.lower() not in readers:
        raise TraceError(f"{path.name}: expected .xlsx, .tsv or .json")
    rows = readers[path.suffix.lower()](path)
    for number, row in enumerate(rows, start=1):
        where = f"{path.name}: row {number}"
        if _text(row, "index") == "" or "prediction" not in row:
            raise TraceError(f"{where}: not a result of VLMEvalKit: expected the columns index and prediction")
        yield _row(row, where, options)


def _row(row: Mapping[str, Any], where: str, options: LogOptions) -> LogRow:
    answer, reasoning = split_reasoning(_text(row, "prediction"))
    index = _text(row, "index")
    reference = _text(row, "answer")
    return LogRow(
        where=where,
        item_id=f"{options.task}/{index}" if options.task else index,
        answer=answer,
        reasoning=_text(row, "thinking") or reasoning,
        prompt="\n".join(
            _text(row, name) for name in ("hint", "question", *string.ascii_uppercase) if _text(row, name)
        ),
        score=_score(row, options.metric, where),
        reference=reference or None,
    )


def _text(row: Mapping[str, Any], name: str) -> str:
    """Cell as text; whole numbers without a fraction, empty cells empty."""
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return str(value).strip()


def _score(row: Mapping[str, Any], metric: str | None, where: str) -> float | None:
    names = (metric,) if metric else _SCORES
    name = next((name for name in names if _text(row, name)), None)
    if name is None:
        if metric is not None:
            raise TraceError(f"{where}: no column {metric!r}; there are {', '.join(map(str, row))}")
        return None
    text = _text(row, name).lower()
    try:
        return {"true": 1.0, "false": 0.0}.get(text) if text in ("true", "false") else float(text)
    except ValueError:
        raise TraceError(f"{where}: column {name} is {text!r}, expected a number") from None


def _tsv(path: Path) -> Iterator[Mapping[str, Any]]:
    _, rows = read_csv(path, delimiter="\t")
    yield from rows


def _json(path: Path) -> Iterator[Mapping[str, Any]]:
    """A list of rows, or columns that map row numbers to cells (the default of pandas)."""
    try:
        content = strict_json.loads(read_text(path))
    except ValueError:
        raise TraceError(f"{path.name}: not JSON") from None
    if isinstance(content, dict) and content and all(isinstance(cells, dict) for cells in content.values()):
        numbers: Sequence[str] = list(content.get("index", next(iter(content.values()))))
        content = [{name: cells.get(number) for name, cells in content.items()} for number in numbers]
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise TraceError(f"{path.name}: expected a list of rows")
    yield from content


def _xlsx(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        from openpyxl import load_workbook
    except ImportError:
        raise TraceError("reading .xlsx needs: pip install 'vlm-costmodel[traces]'") from None
    packed = read_bytes(path)
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
    except zipfile.BadZipFile:
        raise TraceError(f"{path.name}: not a workbook") from None
    if unpacked_bytes > _MOST_UNPACKED_BYTES:
        raise TraceError(f"{path.name}: unpacks to {units.format_bytes(unpacked_bytes)}, more than any log of answers")
    try:
        book = load_workbook(io.BytesIO(packed), read_only=True, data_only=True)
        rows = list(book.worksheets[0].iter_rows(values_only=True))
    except Exception as error:
        raise TraceError(f"{path.name}: not a workbook ({str(error)[:80]})") from None
    names = [str(name) for name in rows[0]] if rows else []
    yield from (dict(zip(names, row, strict=False)) for row in rows[1:])
