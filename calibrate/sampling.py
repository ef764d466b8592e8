"""Which shapes to measure: spread evenly over the time that a law predicts for them.

Shapes are sorted by the law's predicted log-time and cut into bins of equal count, one shape drawn from each: every
regime (launch-bound, memory-bound, compute-bound) is seen in proportion to how often it occurs, and no regime twice
while another is missed. From about 100 shapes on, cleverer designs were no better and took longer to run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibrate.tables import OperatorTable
from costmodel.laws.base import Law
from costmodel.ops import Op
from costmodel.profiles import Datasheet

__all__ = ["MAX_SAMPLES", "choose_shapes", "sample_table"]

MAX_SAMPLES = 200


def choose_shapes(
    op: Op, law: Law, datasheet: Datasheet, *, count: int = MAX_SAMPLES, max_s: float = np.inf, seed: int = 0
) -> NDArray[np.intp]:
    """Choose at most ``count`` shapes of an operator whose sizes are arrays.

    Parameters
    ----------
    law
        Its start coefficients predict the times that the shapes are sorted by.
    max_s
        Longest predicted time worth measuring, in seconds.
    seed
        Of the draw within each bin; the same seed gives the same shapes.

    Returns
    -------
    NDArray
        Indices of the shapes, ascending.
    """
    start = {p.name: p.start for p in law.parameters}
    predicted_s = np.atleast_1d(np.asarray(law.time_s(op, start, datasheet), dtype=float))
    affordable = np.flatnonzero(predicted_s <= max_s)
    if len(affordable) <= count:
        return affordable
    order = affordable[np.argsort(predicted_s[affordable], kind="stable")]
    edges = np.linspace(0, len(order), count + 1).astype(np.intp)
    positions = np.random.default_rng(seed).integers(edges[:-1], edges[1:])
    return np.sort(order[positions])


def sample_table(
    table: OperatorTable, law: Law, datasheet: Datasheet, *, count: int = MAX_SAMPLES, seed: int = 0
) -> tuple[OperatorTable, OperatorTable]:
    """Split a table into the rows to fit on and all the others, held out."""
    chosen = np.zeros(table.rows, dtype=bool)
    chosen[choose_shapes(table.op, law, datasheet, count=count, seed=seed)] = True
    return table.take(chosen), table.take(~chosen)
