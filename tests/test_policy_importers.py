"""Logs of evaluation toolkits, written by hand after what the toolkits write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.errors import TraceError
from costmodel.policy.importers import READERS, LogOptions, import_logs, tokenizer_counter
from costmodel.policy.importers.common import read_image_sizes
from costmodel.policy.traces import Trace
from costmodel.specs.images import ImageSize

SAMPLE: dict[str, Any] = {
    "doc_id": 7,
    "target": "B",
    "input": "What is it? Answer with a letter.",
    "filtered_resps": ["B"],
    "doc_hash": "5f",
    "mmmu_acc": {"id": "x", "score": 1.0},
}
QUESTION: dict[str, Any] = {
    "index": 12,
    "question": "How many?",
    "A": "one",
    "B": "two",
    "answer": "B",
    "prediction": "B. two",
}


def words(text: str) -> int:
    return len(text.split())


def options(**changes: Any) -> LogOptions:
    return LogOptions(**{"model": "m", "mode": "short", "count": words, **changes})


def lmms(tmp_path: Path, *samples: dict[str, Any], **changes: Any) -> tuple[Trace, ...]:
    path = tmp_path / "20250101_120000_samples_mmmu_val.jsonl"
    path.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    return import_logs(READERS["lmms-eval"], [path], options(**changes))


def kit(path: Path, *rows: dict[str, Any], **changes: Any) -> tuple[Trace, ...]:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".json":
        path.write_text(json.dumps(rows))
    elif path.suffix == ".tsv":
        lines = ["\t".join(names), *("\t".join(str(row.get(name, "")) for name in names) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    else:
        book = pytest.importorskip("openpyxl", reason="openpyxl is not installed (extra: traces)").Workbook()
        for row in (names, *([row.get(name) for name in names] for row in rows)):
            book.active.append(row)
        book.save(path)
    return import_logs(READERS["vlmevalkit"], [path], options(**changes))


def test_lmms_eval_samples(tmp_path: Path) -> None:
    thought = "<think>one two three</think>C"
    second = {**SAMPLE, "doc_id": 8, "resps": [[thought]], "filtered_resps": ["C"], "mmmu_acc": {"score": 0.0}}
    third = {**SAMPLE, "doc_id": 9, "token_counts": [{"input_tokens": 300, "output_tokens": 41}], "mmmu_acc": 1}
    one, two, three = lmms(tmp_path, SAMPLE, second, third, images=(ImageSize(width=64, height=64),))
    assert (one.item_id, one.answer, one.correct, one.output_tokens, one.prompt_tokens) == (
        "mmmu_val/7",
        "B",
        True,
        1,
        7,
    )
    assert one.sources == {"output_tokens": "tokenizer", "prompt_tokens": "tokenizer", "correct": "log"}
    assert (two.answer, two.correct, two.reasoning) == ("C", False, "<think>one two three</think>")
    assert two.output_tokens == words("<think>one two three</think>C")
    assert (three.output_tokens, "output_tokens" in three.sources) == (41, False)
    assert str(one.images[0]) == "64x64"


def test_lmms_eval_without_a_metric_is_compared_with_the_target(tmp_path: Path) -> None:
    plain = {key: value for key, value in SAMPLE.items() if key != "mmmu_acc"}
    (trace,) = lmms(tmp_path, {**plain, "filtered_resps": ["The answer is (B)."]})
    assert trace.correct
    assert trace.sources["correct"] == "matcher auto"


@pytest.mark.parametrize(
    ("sample", "changes", "message"),
    [
        ({"a": 1}, {}, "line 1: not a sample of lmms-eval"),
        ({**SAMPLE, "f1": 0.3}, {}, r"several metrics \(mmmu_acc, f1\); name the one"),
        (SAMPLE, {"metric": "anls"}, "no metric 'anls'; the sample has mmmu_acc"),
        (SAMPLE, {"count": None}, "the log has no output_tokens; give a tokenizer"),
        ({**SAMPLE, "token_counts": [{"output_tokens": "4"}]}, {}, "token_counts.output_tokens is '4'"),
        ({**SAMPLE, "input": ""}, {}, "no prompt to count; give the number of prompt tokens"),
        ({**SAMPLE, "mmmu_acc": None, "target": None}, {}, "neither a score nor a reference"),
        (SAMPLE, {"images": {"other/1": ()}}, "no image sizes for item 'mmmu_val/7'"),
    ],
)
def test_a_log_that_lacks_something_says_what(
    tmp_path: Path, sample: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(TraceError, match=message) as caught:
        lmms(tmp_path, sample, **changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["tsv", "json", "xlsx"])
def test_vlmevalkit_results(tmp_path: Path, kind: str) -> None:
    judged = {**QUESTION, "index": 13, "prediction": "A", "hit": 1, "thinking": "one two"}
    failed = {**QUESTION, "index": 14, "prediction": "Failed to obtain answer via API.", "hit": 1}
    one, two, three = kit(tmp_path / f"Model_MMBench.{kind}", QUESTION, judged, failed, task="mmbench")
    assert (one.item_id, one.answer, one.correct, one.prompt_tokens) == ("mmbench/12", "B. two", True, 4)
    assert (two.correct, two.reasoning, two.output_tokens) == (True, "one two", words("one twoA"))
    assert (three.answer, three.correct) == ("", False)


def test_vlmevalkit_columns_of_cells(tmp_path: Path) -> None:
    path = tmp_path / "Model_MMBench.json"
    path.write_text(json.dumps({name: {"0": value} for name, value in QUESTION.items()}))
    (trace,) = import_logs(READERS["vlmevalkit"], [path], options(prompt_tokens=50))
    assert (trace.item_id, trace.prompt_tokens, trace.sources["prompt_tokens"]) == ("12", 50, "given")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.pkl", "", r"a\.pkl: expected \.xlsx, \.tsv or \.json"),
        ("a.json", "{", r"a\.json: not JSON"),
        ("a.json", "[1]", r"a\.json: expected a list of rows"),
        ("a.json", "[]", r"no answers in a\.json"),
        ("a.xlsx", "no zip", r"a\.xlsx: not a workbook"),
        ("a.tsv", "question\nwhat\n", r"a\.tsv: row 1: not a result of VLMEvalKit"),
        ("a.tsv", "index\tprediction\thit\n1\tB\tmaybe\n", "column hit is 'maybe', expected a number"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path: Path, name: str, text: str, message: str) -> None:
    if name.endswith("xlsx"):
        pytest.importorskip("openpyxl", reason="openpyxl is not installed (extra: traces)")
    (tmp_path / name).write_text(text)
    with pytest.raises(TraceError, match=message) as caught:
        import_logs(READERS["vlmevalkit"], [tmp_path / name], options())
    assert "\n" not in str(caught.value)


def test_reasoning_longer_than_the_csv_modules_default_is_read(tmp_path: Path) -> None:
    (trace,) = kit(tmp_path / "a.tsv", {**QUESTION, "thinking": "word " * 40_000 + "end"})
    assert trace.output_tokens > 40_000


def test_tokens_are_counted_by_the_models_tokenizer(tmp_path: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed (extra: traces)")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "tokenizer.json"))
    assert tokenizer_counter(tmp_path / "tokenizer.json")("a b c") == 3
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(TraceError, match=r"bad\.json: not a tokenizer\.json"):
        tokenizer_counter(tmp_path / "bad.json")


def test_image_sizes_come_from_a_table(tmp_path: Path) -> None:
    path = tmp_path / "sizes.csv"
    path.write_text("item_id,images\nmmmu_val/7,640x480;32x32\n")
    (trace,) = lmms(tmp_path, SAMPLE, images=read_image_sizes(path))
    assert [str(size) for size in trace.images] == ["640x480", "32x32"]
    path.write_text("id,size\n")
    with pytest.raises(TraceError, match="expected the columns item_id and images"):
        read_image_sizes(path)
