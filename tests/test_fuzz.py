"""Files that are broken, hostile or of another kind: every reader gives a typed error in one line, soon and small."""

from __future__ import annotations

import json
import random
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_samples import SAMPLES, Sample, parsed
from hypothesis import given, settings
from hypothesis import strategies as st
from test_config_errors import VALUES, _mutate, _paths

from costmodel.errors import CostModelError, InputError
from costmodel.files import read_bytes

MUTANTS_OF_A_SAMPLE = 150
MEGABYTE = 1_000_000
NASTY = [
    b"\x00",
    b"\xff\xfe",
    b"NaN",
    b"-1",
    b"1e999",
    b"9" * 5000,
    b"{",
    b"]" * 50,
    b'"',
    b"\n",
    b",,,,",
    b"\xe2\x80\xa8",
]

sample_named = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)


def outcome(sample: Sample, content: bytes, folder: Path) -> str:
    """What a reader makes of it; the error of any other type is the test's failure."""
    path = folder / sample.name
    path.write_bytes(content)
    try:
        sample.read(path)
    except CostModelError as error:
        message = str(error)
        assert message, "an error without words"
        assert "\n" not in message
        assert len(message) < 2000
        return "error"
    return "read"


@sample_named
def test_the_samples_themselves_are_valid(sample: Sample, tmp_path: Path) -> None:
    assert outcome(sample, sample.content, tmp_path) == "read"


def _spoilt(content: bytes, rng: random.Random) -> bytes:
    """One to four changes of bytes: cut, doubled, flipped, or something nasty put in."""
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(content) + 1)
        stop = min(len(content), start + rng.choice((1, 1, 2, 10, 100)))
        middle = content[start:stop]
        flipped = bytes(byte ^ (1 << rng.randrange(8)) for byte in middle)
        content = content[:start] + rng.choice((b"", middle * 2, flipped, rng.choice(NASTY))) + content[stop:]
    return content


@sample_named
def test_bytes_changed(sample: Sample, tmp_path: Path) -> None:
    rng = random.Random(sample.name)
    outcomes = {outcome(sample, _spoilt(sample.content, rng), tmp_path) for _ in range(MUTANTS_OF_A_SAMPLE)}
    assert "error" in outcomes


@sample_named
def test_cut_off_anywhere(sample: Sample, tmp_path: Path) -> None:
    rng = random.Random(1)
    cuts = {0, 1, len(sample.content) // 2, *(rng.randrange(len(sample.content)) for _ in range(30))}
    assert "error" in {outcome(sample, sample.content[:cut], tmp_path) for cut in cuts}


@sample_named
def test_fields_changed(sample: Sample, tmp_path: Path) -> None:
    valid = parsed(sample.content)
    if valid is None:
        return  # A table: its cells are changed by the test of bytes.
    paths, rng = list(_paths(valid)), random.Random(2)
    for _ in range(MUTANTS_OF_A_SAMPLE):
        mutant = json.loads(json.dumps(valid))
        for path in rng.sample(paths, k=min(len(paths), rng.randint(1, 3))):
            _mutate(mutant, path, rng.choice(VALUES))
        whole = json.dumps(mutant).encode()
        head = sample.content[: sample.content.rstrip().rfind(b"\n") + 1] if sample.name.endswith("l") else b""
        outcome(sample, head + whole + b"\n", tmp_path)


@given(content=st.binary(max_size=200))
@settings(max_examples=40)
def test_any_bytes(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    for sample in SAMPLES:
        outcome(sample, content, folder)


@sample_named
def test_a_key_or_a_column_that_is_there_twice(sample: Sample, tmp_path: Path) -> None:
    *before, last = sample.content.rstrip().split(b"\n") if sample.name.endswith("l") else [sample.content]
    if last.lstrip()[:1] in (b"{", b"["):
        opening = last.index(b"{") + 1
        key = last[opening:].split(b'"')[1]
        lines = [*before, last[:opening] + b'"' + key + b'": 1, ' + last[opening:]]
    else:
        separator = b"\t" if sample.name.endswith("tsv") else b","
        columns, *rows = last.split(b"\n")
        lines = [columns + separator + columns.split(separator)[0], *(row + separator for row in rows if row)]
    # Measurements count and leave out what they can't read: a killed run ends in half a line.
    expected = "read" if sample.name == "rows.jsonl" else "error"
    assert outcome(sample, b"\n".join(lines) + b"\n", tmp_path) == expected


def _nested(opening: str, closing: str) -> bytes:
    return f"{opening * 100_000}1{closing * 100_000}".encode()


@sample_named
@pytest.mark.parametrize(
    "content", [_nested("[", "]"), _nested('{"a":', "}"), b"9" * 100_000], ids=["list", "object", "digits"]
)
def test_nesting_and_numbers_without_end(sample: Sample, content: bytes, tmp_path: Path) -> None:
    assert outcome(sample, content, tmp_path) == "error"


@sample_named
def test_memory_stays_in_proportion(sample: Sample, tmp_path: Path) -> None:
    content = sample.content + b"x" * MEGABYTE
    tracemalloc.start()
    outcome(sample, content, tmp_path)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 100 * len(content)


def test_a_device_without_end_is_not_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("no /dev/zero on this system")
    monkeypatch.setattr("costmodel.files._MOST_BYTES", MEGABYTE)
    with pytest.raises(InputError, match="more than"):
        read_bytes(Path("/dev/zero"))


def test_a_workbook_that_unpacks_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openpyxl", reason="openpyxl is not installed (extra: traces)")
    monkeypatch.setattr("costmodel.policy.importers.vlmevalkit._MOST_UNPACKED_BYTES", MEGABYTE)
    path = tmp_path / "log.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b" " * (2 * MEGABYTE))
    assert path.stat().st_size < 10_000
    read: Callable[[Path], object] = next(sample for sample in SAMPLES if sample.name == "log.tsv").read
    with pytest.raises(InputError, match="unpacks to"):
        read(path)
