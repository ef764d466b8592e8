"""Recorded answers: one a line (JSON Lines), and all of them as columns over one common set of items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, ValidationError, field_serializer, field_validator

from costmodel import strict_json
from costmodel.errors import TraceError
from costmodel.files import read_bytes, write_atomic
from costmodel.policy.agreement import matcher_named
from costmodel.policy.plan import Ask, Mode, Plan, Role
from costmodel.specs.base import Count, Flag, Frozen, Size, first_problem
from costmodel.specs.images import ImageSize

__all__ = ["Column", "Trace", "TraceKey", "TraceSet", "key_of", "parse_traces", "read_traces", "write_traces"]

_NAMED = 3


class Trace(Frozen):
    """One recorded answer.

    Attributes
    ----------
    model
        Name of the model; both models are told apart by it.
    images
        Sizes, written ``WIDTHxHEIGHT``.
    prompt_tokens
        Text tokens of the prompt, without visual tokens; with the reasoning that was handed over, where it was.
    output_tokens
        All tokens generated, those of the reasoning included.
    sample
        Which of several answers to the same request.
    selector, keep_fraction
        Transfer only: what of the reasoning was handed over.
    confidence
        Mean probability of the answer's tokens.
    sources
        Where values come from that the engine did not count itself, by field.
    """

    item_id: str = Field(min_length=1)
    model: str = Field(min_length=1)
    mode: Mode
    images: tuple[ImageSize, ...] = ()
    prompt_tokens: Count
    output_tokens: Size
    answer: str
    correct: Flag
    reasoning: str | None = None
    ttft_s: NonNegativeFloat | None = None
    total_s: NonNegativeFloat | None = None
    sources: dict[str, str] = Field(default_factory=dict)
    sample: Count = 0
    selector: str = "all"
    keep_fraction: float = Field(default=1.0, gt=0, le=1)
    confidence: float | None = Field(default=None, ge=0, le=1)

    @field_validator("images", mode="before")
    @classmethod
    def _read_images(cls, value: object) -> object:
        texts = [text for text in value.split(";") if text.strip()] if isinstance(value, str) else value
        if isinstance(texts, list | tuple):
            return tuple(_size(text) if isinstance(text, str) else text for text in texts)
        return texts

    @field_serializer("images")
    def _write_images(self, value: tuple[ImageSize, ...]) -> list[str]:
        return [str(size) for size in value]


class TraceKey(NamedTuple):
    """What was asked, item aside."""

    role: Role
    mode: Mode
    sample: int = 0
    selector: str = "all"
    keep_fraction: float = 1.0

    def __str__(self) -> str:
        text = f"{self.role}/{self.mode}"
        if self.sample:
            text += f" sample {self.sample}"
        if self.mode == "transfer" and (self.selector, self.keep_fraction) != ("all", 1.0):
            text += f" of {self.selector} {self.keep_fraction:g}"
        return text


def key_of(plan: Plan, ask: Ask) -> TraceKey:
    """Which recorded answers a step of a plan asks for."""
    transfer = plan.transfer_of(ask)
    if transfer is None:
        return TraceKey(ask.model, ask.mode, ask.sample)
    return TraceKey(ask.model, ask.mode, ask.sample, transfer.selector, transfer.keep_fraction)


@dataclass(frozen=True, slots=True)
class Column:
    """Answers to one kind of request, in the order of the items.

    Attributes
    ----------
    confidence, total_s
        NaN where they are not recorded.
    """

    answers: tuple[str, ...]
    reasoning: tuple[str | None, ...]
    correct: NDArray[np.bool_]
    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    confidence: NDArray[np.float64]
    total_s: NDArray[np.float64]


@dataclass(frozen=True)
class TraceSet:
    """Recorded answers of a pair of models on one set of items."""

    small: str
    large: str
    items: tuple[str, ...]
    images: tuple[tuple[ImageSize, ...], ...]
    columns: Mapping[TraceKey, Column]
    dropped: int = 0
    _codes: dict[tuple[str, TraceKey], tuple[NDArray[np.int64], list[Any]]] = field(default_factory=dict)
    _agreement: dict[tuple[str, TraceKey, TraceKey], NDArray[np.bool_]] = field(default_factory=dict)

    @classmethod
    def of(cls, traces: Sequence[Trace], *, small: str, large: str, common_items: bool = False) -> TraceSet:
        """Arrange traces as columns.

        Parameters
        ----------
        small, large
            Names of the two models in the traces; traces of other models are left out.
        common_items
            Whether to keep only the items that every kind of request has, instead of refusing.

        Raises
        ------
        TraceError
            If a model has no traces, an item was answered twice, the kinds of request are not about the same items,
            an item has other images elsewhere, or no answer at all is correct.
        """
        grouped = _grouped(traces, small, large)
        items, dropped = _common(grouped, common_items)
        images = _images(grouped, items)
        columns = {key: _column([found[item] for item in items]) for key, found in grouped.items()}
        if not any(column.correct.any() for column in columns.values()):
            raise TraceError(f"none of the {len(traces)} answers is correct: is the field 'correct' filled in?")
        return cls(small, large, items, images, columns, dropped)

    def __len__(self) -> int:
        return len(self.items)

    def agreement(self, first: TraceKey, second: TraceKey, matcher: str) -> NDArray[np.bool_]:
        """Whether the answers of two columns agree, item by item; found once for each pair of distinct answers."""
        known = (matcher, first, second)
        if known not in self._agreement:
            self._agreement[known] = self._compare(first, second, matcher)
        return self._agreement[known]

    def _compare(self, first: TraceKey, second: TraceKey, matcher: str) -> NDArray[np.bool_]:
        rule = matcher_named(matcher)
        (a, keys_a), (b, keys_b) = self._keys(first, matcher), self._keys(second, matcher)
        # One code for a pair; code 0 of each side stands for an answer without a key.
        pairs, inverse = np.unique(a * len(keys_b) + b, return_inverse=True)
        same = np.zeros(len(pairs), dtype=bool)
        for index, pair in enumerate(pairs.tolist()):
            x, y = keys_a[pair // len(keys_b)], keys_b[pair % len(keys_b)]
            if x is not None and y is not None:
                same[index] = x == y or (not rule.by_key and rule.same(x, y))
        return same[inverse]

    def _keys(self, key: TraceKey, matcher: str) -> tuple[NDArray[np.int64], list[Any]]:
        known = (matcher, key)
        if known not in self._codes:
            canonical, codes = matcher_named(matcher).key, {None: 0}
            of_text: dict[str, int] = {}
            for text in self.columns[key].answers:
                if text not in of_text:
                    of_text[text] = codes.setdefault(canonical(text), len(codes))  # type: ignore[arg-type]
            array = np.array([of_text[text] for text in self.columns[key].answers], dtype=np.int64)
            self._codes[known] = array, list(codes)
        return self._codes[known]


def read_traces(path: Path) -> tuple[Trace, ...]:
    """Read a file of traces; errors as :func:`parse_traces`."""
    return parse_traces(read_bytes(path), path.name)


def parse_traces(raw: bytes, name: str) -> tuple[Trace, ...]:
    """Read the content of a file of traces; ``name`` is for messages.

    Raises
    ------
    TraceError
        If a line is not a trace; names the line and the field.
    """
    try:
        lines = raw.decode("utf-8-sig").split("\n")
    except UnicodeDecodeError:
        raise TraceError(f"{name}: not a text file; expected JSON Lines in UTF-8") from None
    traces = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            strict_json.loads(line)
            traces.append(Trace.model_validate_json(line))
        except ValidationError as error:
            where, got, message = first_problem(error)
            raise TraceError(f"{name}: line {number}: field {where or 'line'}: {message}, got {got}") from None
        except ValueError as error:
            raise TraceError(f"{name}: line {number}: field line: Invalid JSON ({error})") from None
    if not traces:
        raise TraceError(f"{name}: no traces in it; expected one JSON object a line")
    return tuple(traces)


def write_traces(path: Path, traces: Iterable[Trace]) -> None:
    """Write traces, one a line, whole or not at all; fields at their defaults are left out."""
    lines = (trace.model_dump_json(exclude_defaults=True) for trace in traces)
    write_atomic(path, "".join(f"{line}\n" for line in lines))


@lru_cache(maxsize=4096)
def _size(text: str) -> ImageSize:
    return ImageSize.parse(text)


def _grouped(traces: Sequence[Trace], small: str, large: str) -> dict[TraceKey, dict[str, Trace]]:
    if small == large:
        raise TraceError(f"both models are named {small!r}: the traces of a pair need two names")
    names = sorted({trace.model for trace in traces})
    for role, name in (("small", small), ("large", large)):
        if name not in names:
            raise TraceError(f"no traces of the {role} model {name!r}; the traces are of {', '.join(names)}")
    roles: dict[str, Role] = {small: "small", large: "large"}
    grouped: dict[TraceKey, dict[str, Trace]] = {}
    for trace in traces:
        if trace.model not in roles:
            continue
        transferred = (trace.selector, trace.keep_fraction) if trace.mode == "transfer" else ("all", 1.0)
        key = TraceKey(roles[trace.model], trace.mode, trace.sample, *transferred)
        found = grouped.setdefault(key, {})
        if trace.item_id in found:
            raise TraceError(f"item {trace.item_id!r} has two traces for {key}; expected one (or a sample number)")
        found[trace.item_id] = trace
    return grouped


def _common(grouped: Mapping[TraceKey, Mapping[str, Trace]], common_items: bool) -> tuple[tuple[str, ...], int]:
    """Items in the order of their first mention, and how many were left out."""
    every = dict.fromkeys(item for found in grouped.values() for item in found)
    items = tuple(item for item in every if all(item in found for found in grouped.values()))
    if len(items) < len(every) and not common_items:
        key, found = min(grouped.items(), key=lambda pair: len(pair[1]))
        missing = [item for item in every if item not in found]
        named = ", ".join(repr(item) for item in missing[:_NAMED])
        raise TraceError(
            f"{key} lacks {len(missing)} of {len(every)} items ({named}{', …' if len(missing) > _NAMED else ''}); "
            "record them, or restrict to common items"
        )
    if not items:
        raise TraceError(f"no item was answered in all of {', '.join(map(str, grouped))}")
    return items, len(every) - len(items)


def _images(grouped: Mapping[TraceKey, Mapping[str, Trace]], items: Sequence[str]) -> tuple[tuple[ImageSize, ...], ...]:
    (first, *others) = grouped.items()
    images = tuple(first[1][item].images for item in items)
    for key, found in others:
        for item, expected in zip(items, images, strict=True):
            if found[item].images != expected:
                raise TraceError(f"item {item!r}: {key} has other images than {first[0]}; expected the same")
    return images


def _column(traces: Sequence[Trace]) -> Column:
    return Column(
        answers=tuple(trace.answer for trace in traces),
        reasoning=tuple(trace.reasoning for trace in traces),
        correct=np.array([trace.correct for trace in traces], dtype=np.bool_),
        prompt_tokens=np.array([trace.prompt_tokens for trace in traces], dtype=np.int64),
        output_tokens=np.array([trace.output_tokens for trace in traces], dtype=np.int64),
        confidence=_optional(trace.confidence for trace in traces),
        total_s=_optional(trace.total_s for trace in traces),
    )


def _optional(values: Iterable[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
