"""The check against published runs, as tables."""

from __future__ import annotations

from calibrate.accuracy.published import PublishedCheck, PublishedScore
from costmodel.render import Table

__all__ = ["published_tables"]

_SLOPE_WANTED = 0.1


def published_tables(result: PublishedCheck) -> list[Table]:
    """One table a check; percentages of the measured time."""
    checks = dict.fromkeys(score.check for score in result.scores)
    tables = [_check_table(check, [s for s in result.scores if s.check == check]) for check in checks]
    return [*tables, *([_slope_table(result)] if result.slopes else [])]


def _check_table(check: str, scores: list[PublishedScore]) -> Table:
    rows = tuple(
        (
            score.group,
            str(score.n),
            _percent(score.mape),
            _percent(score.median_ape),
            _percent(score.worst_ape),
            f"{100 * score.bias:+.1f}",
            f"{100 * score.coverage:.0f}",
            _verdict(score),
        )
        for score in scores
    )
    columns = ("runs left out", "n", "MAPE %", "median %", "worst %", "bias %", "cover %", "wanted %")
    return Table(check[0].upper() + check[1:], columns, rows)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"


def _verdict(score: PublishedScore) -> str:
    if score.wanted is None:
        return ""
    worst = "" if score.wanted_worst is None else f", none above {100 * score.wanted_worst:g}"
    return f"{100 * score.wanted:g}{worst}: {'met' if score.met else 'missed'}"


def _slope_table(result: PublishedCheck) -> Table:
    rows = tuple(
        (
            slope.model,
            slope.over,
            slope.at,
            f"{slope.measured:.3f}",
            f"{slope.predicted:.3f}",
            f"{100 * slope.error:+.1f}",
            f"{100 * _SLOPE_WANTED:g}: {'met' if abs(slope.error) <= _SLOPE_WANTED else 'missed'}",
        )
        for slope in result.slopes
    )
    columns = ("encoder", "time over", "at", "measured exponent", "predicted", "error %", "wanted %")
    return Table("Vision encoder on A100, fp16: shape of the curve", columns, rows)
