"""Traces are untrusted: whatever is wrong with them is one line that says what, where and what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import policy_samples as samples
import pytest
from made_profiles import LARGE, SMALL

from costmodel.errors import TraceError, WorkloadError
from costmodel.policy.agreement import agree
from costmodel.policy.traces import Trace, TraceKey, TraceSet, read_traces, write_traces

GOOD = '{"item_id":"1","model":"m","mode":"short","prompt_tokens":3,"output_tokens":2,"answer":"A","correct":true}'


def of(traces: list[Trace], **options: bool) -> TraceSet:
    return TraceSet.of(traces, small=SMALL, large=LARGE, **options)


def test_traces_survive_a_file(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    made = samples.traces()
    write_traces(path, made)
    assert read_traces(path) == tuple(made)


def test_images_are_read_as_a_list_or_joined(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(GOOD[:-1] + ',"images":"640x480; 32x32"}\n\n' + GOOD[:-1] + ',"images":["640x480","32x32"]}\n')
    one, other = read_traces(path)
    assert one.images == other.images
    assert len(one.images) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no traces in it"),
        ("[1]", "line 1: field line"),
        (GOOD + "\n{", "line 2: field line: Invalid JSON"),
        (GOOD.replace("short", "brief"), "line 1: field mode: Input should be 'short', 'reason' or 'transfer'"),
        (GOOD.replace(":2,", ":0,"), "line 1: field output_tokens: Input should be greater than or equal to 1"),
        (GOOD.replace(":2,", ":true,"), "field output_tokens"),
        (GOOD.replace(":3,", ":-3,"), "field prompt_tokens"),
        (GOOD.replace("true", "0.5"), "field correct"),
        (GOOD.replace('"answer":"A",', ""), "field answer: Field required"),
        (GOOD[:-1] + ',"wrong":1}', "field wrong: Extra inputs are not permitted"),
        (GOOD[:-1] + ',"total_s":NaN}', "field total_s"),
        (GOOD[:-1] + ',"images":7}', "field images"),
        (GOOD[:-1] + ',"confidence":2}', "field confidence"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError, match=r"traces\.jsonl: ") as caught:
        read_traces(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_bad_image_size_and_a_binary_file_are_named(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(GOOD[:-1] + ',"images":["big"]}')
    with pytest.raises(WorkloadError, match="image 'big': expected WIDTHxHEIGHT"):
        read_traces(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TraceError, match="not a text file"):
        read_traces(path)


def test_both_models_must_be_there() -> None:
    made = samples.traces()
    with pytest.raises(TraceError, match=r"no traces of the small model 'tiny'; the traces are of Qwen/.*2B.*8B"):
        TraceSet.of(made, small="tiny", large=LARGE)
    with pytest.raises(TraceError, match="both models are named"):
        TraceSet.of(made, small=SMALL, large=SMALL)
    other = [trace.model_copy(update={"model": "other"}) for trace in made]
    assert of(made + other).items == of(made).items


def test_item_sets_must_be_equal_or_are_restricted_on_demand() -> None:
    made = [x for x in samples.traces() if (x.item_id, x.model, x.mode) != ("item-3", LARGE, "reason")]
    with pytest.raises(TraceError, match=r"large/reason lacks 1 of 40 items \('item-3'\); record them, or restrict"):
        of(made)
    restricted = of(made, common_items=True)
    assert (len(restricted), restricted.dropped) == (39, 1)
    apart = [x for x in samples.traces(2) if (x.item_id == "item-0") == (x.model == SMALL)]
    with pytest.raises(TraceError, match="no item was answered in all of small/short, "):
        of(apart, common_items=True)


def test_items_are_answered_once_and_have_one_set_of_images() -> None:
    made = samples.traces()
    with pytest.raises(TraceError, match="'item-0' has two traces for small/short; expected one"):
        of([*made, made[0]])
    changed = made[1].model_copy(update={"images": (*made[1].images, samples.SIZES[0])})
    with pytest.raises(TraceError, match="'item-0': large/short has other images than small/short"):
        of([made[0], changed, *made[2:]])


def test_no_correct_answer_at_all_is_a_mistake_in_the_file() -> None:
    with pytest.raises(TraceError, match=r"none of the 320 answers is correct: is the field 'correct' filled in\?"):
        of([trace.model_copy(update={"correct": False}) for trace in samples.traces()])


@pytest.mark.parametrize("matcher", ["auto", "letter", "number", "phrase", "exact"])
def test_agreement_of_columns_is_agreement_of_answers(matcher: str) -> None:
    recorded = samples.trace_set()
    first, second = TraceKey("small", "short"), TraceKey("large", "short")
    expected = [
        agree(a, b, matcher=matcher)
        for a, b in zip(recorded.columns[first].answers, recorded.columns[second].answers, strict=True)
    ]
    assert np.array_equal(recorded.agreement(first, second, matcher), expected)
