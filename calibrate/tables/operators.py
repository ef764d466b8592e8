"""Tables of kernel timings: validated, one :class:`OperatorTable` per operator and number format, in seconds.

Columns are those of design section 7. ``bytes`` is the payload: the size of the one operand that is copied,
reduced, gathered or mapped, not the sum of what is read and written. A row that cannot be used is dropped,
named and counted; a table that cannot be used is refused. Rows of kinds that belong to other readers (slices,
anchors) are passed over.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from calibrate.tables.columns import Columns, join_columns, read_columns
from costmodel.errors import MeasurementError
from costmodel.ops import (
    DTYPES,
    AllGather,
    AllReduce,
    ContextAttention,
    Copy,
    Elementwise,
    EncoderAttention,
    Gemm,
    GenerationAttention,
    Launch,
    MoeExperts,
    Op,
    dtype_of,
    op_key,
)

__all__ = ["REPEAT_SPREAD", "OperatorTable", "TableSet", "group_columns", "read_tables", "shape_matrix"]

# Medians of one shape that lie further apart than this were not taken in the same unit, or not on the same
# device.
REPEAT_SPREAD = 20.0
_PASSED_OVER = ("slice", "anchor", "run")
_ATTENTION = ("batch", "num_heads", "head_dim")
_COLLECTIVE = ("bytes", "num_devices")
_REQUIRED: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attention_context": (*_ATTENTION, "q_len", "kv_len", "num_kv_heads"),
    "attention_generation": (*_ATTENTION, "kv_len", "num_kv_heads"),
    "attention_encoder": (*_ATTENTION, "q_len"),
    "elementwise": ("bytes",),
    "copy": ("bytes",),
    "all_reduce": _COLLECTIVE,
    "all_gather": _COLLECTIVE,
    "moe": ("tokens", "hidden_size", "intermediate_size", "num_experts", "top_k"),
    "launch": (),
}
_ANY_DTYPE = {"copy": "fp32", "launch": "fp32", "all_reduce": "bf16", "all_gather": "bf16"}


@dataclass(frozen=True, slots=True)
class OperatorTable:
    """Timings of one operator at one number format.

    Attributes
    ----------
    op
        An operator whose sizes are arrays, one element a shape.
    latency_s
        Seconds, one a shape.
    """

    op: Op
    latency_s: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """Number of distinct shapes."""
        return len(self.latency_s)

    @property
    def key(self) -> str:
        """Name of the law fit that these rows determine."""
        return op_key(self.op)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> OperatorTable:
        """Select some of the rows, by index or mask."""
        sizes: dict[str, Any] = {name: values[index] for name, values in _arrays(self.op).items()}
        return OperatorTable(dataclasses.replace(self.op, **sizes), self.latency_s[index])


@dataclass(frozen=True, slots=True)
class TableSet:
    """All tables read, by key (``gemm/bf16``), and what was dropped on the way: reason to number of rows."""

    tables: dict[str, OperatorTable]
    dropped: Counter[str] = field(default_factory=Counter)

    @property
    def rows(self) -> int:
        """Distinct shapes over all tables."""
        return sum(table.rows for table in self.tables.values())


def shape_matrix(op: Op) -> NDArray[np.float64]:
    """Sizes of an operator, one row a shape, in the order of ``op.sizes``; no window is infinity."""
    columns = [np.inf if getattr(op, name) is None else getattr(op, name) for name in op.sizes]
    return np.column_stack(np.broadcast_arrays(*(np.atleast_1d(np.asarray(c, dtype=float)) for c in columns)))


def read_tables(paths: Sequence[Path]) -> TableSet:
    """Read measurement tables (``.csv``, ``.parquet``, ``.jsonl``), all together.

    Repeated shapes become their median; rows that cannot be used are counted in ``dropped``.

    Raises
    ------
    MeasurementError
        If a file is no table of measurements in seconds, or no usable row is left.
    """
    if not paths:
        raise MeasurementError("got no measurement table, expected at least one file")
    return group_columns(join_columns([read_columns(path) for path in paths]), label=", ".join(p.name for p in paths))


def group_columns(columns: Columns, *, label: str) -> TableSet:
    """Validate rows and sort them into one table per operator and number format.

    Parameters
    ----------
    label
        Name of the source, for messages.
    """
    dropped = Counter(columns.unreadable)
    kinds = columns.texts["op"]
    usable = _usable_rows(columns, dropped)
    tables: dict[str, OperatorTable] = {}
    for kind in np.unique(kinds[usable]):
        for table in _tables_of_kind(str(kind), columns, usable & (kinds == kind), dropped, label):
            tables[table.key] = table
    if not tables:
        reasons = "; ".join(f"{count} rows: {reason}" for reason, count in dropped.items()) or "it has no rows"
        raise MeasurementError(f"{label}: no usable row is left ({reasons})")
    return TableSet(dict(sorted(tables.items())), dropped)


def _usable_rows(columns: Columns, dropped: Counter[str]) -> NDArray[np.bool_]:
    """Rows of a known operator with a positive, undisturbed time."""
    kinds = columns.texts["op"]
    usable = ~np.isin(kinds, _PASSED_OVER)
    known = np.isin(kinds, tuple(_REQUIRED))
    for kind, count in Counter(kinds[usable & ~known].tolist()).items():
        dropped[f"unknown operator {kind!r}"] += count
    usable &= known
    latency_s = columns.numbers["latency_s"] if "latency_s" in columns.numbers else np.full(columns.rows, np.nan)
    for reason, bad in (
        ("latency_s is not a number", ~np.isfinite(latency_s)),
        ("latency_s is not positive", np.isfinite(latency_s) & (latency_s <= 0)),
        ("throttled or contended", columns.flagged),
    ):
        usable = _drop(usable, bad, reason, dropped)
    return usable


def _drop(usable: NDArray[np.bool_], bad: NDArray[np.bool_], reason: str, dropped: Counter[str]) -> NDArray[np.bool_]:
    count = int(np.sum(usable & bad))
    if count:
        dropped[reason] += count
    return usable & ~bad


def _tables_of_kind(
    kind: str, columns: Columns, mask: NDArray[np.bool_], dropped: Counter[str], label: str
) -> list[OperatorTable]:
    missing = [name for name in _REQUIRED[kind] if name not in columns.numbers]
    if missing:
        raise MeasurementError(f"{label}: rows of {kind} lack column {', '.join(missing)}")
    for name in _REQUIRED[kind]:
        values = columns.numbers[name]
        mask = _drop(mask, ~(np.isfinite(values) & (values > 0)), f"{kind}: {name} is not positive", dropped)
    dtypes = np.where(columns.texts["dtype"] == "", _ANY_DTYPE.get(kind, ""), columns.texts["dtype"])
    kv_dtypes = np.where(columns.texts["kv_dtype"] == "", dtypes, columns.texts["kv_dtype"])
    for names in (dtypes, kv_dtypes):
        for name in np.unique(names[mask]):
            if str(name) not in DTYPES:
                mask = _drop(mask, names == name, f"{kind}: unknown dtype {str(name)!r}", dropped)
    if not kind.startswith("attention"):
        kv_dtypes = dtypes
    pairs = sorted({(str(a), str(b)) for a, b in zip(dtypes[mask], kv_dtypes[mask], strict=True)})
    found = (
        _one_table(kind, dtype, kv_dtype, columns, mask & (dtypes == dtype) & (kv_dtypes == kv_dtype), dropped)
        for dtype, kv_dtype in pairs
    )
    return [table for table in found if table.rows]


def _one_table(
    kind: str, dtype: str, kv_dtype: str, columns: Columns, mask: NDArray[np.bool_], dropped: Counter[str]
) -> OperatorTable:
    sizes = {name: values[mask] for name, values in columns.numbers.items() if name != "latency_s"}
    op = _operator(kind, dtype, kv_dtype, sizes, rows=int(mask.sum()))
    return _median_of_repeats(OperatorTable(op, columns.numbers["latency_s"][mask]), dropped)


def _operator(kind: str, dtype: str, kv_dtype: str, sizes: Mapping[str, NDArray[np.float64]], *, rows: int) -> Op:
    """Build the operator of one kind over columns of sizes."""

    def column(name: str, missing: float = np.nan) -> NDArray[np.float64]:
        values = sizes.get(name, np.full(rows, np.nan))
        return np.where(np.isfinite(values) & (values > 0), values, missing)

    if kind == "gemm":
        copies = column("weight_copies", np.inf)
        return Gemm(kind, column("m"), column("n"), column("k"), dtype, weight_copies=copies)
    if kind == "attention_context":
        q_len, kv_len = column("q_len"), column("kv_len")
        heads = (column("num_heads"), column("num_kv_heads"), column("head_dim"))
        window = column("window", np.inf)
        return ContextAttention(kind, column("batch"), q_len, kv_len, *heads, dtype, kv_dtype, window)
    if kind == "attention_generation":
        heads = (column("num_heads"), column("num_kv_heads"), column("head_dim"))
        window = column("window", np.inf)
        copies = column("kv_copies", np.inf)
        sizes_of_kv = (column("batch"), column("kv_len"))
        return GenerationAttention(kind, *sizes_of_kv, *heads, dtype, kv_dtype, window, kv_copies=copies)
    if kind == "attention_encoder":
        return EncoderAttention(kind, column("batch"), column("q_len"), column("num_heads"), column("head_dim"), dtype)
    if kind == "moe":
        experts = (column("num_experts"), column("top_k"))
        return MoeExperts(kind, column("tokens"), column("hidden_size"), column("intermediate_size"), *experts, dtype)
    if kind == "elementwise":
        return Elementwise(kind, column("bytes") / dtype_of(dtype).activation_bytes, dtype)
    if kind == "copy":
        return Copy(kind, column("bytes"), dtype)
    if kind == "launch":
        return Launch(kind, np.ones(rows), dtype)
    collective = AllReduce if kind == "all_reduce" else AllGather
    return collective(kind, column("bytes"), column("num_devices"), dtype)


def _median_of_repeats(table: OperatorTable, dropped: Counter[str]) -> OperatorTable:
    """One row a shape, its time the median; a shape whose repeats contradict each other is dropped.

    Launches have no shape: each row is a sample.
    """
    if table.op.kind == "launch":
        return table
    shapes, first, inverse = np.unique(shape_matrix(table.op), axis=0, return_index=True, return_inverse=True)
    if len(shapes) == table.rows:
        return table
    inverse = inverse.reshape(-1)
    order = np.lexsort((table.latency_s, inverse))
    sorted_s = table.latency_s[order]
    counts = np.bincount(inverse)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    median_s = (sorted_s[starts + (counts - 1) // 2] + sorted_s[starts + counts // 2]) / 2
    contradicting = sorted_s[starts + counts - 1] > REPEAT_SPREAD * sorted_s[starts]
    if contradicting.any():
        reason = f"{table.key}: repeats of a shape differ more than {REPEAT_SPREAD:g}-fold (mixed units?)"
        dropped[reason] += int(counts[contradicting].sum())
    kept = OperatorTable(table.take(first).op, median_s)
    return kept.take(~contradicting)


def _arrays(op: Op) -> dict[str, NDArray[np.float64]]:
    fields = (field.name for field in dataclasses.fields(op))
    return {name: value for name in fields if isinstance(value := getattr(op, name), np.ndarray)}
