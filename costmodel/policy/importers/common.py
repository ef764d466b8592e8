"""What every importer shares: from the rows of a log to traces, with the counts that the log lacks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from costmodel.csv_text import read_csv
from costmodel.errors import TraceError
from costmodel.files import read_text
from costmodel.policy.agreement import agree
from costmodel.policy.plan import Mode
from costmodel.policy.traces import Trace
from costmodel.specs.images import ImageSize

__all__ = [
    "LogOptions",
    "LogRow",
    "import_logs",
    "read_image_sizes",
    "split_reasoning",
    "tokenizer_counter",
]

Counter = Callable[[str], int]

_THINK = re.compile(r"^(.*?)</think>(.*)$", re.DOTALL | re.IGNORECASE)
_FAILED = "failed to obtain answer"


@dataclass(frozen=True, slots=True)
class LogRow:
    """One line of a log, as far as it says.

    Attributes
    ----------
    where
        Of the row, for messages.
    score
        As the toolkit judged it; ``None``: compare with ``reference``.
    """

    where: str
    item_id: str
    answer: str
    reasoning: str | None = None
    prompt: str = ""
    output_tokens: int | None = None
    score: float | None = None
    reference: str | None = None
    sample: int = 0


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What a log does not say of itself.

    Attributes
    ----------
    count
        Tokens of a text; ``None``: the log must have every count.
    prompt_tokens
        Of every prompt, instead of counting.
    images
        Sizes by item, or one tuple of sizes for all of them.
    matcher
        Compares answer and reference where the log has no score.
    least_score
        From which score on an answer is correct.
    """

    model: str
    mode: Mode
    count: Counter | None = None
    prompt_tokens: int | None = None
    images: Mapping[str, tuple[ImageSize, ...]] | tuple[ImageSize, ...] = ()
    matcher: str = "auto"
    least_score: float = 0.5
    sample: int = 0
    metric: str | None = None
    task: str = ""


def import_logs(
    reader: Callable[[Path, LogOptions], Iterable[LogRow]], paths: Sequence[Path], options: LogOptions
) -> tuple[Trace, ...]:
    """Read logs and fill in what they lack.

    Raises
    ------
    TraceError
        If a log can't be read, or a count, a size or a judgement is missing and nothing was given to find it.
    """
    traces = tuple(_trace(row, options) for path in paths for row in reader(path, options))
    if not traces:
        raise TraceError(f"no answers in {', '.join(path.name for path in paths) or 'no files'}")
    return traces


def _trace(row: LogRow, options: LogOptions) -> Trace:
    answer = "" if _FAILED in row.answer.lower() else row.answer
    sources = {}
    output = row.output_tokens
    if output is None:
        output = _counted(row, options, f"{row.reasoning or ''}{row.answer}", "output_tokens")
        sources["output_tokens"] = "tokenizer"
    prompt = options.prompt_tokens
    sources["prompt_tokens"] = "given"
    if prompt is None:
        prompt = _counted(row, options, row.prompt, "prompt_tokens")
        sources["prompt_tokens"] = "tokenizer"
    correct, sources["correct"] = _judged(row, answer, options)
    return Trace(
        item_id=row.item_id,
        model=options.model,
        mode=options.mode,
        images=_images(row, options),
        prompt_tokens=prompt,
        output_tokens=max(output, 1),
        answer=answer,
        correct=correct,
        reasoning=row.reasoning,
        sample=row.sample or options.sample,
        sources=sources,
    )


def _counted(row: LogRow, options: LogOptions, text: str, what: str) -> int:
    if options.count is None:
        raise TraceError(f"{row.where}: the log has no {what}; give a tokenizer to count them")
    if what == "prompt_tokens" and not text:
        raise TraceError(f"{row.where}: the log has no prompt to count; give the number of prompt tokens")
    return options.count(text)


def _judged(row: LogRow, answer: str, options: LogOptions) -> tuple[bool, str]:
    if row.score is not None:
        return bool(answer) and row.score >= options.least_score, "log"
    if row.reference is None:
        raise TraceError(f"{row.where}: neither a score nor a reference answer; name the metric of the log")
    return agree(answer, row.reference, matcher=options.matcher), f"matcher {options.matcher}"


def _images(row: LogRow, options: LogOptions) -> tuple[ImageSize, ...]:
    if not isinstance(options.images, Mapping):
        return options.images
    if row.item_id not in options.images:
        raise TraceError(f"{row.where}: no image sizes for item {row.item_id!r}")
    return options.images[row.item_id]


def split_reasoning(text: str) -> tuple[str, str | None]:
    """Answer, and what stands before ``</think>``, tags included (they are generated tokens too)."""
    match = _THINK.match(text)
    if match is None:
        return text.strip(), None
    return match[2].strip(), match[1] + "</think>"


def read_image_sizes(path: Path) -> dict[str, tuple[ImageSize, ...]]:
    """Sizes by item: CSV with the columns ``item_id`` and ``images`` (``WxH`` joined by ``;``).

    Raises
    ------
    TraceError
        If a column is missing.
    """
    columns, rows = read_csv(path)
    if not {"item_id", "images"} <= set(columns):
        raise TraceError(f"{path.name}: expected the columns item_id and images")
    return {
        row["item_id"]: tuple(ImageSize.parse(text) for text in (row["images"] or "").split(";") if text.strip())
        for row in rows
    }


def tokenizer_counter(path: Path) -> Counter:
    """Count tokens with a ``tokenizer.json`` of the model.

    Raises
    ------
    TraceError
        If the library is not installed or the file is not a tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise TraceError("counting tokens needs: pip install 'vlm-costmodel[traces]'") from None
    try:
        tokenizer = Tokenizer.from_str(read_text(path))
    except Exception as error:
        raise TraceError(f"{path.name}: not a tokenizer.json ({str(error).splitlines()[0][:80]})") from None
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False).ids)
