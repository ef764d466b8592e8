"""The accuracy of shipped profiles, as tables to print and as a page of the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from calibrate.accuracy.evaluate import Evaluation
from calibrate.fit.priors import LeftOut
from costmodel.render import Table

__all__ = ["accuracy_tables", "layer_table", "left_out_table", "operator_table", "page"]

# Mean absolute error that was asked for, in percent, by operator and number format; per GPU where it differs.
_WANTED: dict[str, dict[str, float]] = {
    "gemm/bf16": {"h100-sxm": 6, "h200-sxm": 6, "a100-sxm-80gb": 7, "b200-sxm": 7, "": 9},
    "gemm/fp8": {"h100-sxm": 8, "h200-sxm": 8, "": 12},
    "attention_context/bf16": {"": 6.5},
    "attention_encoder/bf16": {"": 7},
    "attention_generation/bf16": {"": 6.5},
}


def accuracy_tables(evaluations: Sequence[Evaluation]) -> list[Table]:
    """Print tables of operators and of layers."""
    return [operator_table(evaluations), layer_table(evaluations)]


def operator_table(evaluations: Sequence[Evaluation]) -> Table:
    """One row per operator, number format and device."""
    rows = []
    keys = sorted({(kind, dtype) for entry in evaluations for kind in entry.ops for dtype in entry.ops[kind]})
    for kind, dtype in keys:
        for entry in evaluations:
            score = entry.ops.get(kind, {}).get(dtype)
            if score is None:
                continue
            wanted = _wanted(f"{kind}/{dtype}", entry.hardware)
            shares = (score.mape, score.median_ape, score.p90_ape)
            verdict = "" if wanted is None else f"{wanted:g} {'met' if 100 * score.mape <= wanted else 'missed'}"
            rows.append(
                (
                    kind,
                    dtype,
                    entry.hardware,
                    str(score.n),
                    *(f"{100 * share:.1f}" for share in shares),
                    f"{100 * score.bias:+.1f}",
                    f"{100 * score.coverage:.0f}",
                    f"{100 * score.half_width:.0f}",
                    verdict,
                )
            )
    columns = (
        "operator",
        "dtype",
        "hardware",
        "n",
        "MAPE %",
        "median %",
        "P90 %",
        "bias %",
        "cover %",
        "± %",
        "wanted",
    )
    return Table("Held-out accuracy by operator", columns, tuple(rows))


def layer_table(evaluations: Sequence[Evaluation]) -> Table:
    """Errors of the summed operators of one decoder layer."""
    rows = [
        (
            entry.hardware,
            model,
            phase,
            str(score.n),
            f"{100 * score.mape:.1f}",
            f"{100 * score.bias:+.1f}",
            f"{100 * score.coverage:.0f}",
        )
        for entry in evaluations
        for model, phases in entry.layers.items()
        for phase, score in phases.items()
    ]
    columns = ("hardware", "layer of", "phase", "n", "MAPE %", "bias %", "cover %")
    return Table("Sum of one decoder layer's GEMMs and attention", columns, tuple(rows))


def left_out_table(scores: Mapping[str, Mapping[str, LeftOut]]) -> Table:
    """Leave-one-GPU-out accuracy of the datasheet tier, one row per operator and number format.

    The typical error of GPUs of which no other of the architecture is known is stated apart: it is the one to expect of
    a new architecture.
    """
    rows = []
    for key, by_device in scores.items():
        worst = max(by_device, key=lambda device: by_device[device].median_ape)
        entries = list(by_device.values())
        alone = [entry.median_ape for entry in entries if not entry.siblings]
        rows.append(
            (
                key,
                str(len(entries)),
                f"{100 * np.median([entry.median_ape for entry in entries]):.0f}",
                f"{100 * np.median(alone):.0f} of {len(alone)}" if alone else "",
                f"{100 * by_device[worst].median_ape:.0f} ({worst})",
                f"{100 * np.mean([entry.coverage for entry in entries]):.0f}",
                f"{100 * np.median([entry.half_width for entry in entries]):.0f}",
            )
        )
    columns = ("operator", "GPUs", "median error %", "new architecture %", "worst GPU %", "cover %", "± %")
    return Table("One GPU left out, datasheet only", columns, tuple(rows))


def page(evaluations: Sequence[Evaluation], scores: Mapping[str, Mapping[str, LeftOut]]) -> str:
    """Text of ``docs/accuracy.md``."""
    parts = [_INTRODUCTION]
    for table in (*accuracy_tables(evaluations), *([left_out_table(scores)] if scores else [])):
        parts += [f"## {table.title}\n", _markdown(table)]
    parts.append(_LIMITS)
    return "\n".join(parts)


def _wanted(key: str, hardware: str) -> float | None:
    limits = _WANTED.get(key)
    return None if limits is None else limits.get(hardware, limits[""])


def _markdown(table: Table) -> str:
    lines = [table.columns, tuple("---" for _ in table.columns), *table.rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_INTRODUCTION = """# Accuracy of the shipped profiles

Written by `costmodel calibrate rebuild --accuracy-doc docs/accuracy.md`; do not edit. Each profile was fitted on at
most 200 shapes per operator and number format (24 for collectives) of the public kernel tables, and is scored on all
other shapes that a transformer layer uses: GEMMs with n, k of at least 256 and m of at most 16384, attention of heads
up to 128 wide over the whole context, collectives of up to 8 devices. MAPE, median and P90 are of
|predicted / measured - 1|; bias is the geometric mean of predicted / measured; "cover" is the share of rows inside
their 90 % interval and "±" the mean half-width of the intervals.

No row that is scored was fitted on. The structure of the laws, though, was chosen while looking at residuals of all
GPUs, so that these figures test coefficients, corrections and intervals, and the structure only in part. Which variant
of a law and whether a correction is kept is decided inside the rows of the fit, by cross-validation.
"""

_LIMITS = """## What limits it

- *GEMM on H100 and L40S*: the library's choice of kernel jumps between neighbouring shapes. Between 2 and 16 rows,
  where one kernel does the same work, rows of one weight matrix scatter by 2.3 % on H100 and 4.4 % on L40S (mean
  deviation from their median). Other tile sets, losses, priors of siblings and a softer choice between tiles were
  tried: none moves the figure by more than 0.2 points, nor do three times as many rows.
- *GEMM on Arc B60*: widths of k = 6144 and 12288 run 30 % slower than their neighbours; a smooth law does not know why.
- *GEMM at m = 1 with fp8 on Blackwell*: single rows take a kernel two to three times slower than m = 2 does. A law
  that never falls as m grows cannot follow it; these rows are under-predicted.
- *Block-scaled fp8 GEMMs* are timed with the host that calls them: 50 to 500 microseconds, behind which short kernels
  hide. The device's own time is told by long ones only; a model is predicted with it (equation 97).
- *Generation attention on Arc B60*: short contexts of one shape scatter by 8 % in the table itself.
- *Mixture of experts*: the load of the experts is not a size of the operator, and several kernels share one table.
- *Collectives*: 24 points hold the switch from one shot to a ring only roughly; coverage on so few rows is coarse.
- *Decode layers of small models on Blackwell* are predicted 4 to 6 % too fast: their GEMMs have a few rows, where the
  tables scatter most (4 to 5 %).
- *Datasheet tier*: interval and error are those of a new member of a known architecture where one is calibrated. A new
  architecture is off by more. Links between devices differ most (all-reduce), and the host's calls of block-scaled
  GEMMs are not on a datasheet at all.
- Another stack: the sum of a decoder layer's GEMMs that Vidur profiled in 2023 is met to a median of 3 to 6 % below
  128 tokens on A100 and H100; its longer prompts ran 11 to 19 % slower than these profiles say.
- Sliding windows and heads wider than 128 run other kernels: they are not scored here.
"""
