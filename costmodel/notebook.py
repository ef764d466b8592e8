"""Results in a notebook: the tables of the terminal as plain HTML, without colours, so that they suit any theme."""

from __future__ import annotations

import html
from collections.abc import Sequence

from costmodel.breakeven import BreakEven
from costmodel.parts import parts_table
from costmodel.predict import Prediction
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.model import ModelSpec
from costmodel.tables import (
    break_even_tables,
    engine_table,
    hardware_table,
    model_table,
    prediction_table,
    validation_tables,
)
from costmodel.terminal import Table, is_numeric
from costmodel.validation import Validation

__all__ = ["result_html", "result_tables"]


def result_html(result: object) -> str:
    """Tables of a result, then its warnings; every text is escaped."""
    warnings: Sequence[str] = getattr(result, "warnings", ())
    parts = [_table(table) for table in result_tables(result)]
    parts += [f"<p>warning: {html.escape(warning)}</p>" for warning in warnings]
    return f"<div>{''.join(parts)}</div>"


def result_tables(result: object) -> tuple[Table, ...]:
    """The tables that a person wants to see of a result.

    Raises
    ------
    TypeError
        If it is none of our results.
    """
    match result:
        case Prediction():
            return (prediction_table(result),)
        case BreakEven():
            return break_even_tables(result)
        case Validation():
            return validation_tables(result)
        case ModelSpec():
            return model_table([result]), parts_table(result)
        case HardwareProfile():
            return (hardware_table([result]),)
        case EngineProfile():
            return (engine_table([result]),)
    # Policies are loaded when they are used: everything else starts faster without.
    from costmodel.policy.results import PolicyChoice
    from costmodel.policy.tables import policy_tables

    if isinstance(result, PolicyChoice):
        return policy_tables(result)
    raise TypeError(f"got a {type(result).__name__}, expected a result of costmodel")


def _table(table: Table) -> str:
    columns = range(len(table.columns))
    right = [index > 0 and is_numeric(tuple(row[index] for row in table.rows)) for index in columns]
    head = _row("th", table.columns, right)
    body = "".join(_row("td", row, right) for row in table.rows)
    title = f"<p><strong>{html.escape(table.title)}</strong></p>" if table.title else ""
    footer = "".join(f"<p><small>{html.escape(line)}</small></p>" for line in table.footer)
    return f"{title}<table><thead>{head}</thead><tbody>{body}</tbody></table>{footer}"


def _row(name: str, cells: Sequence[str], right: Sequence[bool]) -> str:
    sides = ("right" if each else "left" for each in right)
    texts = (
        f'<{name} style="text-align:{side}">{html.escape(cell)}</{name}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(texts)}</tr>"
