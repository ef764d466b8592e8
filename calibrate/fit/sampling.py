"""Which shapes to measure: spread evenly over the time that a law predicts for them.

Shapes are sorted by the law's predicted log-time and cut into bins of equal count. From each bin one shape is taken, at
evenly spread arithmetic intensities. So every regime (launch-bound, memory-bound, compute-bound) is seen in proportion
to how often it occurs, and none twice while another is missed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from calibrate.tables.operators import OperatorTable
from costmodel.laws.base import Law
from costmodel.ops import Op
from costmodel.profiles import Datasheet

__all__ = ["MAX_SAMPLES", "choose_shapes", "sample_table"]

MAX_SAMPLES = 200
_GOLDEN = 0.6180339887498949


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
    # Within a bin the shapes differ by what they do for each byte: an even sequence sees all kinds of them.
    intensity = np.broadcast_to(np.asarray(op.flops / np.maximum(op.bytes, 1.0), dtype=float), predicted_s.shape)
    shares = (np.random.default_rng(seed).random() + np.arange(count) * _GOLDEN) % 1.0
    chosen = []
    for low, high, share in zip(edges[:-1], edges[1:], shares, strict=True):
        inside = order[low:high]
        ranked = inside[np.argsort(intensity[inside], kind="stable")]
        chosen.append(ranked[int(share * len(ranked))])
    return np.sort(np.array(chosen))


def sample_table(
    table: OperatorTable, law: Law, datasheet: Datasheet, *, count: int = MAX_SAMPLES, seed: int = 0
) -> tuple[OperatorTable, OperatorTable]:
    """Split a table into the rows to fit on and all the others, held out."""
    chosen = np.zeros(table.rows, dtype=bool)
    chosen[choose_shapes(table.op, law, datasheet, count=count, seed=seed)] = True
    return table.take(chosen), table.take(~chosen)
