"""Rows of a part of a sweep, as tables of bounded size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from costmodel.errors import CostModelError
from costmodel.sweeping.arrow import table_of, text_column
from costmodel.sweeping.axes import Block, blocks
from costmodel.sweeping.plan import Job, SweepPlan
from costmodel.sweeping.plane import QUANTITIES, Columns, Plane
from costmodel.sweeping.result import BLOCK

__all__ = ["part_tables", "rows_of"]


def part_tables(job: Job, part: int) -> Iterator[pa.Table]:
    """Tables of a part, in order.

    A plane that can't be priced (heads that can't be shared out, a device without this number format) has all its rows,
    without times, and says why in the column ``problem``.
    """
    for number, block in job.plan.parts[part]:
        yield from _piece(job, number, block)


def rows_of(plan: SweepPlan, part: int) -> int:
    """Rows of a part."""
    return sum(int(np.prod([each.stop - each.start for each in block])) for _, block in plan.parts[part])


def _piece(job: Job, number: int, block: Block) -> Iterator[pa.Table]:
    constants = job.plan.planes[number]
    shape = [each.stop - each.start for each in block]
    plane: Plane | None = None
    problem = None
    try:
        plane = job.plane(number)
    except CostModelError as error:
        problem = str(error)
    for inner in blocks(shape, BLOCK):
        here = tuple(
            slice(outer.start + part.start, outer.start + part.stop) for outer, part in zip(block, inner, strict=True)
        )
        columns: Columns = {}
        if plane is not None:
            try:
                columns, problem = plane.block(here), None
            except CostModelError as error:
                columns, problem = {}, str(error)
        table = table_of(constants, job.plan.axes, here, columns)
        yield _with_problem(table, problem, job.plan.interval is not None)


def _with_problem(table: pa.Table, problem: str | None, intervals: bool) -> pa.Table:
    """Complete the columns: the same for all rows of a sweep."""
    rows = table.num_rows
    suffixes = ("", "_low", "_high") if intervals else ("",)
    wanted = [(f"{name}{suffix}", pa.float64()) for name in QUANTITIES for suffix in suffixes]
    wanted += [("memory_bytes", pa.float64()), ("fits", pa.bool_()), ("within_context", pa.bool_())]
    for name, kind in wanted:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(rows, kind))
    return table.append_column("problem", text_column(problem, rows))
