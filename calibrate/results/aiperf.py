"""AIPerf's ``profile_export.jsonl``: one record a request, with metrics that name their units.

Fields as in its guide to profile exports: ``metadata.request_start_ns``, ``metrics.time_to_first_token``,
``request_latency``, ``input_sequence_length`` (the text, by the client's tokenizer), ``output_sequence_length``;
``error`` is null for a good request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from calibrate.results.rows import ResultRow, count, number
from costmodel.errors import MeasurementError
from costmodel.units import MICRO, MILLI, NANO

__all__ = ["is_aiperf", "is_aiperf_summary", "read_aiperf"]

_UNITS_S = {"ns": NANO, "us": MICRO, "ms": MILLI, "s": 1.0, "sec": 1.0}


def is_aiperf(content: Mapping[str, Any]) -> bool:
    """Whether an object is one record."""
    return isinstance(content.get("metadata"), dict) and "metrics" in content


def is_aiperf_summary(content: Mapping[str, Any]) -> bool:
    """Whether an object is the summary of a run, which holds no single requests."""
    return "input_config" in content and isinstance(content.get("request_latency"), dict)


def read_aiperf(records: Sequence[Mapping[str, Any]], left_out: Counter[str]) -> list[ResultRow]:
    """Requests of the profiling phase; those that failed are counted in ``left_out``.

    Raises
    ------
    MeasurementError
        If a time has a unit that is not known.
    """
    rows = []
    for record in records:
        if not is_aiperf(record) or record["metadata"].get("benchmark_phase", "profiling") != "profiling":
            left_out["record of another phase or kind"] += 1
            continue
        metrics = record["metrics"]
        row = _row(metrics, record["metadata"]) if isinstance(metrics, dict) and not record.get("error") else None
        if row is None:
            left_out["request failed or is incomplete"] += 1
        else:
            rows.append(row)
    return rows


def _row(metrics: Mapping[str, Any], metadata: Mapping[str, Any]) -> ResultRow | None:
    prompt = count(_metric(metrics, "input_sequence_length"), "value")
    output = count(_metric(metrics, "output_sequence_length"), "value")
    ttft_s, total_s = _seconds(metrics, "time_to_first_token"), _seconds(metrics, "request_latency")
    if prompt is None or output is None or ttft_s is None or total_s is None:
        return None
    start_ns = number(metadata, "request_start_ns")
    start_s = start_ns * NANO if start_ns is not None else None
    return ResultRow(prompt, output, ttft_s, total_s, counts_images=False, start_s=start_s)


def _metric(metrics: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    metric = metrics.get(name)
    return metric if isinstance(metric, dict) else {}


def _seconds(metrics: Mapping[str, Any], name: str) -> float | None:
    metric = _metric(metrics, name)
    value = number(metric, "value")
    if value is None:
        return None
    unit = str(metric.get("unit"))
    if unit not in _UNITS_S:
        raise MeasurementError(f"metric {name} is in {unit!r}, expected one of {', '.join(_UNITS_S)}")
    return value * _UNITS_S[unit]
