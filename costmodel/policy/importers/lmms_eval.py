"""Logs of lmms-eval (``--log_samples``): ``<date>_samples_<task>.jsonl``, one sample a line.

Fields, as its evaluation tracker writes them: ``doc_id``, ``target``, ``input`` (the prompt), ``filtered_resps``,
``resps`` (left out where equal to ``filtered_resps``), newer versions ``token_counts`` (one a request), and one field
for each metric: a number, or an object with a ``score``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from costmodel import strict_json
from costmodel.errors import TraceError
from costmodel.files import read_text
from costmodel.policy.importers.common import LogOptions, LogRow, split_reasoning

__all__ = ["read_lmms_eval"]

_KNOWN = {"doc_id", "doc", "target", "arguments", "input", "resps", "filtered_resps", "token_counts"}
_TASK = re.compile(r"_samples_(.+)$")


def read_lmms_eval(path: Path, options: LogOptions) -> Iterator[LogRow]:
    """Rows of one file; items are named after task and document.

    Raises
    ------
    TraceError
        If a line is not a sample, or its metric can't be told.
    """
    found = _TASK.search(path.stem)
    task = options.task or (found[1] if found else path.stem)
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield _row(line, f"{path.name}: line {number}", task, options)


def _row(line: str, where: str, task: str, options: LogOptions) -> LogRow:
    try:
        sample = strict_json.loads(line)
    except ValueError:
        raise TraceError(f"{where}: not JSON") from None
    if not isinstance(sample, dict) or "doc_id" not in sample or not {"resps", "filtered_resps"} & set(sample):
        raise TraceError(f"{where}: not a sample of lmms-eval: expected doc_id and filtered_resps")
    raw, filtered = (_first(sample.get(name)) for name in ("resps", "filtered_resps"))
    whole = raw if raw is not None else filtered or ""
    answer, reasoning = split_reasoning(whole)
    if filtered is not None and filtered != whole:
        answer = split_reasoning(filtered)[0]
        reasoning = whole if reasoning is None else reasoning
    counts = _first_object(sample.get("token_counts"))
    target = sample.get("target")
    return LogRow(
        where=where,
        item_id=f"{task}/{sample['doc_id']}",
        answer=answer,
        reasoning=reasoning,
        prompt=_first(sample.get("input")) or "",
        output_tokens=_count(counts, where),
        score=_score(sample, options.metric, where),
        reference=str(target) if isinstance(target, str | int | float) else None,
    )


def _first(value: Any) -> str | None:
    """First text in nested lists."""
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else None


def _first_object(value: Any) -> Mapping[str, Any]:
    while isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, dict) else {}


def _count(counts: Mapping[str, Any], where: str) -> int | None:
    output = counts.get("output_tokens")
    if output is None:
        return None
    if not isinstance(output, int) or isinstance(output, bool) or output < 0:
        raise TraceError(f"{where}: token_counts.output_tokens is {output!r}, expected a count")
    return output


def _score(sample: Mapping[str, Any], metric: str | None, where: str) -> float | None:
    """Score of the metric that was named, or of the only one."""
    scores = {name: _number(value) for name, value in sample.items() if name not in _KNOWN and "hash" not in name}
    usable = {name: score for name, score in scores.items() if score is not None}
    if metric is not None:
        if metric not in usable:
            raise TraceError(f"{where}: no metric {metric!r}; the sample has {', '.join(usable) or 'none'}")
        return usable[metric]
    if len(usable) > 1:
        raise TraceError(f"{where}: several metrics ({', '.join(usable)}); name the one that says what is correct")
    return next(iter(usable.values()), None)


def _number(value: Any) -> float | None:
    if isinstance(value, dict):
        value = value.get("score")
    try:
        return float(value) if isinstance(value, bool | int | float) else None
    except OverflowError:
        return None
