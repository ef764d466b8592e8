"""The journal of samples: killed at any moment it keeps every complete row, and goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calibrate.measure.journal import JOURNAL_SCHEMA_VERSION, Journal, read_journal
from costmodel.errors import MeasurementError

ENVIRONMENT = {"name": "a device", "threads": "1"}
HEADER = json.dumps({"kind": "header", "schema_version": 1, "environment": ENVIRONMENT})

_WRITER = """
import sys
from pathlib import Path
from calibrate.measure.journal import Journal

with Journal(Path(sys.argv[1]), {"name": "a device", "threads": "1"}) as journal:
    number = len(journal)
    while True:
        journal.append({"number": number, "filling": "x" * (number % 5000)})
        # What the parent has read from here was acknowledged before the kill.
        print(number, flush=True)
        number += 1
"""


def _kill_a_writer(path: Path, after_s: float) -> int:
    """Numbers acknowledged by a writer that is killed after its first row and this long."""
    with subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        acknowledged = [writer.stdout.readline()]
        time.sleep(after_s)
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged += writer.stdout.readlines()
    return int([line for line in acknowledged if line.endswith("\n")][-1])


def test_a_killed_writer_loses_no_row(tmp_path: Path) -> None:
    path, rng, last = tmp_path / "samples.jsonl", random.Random(4), -1
    for _ in range(6):
        acknowledged = _kill_a_writer(path, rng.uniform(0.0, 0.15))
        _, rows = read_journal(path)
        numbers = [row["number"] for row in rows]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > acknowledged > last
        assert all(len(row["filling"]) == row["number"] % 5000 for row in rows)
        last = acknowledged
    with Journal(path, ENVIRONMENT) as journal:
        assert len(journal) > last


def test_rows_come_back_as_written(tmp_path: Path) -> None:
    rows = [{"op": "anchor", "gemm_s": 1e-3}, {"item": "é\n", "raw_s": [0.1, 2e-7], "throttled": False}]
    path = tmp_path / "new" / "samples.jsonl"
    with Journal(path, ENVIRONMENT) as journal:
        for row in rows:
            journal.append(row)
        assert list(journal) == rows
    header, read = read_journal(path)
    assert read == rows
    assert header["environment"] == ENVIRONMENT
    with Journal(path, ENVIRONMENT) as journal:
        journal.append({"op": "stop"})
        assert list(journal) == [*rows, {"op": "stop"}]
    assert len(path.read_text().splitlines()) == 4


def _raw(path: Path, *lines: str, end: str = "\n") -> Path:
    path.write_text("\n".join(lines) + end)
    return path


def test_a_torn_last_line_is_left_out_then_overwritten(tmp_path: Path) -> None:
    path = _raw(tmp_path / "j.jsonl", HEADER, '{"number": 0}', '{"number": 1, "raw', end="")
    assert read_journal(path)[1] == [{"number": 0}]
    with Journal(path, ENVIRONMENT) as journal:
        journal.append({"number": 1})
    assert read_journal(path)[1] == [{"number": 0}, {"number": 1}]


@pytest.mark.parametrize("kept", [0, 1, 20, len(HEADER)])
def test_a_torn_header_starts_over(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text(HEADER[:kept])
    with Journal(path, ENVIRONMENT) as journal:
        journal.append({"number": 0})
    assert read_journal(path) == (json.loads(HEADER), [{"number": 0}])


@pytest.mark.parametrize(
    ("name", "value"), [("threads", "2"), ("torch", "9.9")], ids=["another value", "a name that is new"]
)
def test_another_environment_is_refused(tmp_path: Path, name: str, value: str) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path, ENVIRONMENT) as journal:
        journal.append({"number": 0})
    before = path.read_bytes()
    with pytest.raises(MeasurementError, match=f"j.jsonl: measured with {name} .* {value!r}; give another"):
        Journal(path, {**ENVIRONMENT, name: value})
    assert path.read_bytes() == before


FOREIGN = {
    "a table": "item,latency_s\na,1\nb,2",
    "prose": "no newline at all",
    "lines": "first line\nsecond line without an end",
    "json": '{"op": "gemm"}\n{"op": "gem',
    "newer": json.dumps({"kind": "header", "schema_version": JOURNAL_SCHEMA_VERSION + 1, "environment": {}}) + "\n{",
    "no environment": json.dumps({"kind": "header", "schema_version": 1}) + "\n",
    "odd environment": json.dumps({"kind": "header", "schema_version": 1, "environment": [1]}) + "\n",
    "no version": json.dumps({"kind": "header", "environment": {}}) + "\n",
    "list": "[1]\n",
    "deep": "[" * 100_000 + "\n",
    "broken row": HEADER + '\n{"number": 0\n{"number": 1}\n',
}


@pytest.mark.parametrize("kind", sorted(FOREIGN))
def test_a_file_of_another_kind_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "notes.txt"
    path.write_text(FOREIGN[kind])
    with pytest.raises(MeasurementError, match=r"^notes\.txt: ") as caught:
        Journal(path, ENVIRONMENT)
    assert "\n" not in str(caught.value)
    assert path.read_text() == FOREIGN[kind]


def test_binary_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    path.write_bytes(b"\x80\x04\n\xff\xfe\n")
    with pytest.raises(MeasurementError, match="line 1 is not JSON"):
        read_journal(path)


def test_paths_that_cannot_be_written_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file" / "j.jsonl", tmp_path):
        with pytest.raises(MeasurementError, match="can't") as caught:
            Journal(path, ENVIRONMENT)
        assert "\n" not in str(caught.value)
    with pytest.raises(MeasurementError, match="can't be read"):
        read_journal(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_only_numbers_are_written(tmp_path: Path, value: float) -> None:
    path = tmp_path / "j.jsonl"
    with Journal(path, ENVIRONMENT) as journal, pytest.raises(ValueError, match="not JSON compliant"):
        journal.append({"latency_s": value})
    assert read_journal(path)[1] == []
