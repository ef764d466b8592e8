"""``vllm bench serve --save-result --save-detailed``: one JSON object with a list for each figure.

Fields as written by ``vllm/benchmarks/serve.py``: ``ttfts`` and ``itls`` in seconds, ``input_lens`` (the text of the
prompt) and ``output_lens``, ``errors`` (empty: none), ``start_times`` in later versions, ``max_concurrency``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from calibrate.results.rows import ResultRow, count, number
from costmodel.errors import MeasurementError

__all__ = ["is_vllm_bench", "read_vllm_bench"]

_LISTS = ("input_lens", "output_lens", "ttfts", "itls")


def is_vllm_bench(content: Mapping[str, Any]) -> bool:
    """Whether an object is such a result."""
    return "ttfts" in content or ("mean_ttft_ms" in content and "total_input_tokens" in content)


def read_vllm_bench(content: Mapping[str, Any], left_out: Counter[str]) -> list[ResultRow]:
    """Requests of a result; those that failed are counted in ``left_out``.

    Raises
    ------
    MeasurementError
        If the result has only summaries, or its lists do not match.
    """
    lists = [content.get(name) for name in _LISTS]
    if not all(isinstance(values, list) for values in lists):
        raise MeasurementError("result of vllm bench serve without single requests; run it with --save-detailed")
    columns: list[Sequence[Any]] = [values for values in lists if isinstance(values, list)]
    length = len(columns[0])
    if any(len(values) != length for values in columns):
        raise MeasurementError(f"lists {', '.join(_LISTS)} have {[len(v) for v in columns]} entries, expected as many")
    errors, starts = _padded(content.get("errors"), length), _padded(content.get("start_times"), length)
    alone = 1 in (count(content, "max_concurrency"), count(content, "max_concurrent_requests"))
    rows = []
    for index, (prompt, output, ttft, gaps) in enumerate(zip(*columns, strict=True)):
        row = _row(prompt, output, ttft, gaps, starts[index], alone=alone)
        if errors[index] or row is None:
            left_out["request failed or is incomplete"] += 1
        else:
            rows.append(row)
    return rows


def _padded(values: object, length: int) -> list[Any]:
    return values if isinstance(values, list) and len(values) == length else [None] * length


def _row(prompt: object, output: object, ttft: object, gaps: object, start: object, *, alone: bool) -> ResultRow | None:
    facts = {"prompt": prompt, "output": output, "ttft": ttft, "start": start}
    prompt_tokens, output_tokens, ttft_s = count(facts, "prompt"), count(facts, "output"), number(facts, "ttft")
    steps = [number({"gap": gap}, "gap") for gap in gaps] if isinstance(gaps, list) else [None]
    times = [step for step in steps if step is not None]
    if prompt_tokens is None or output_tokens is None or ttft_s is None or len(times) < len(steps):
        return None
    total_s, start_s = ttft_s + sum(times), number(facts, "start")
    return ResultRow(prompt_tokens, output_tokens, ttft_s, total_s, counts_images=False, start_s=start_s, alone=alone)
