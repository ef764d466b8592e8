"""What goes wrong around a program: kills, a full disk, a closed pipe, a second writer, no home, a clock set back.

The table in docs/faults.md says for each fault what happens and which test shows it.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPO

from costmodel.documents import read_document
from costmodel.errors import InputError
from costmodel.files import write_atomic
from costmodel.predict import Prediction

LETTERS = 400_000
COMMAND = [sys.executable, "-c", "from costmodel.cli import main; main()"]
PREDICT = [
    *COMMAND, "predict", "--model", "Qwen/Qwen3-VL-2B-Instruct", "--hardware", "h100-sxm", "--engine", "vllm-0.7.2",
    "--image", "64x64", "--prompt-tokens", "10", "--output-tokens", "5", "--format", "json",
]  # fmt: skip

posix = pytest.mark.skipif(os.name != "posix", reason="needs POSIX signals and limits")

_REWRITER = f"""
import sys
from pathlib import Path
from costmodel.files import write_atomic
print("ready", flush=True)
while True:
    for letter in sys.argv[2]:
        write_atomic(Path(sys.argv[1]), letter * {LETTERS})
"""

# Files may grow to the limit and no further: to a program that is a full disk (EFBIG instead of ENOSPC).
_LIMITED = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
"""

_FULL_WRITE = (
    _LIMITED
    + """
from costmodel.errors import InputError
from costmodel.files import write_atomic
try:
    write_atomic(Path(sys.argv[1]), "x" * 100_000)
except InputError as error:
    print(error)
"""
)

_FULL_JOURNAL = (
    _LIMITED
    + """
from calibrate.measure.journal import Journal
from costmodel.errors import MeasurementError
written = 0
try:
    with Journal(Path(sys.argv[1]), {"name": "a device"}) as journal:
        while True:
            journal.append({"number": len(journal), "filling": "x" * 300})
            written += 1
except MeasurementError as error:
    print(written, error)
"""
)

_HOLDER = """
import sys
from pathlib import Path
from calibrate.measure.journal import Journal
with Journal(Path(sys.argv[1]), {"name": "a device"}) as journal:
    journal.append({"number": 0})
    print("ready", flush=True)
    sys.stdin.readline()
"""


def _start(code: str, *arguments: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _output(code: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True
    )
    return done.stdout


@posix
def test_a_kill_while_a_file_is_rewritten_leaves_the_old_or_the_new_one(tmp_path: Path) -> None:
    path, rng = tmp_path / "profile.json", random.Random(3)
    write_atomic(path, "a" * LETTERS)
    for _ in range(5):
        writer = _start(_REWRITER, path, "ab")
        time.sleep(rng.uniform(0.0, 0.05))
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        content = path.read_text()
        assert content in ("a" * LETTERS, "b" * LETTERS)


@posix
def test_two_writers_of_one_file_leave_one_of_the_two(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    writers = [_start(_REWRITER, path, letters) for letters in ("ab", "cd")]
    seen = set()
    for _ in range(50):
        content = path.read_text() if path.exists() else "a" * LETTERS
        assert len(content) == LETTERS
        assert len(set(content)) == 1
        seen.add(content[0])
    for writer in writers:
        writer.terminate()
        writer.communicate()
    assert seen <= set("abcd")


def test_a_second_writer_of_a_journal_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("filelock", reason="filelock is not installed (extra: calibrate)")
    from calibrate.measure.journal import Journal, read_journal
    from costmodel.errors import MeasurementError

    path = tmp_path / "samples.jsonl"
    first = _start(_HOLDER, path)
    with pytest.raises(MeasurementError, match="another process is writing to it"):
        Journal(path, {"name": "a device"})
    first.communicate("done\n")
    with Journal(path, {"name": "a device"}) as journal:
        journal.append({"number": 1})
    assert [row["number"] for row in read_journal(path)[1]] == [0, 1]


@posix
def test_a_full_disk_keeps_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "profile.json"
    path.write_text("old")
    message = _output(_FULL_WRITE, path, 50_000)
    assert re.fullmatch(r"can't write \S+profile\.json: File too large\n", message)
    assert [entry.name for entry in tmp_path.iterdir()] == ["profile.json"]
    assert path.read_text() == "old"


@posix
def test_a_full_disk_keeps_every_sample_and_the_next_run_goes_on(tmp_path: Path) -> None:
    pytest.importorskip("filelock", reason="filelock is not installed (extra: calibrate)")
    from calibrate.measure.journal import Journal, read_journal

    path = tmp_path / "samples.jsonl"
    written, _, message = _output(_FULL_JOURNAL, path, 10_000).partition(" ")
    assert "File too large" in message
    assert "the rows before are kept" in message
    with Journal(path, {"name": "a device"}) as journal:
        assert len(journal) == int(written) > 20
        journal.append({"number": int(written)})
    assert [row["number"] for row in read_journal(path)[1]] == list(range(int(written) + 1))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_output_that_can_not_be_written_is_one_line_and_status_2() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(PREDICT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert re.search(r"^error: output: No space left on device$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr


@posix
def test_a_reader_that_has_gone_is_no_failure() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [*COMMAND, "models", "list", "--format", "json"], stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@posix
def test_nothing_needs_a_home_or_a_folder_to_write_to() -> None:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPO), "HOME": "/nonexistent"}
    done = subprocess.run(PREDICT, cwd="/proc", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"total_s"' in done.stdout


def test_a_folder_in_the_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "out.json").mkdir()
    with pytest.raises(InputError, match=r"can't write .*out\.json: Is a directory|can't write .*out\.json: .*"):
        write_atomic(tmp_path / "out.json", "x")
    with pytest.raises(InputError, match=r"out\.json: can't be read"):
        read_document(tmp_path / "out.json", Prediction)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_the_table_of_faults_names_tests_that_exist() -> None:
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (REPO / "docs" / "faults.md").read_text(encoding="utf-8"))
    assert len(named) >= 15
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not re.search(rf"def {name}\(", (REPO / "tests" / file).read_text(encoding="utf-8"))
    ]
    assert not missing
