"""GuideLLM's ``benchmarks.json``: benchmarks, each with its successful requests.

Fields as in its ``GenerativeRequestStats``: ``request_start_time`` and ``request_latency`` in seconds,
``time_to_first_token_ms``, ``prompt_tokens`` and ``output_tokens`` as the server counts them. Its
``time_per_output_token_ms`` includes the first token, so that it is not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from calibrate.results.rows import ResultRow, count, number
from costmodel.errors import MeasurementError
from costmodel.units import MILLI

__all__ = ["is_guidellm", "read_guidellm"]


def is_guidellm(content: Mapping[str, Any]) -> bool:
    """Whether an object is such a result."""
    return isinstance(content.get("benchmarks"), list)


def read_guidellm(content: Mapping[str, Any], left_out: Counter[str]) -> list[ResultRow]:
    """Requests of all benchmarks; those that failed are counted in ``left_out``.

    Raises
    ------
    MeasurementError
        If no benchmark holds its requests.
    """
    groups = [b.get("requests") for b in content["benchmarks"] if isinstance(b, dict)]
    found = [group for group in groups if isinstance(group, dict) and isinstance(group.get("successful"), list)]
    if not found:
        raise MeasurementError("result of GuideLLM without single requests; expected benchmarks[].requests.successful")
    rows = []
    for group in found:
        for name in ("errored", "incomplete"):
            left_out["request failed or is incomplete"] += _length(group.get(name))
        for request in group["successful"]:
            row = _row(request) if isinstance(request, dict) else None
            if row is None:
                left_out["request lacks a figure"] += 1
            else:
                rows.append(row)
    return rows


def _length(found: object) -> int:
    return len(found) if isinstance(found, list) else 0


def _row(request: Mapping[str, Any]) -> ResultRow | None:
    prompt, output = count(request, "prompt_tokens"), count(request, "output_tokens")
    ttft, total = number(request, "time_to_first_token_ms"), number(request, "request_latency")
    if prompt is None or output is None or ttft is None or total is None:
        return None
    start_s = number(request, "request_start_time")
    return ResultRow(prompt, output, ttft * MILLI, total, counts_images=True, start_s=start_s)
