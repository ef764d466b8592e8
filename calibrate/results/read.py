"""From a result file to cases.

A prediction is of a request that has the engine to itself: requests that ran beside others are left out and counted,
and a file that does not say whether they did is refused.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from calibrate.results.aiperf import is_aiperf, is_aiperf_summary, read_aiperf
from calibrate.results.guidellm import is_guidellm, read_guidellm
from calibrate.results.rows import ResultRow
from calibrate.results.vllm_bench import is_vllm_bench, read_vllm_bench
from costmodel import strict_json
from costmodel.cases import Case
from costmodel.errors import MeasurementError
from costmodel.families.sources import load_model
from costmodel.files import read_bytes
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

__all__ = ["Results", "ServedAs", "read_results"]


@dataclass(frozen=True, slots=True)
class ServedAs:
    """What a result file does not say.

    Attributes
    ----------
    images
        Of every request of the file.
    """

    model: str
    hardware: str
    engine: str
    dtype: str
    quantization: str = "none"
    num_devices: int = 1
    images: tuple[ImageSize, ...] = ()


@dataclass(frozen=True, slots=True)
class Results:
    """Cases of a file, and the requests that are in none, by reason."""

    cases: tuple[Case, ...]
    left_out: Counter[str]


def read_results(path: Path, served: ServedAs) -> Results:
    """Read a result file of ``vllm bench serve``, GuideLLM or AIPerf, told apart by what is in it.

    Raises
    ------
    MeasurementError
        If it is none of these, holds no single requests, or no request that ran alone.
    """
    left_out = Counter[str]()
    try:
        rows = _rows(_content(path), left_out)
    except MeasurementError as error:
        raise MeasurementError(f"{path.name}: {error}") from None
    usable = [row for row in rows if row.usable]
    left_out["figures that no answer can have"] += len(rows) - len(usable)
    alone = _alone(usable, path, left_out)
    shapes: dict[tuple[int, int], list[ResultRow]] = defaultdict(list)
    around = _image_tokens(served)
    for row in alone:
        text = row.prompt_tokens - (around if row.counts_images else 0)
        if text < 0:
            left_out["fewer prompt tokens than the images have"] += 1
        else:
            shapes[text, row.output_tokens].append(row)
    if not shapes:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items() if count)
        raise MeasurementError(f"{path.name}: no request can be used ({reasons or 'there are none'})")
    cases = tuple(_case(path.stem, shape, found, served) for shape, found in sorted(shapes.items()))
    return Results(cases, +left_out)


def _content(path: Path) -> list[Mapping[str, Any]]:
    """Objects of a JSON file, or of one with an object a line."""
    raw = read_bytes(path)
    try:
        whole = strict_json.loads(raw)
    except ValueError:
        whole = [_line(line) for line in raw.splitlines() if line.strip()]
    objects = whole if isinstance(whole, list) else [whole]
    if not objects or not all(isinstance(entry, dict) for entry in objects):
        raise MeasurementError("expected a JSON object, or one a line")
    return objects


def _line(line: bytes) -> object:
    try:
        return strict_json.loads(line)
    except ValueError:
        raise MeasurementError("neither JSON nor one JSON object a line") from None


def _rows(objects: Sequence[Mapping[str, Any]], left_out: Counter[str]) -> list[ResultRow]:
    first = objects[0]
    if is_vllm_bench(first):
        return [row for entry in objects for row in read_vllm_bench(entry, left_out)]
    if is_guidellm(first):
        return read_guidellm(first, left_out)
    if is_aiperf(first):
        return read_aiperf(objects, left_out)
    if is_aiperf_summary(first):
        raise MeasurementError("summary of AIPerf without single requests; give its profile_export.jsonl")
    raise MeasurementError("not a result of vllm bench serve, GuideLLM or AIPerf")


def _alone(rows: Sequence[ResultRow], path: Path, left_out: Counter[str]) -> list[ResultRow]:
    """Rows that overlap with no other."""
    if rows and all(row.alone for row in rows):
        return list(rows)
    if any(row.start_s is None for row in rows):
        raise MeasurementError(
            f"{path.name}: does not say when requests were sent; measure one at a time (--max-concurrency 1)"
        )
    spans = sorted(((row.start_s or 0.0, row) for row in rows), key=lambda span: span[0])
    alone, busy_until = [], float("-inf")
    for index, (start, row) in enumerate(spans):
        end = start + row.total_s
        following = spans[index + 1][0] if index + 1 < len(spans) else float("inf")
        if start >= busy_until and end <= following:
            alone.append(row)
        busy_until = max(busy_until, end)
    left_out["ran beside others: load is not modelled"] += len(spans) - len(alone)
    return alone


def _image_tokens(served: ServedAs) -> int:
    """Tokens that the images of a request put into its prompt."""
    if not served.images:
        return 0
    rule = load_model(served.model).image_rule
    layouts = [rule.layout(image) for image in served.images] if rule else []
    return sum(layout.visual_tokens + layout.extra_text_tokens for layout in layouts)


def _case(stem: str, shape: tuple[int, int], rows: Sequence[ResultRow], served: ServedAs) -> Case:
    """Requests of one shape as a case: medians."""
    prompt, output = shape
    steps = [row.tpot_s for row in rows if row.tpot_s is not None]
    measured = {"ttft": _median([row.ttft_s for row in rows]), "total": _median([row.total_s for row in rows])}
    if steps:
        measured["tpot"] = _median(steps)
    return Case(
        case_id=f"{stem}-{prompt}-{output}",
        model=served.model,
        hardware=served.hardware,
        engine=served.engine,
        dtype=served.dtype,
        quantization=served.quantization,
        num_devices=served.num_devices,
        workload=Workload(images=served.images, prompt_tokens=prompt, output_tokens=output),
        measured_s=measured,
    )


def _median(values: Sequence[float]) -> float:
    ordered, middle = sorted(values), len(values) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
