"""Tables in a terminal of 80 columns and in a pipe: whole, plain, and never wider than there is room for."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time

import pytest
from conftest import REPO
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from costmodel import cli, progress, render
from costmodel.terminal import Table, layout

MAIN = "from costmodel.cli import main; main()"
SMALL, LARGE = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
WHERE = ["--hardware", "h100-sxm", "--engine", "vllm-0.7.2"]
REQUEST = [*WHERE, "--image", "640x480", "--prompt-tokens", "50"]
TRACES = str(REPO / "examples" / "synthetic_traces.jsonl")
POLICY = ["policy", "--small", SMALL, "--large", LARGE, "--traces", TRACES, *WHERE, "--budget-s", "4"]

SHOWN = {
    "models": ["models"],
    "model": ["models", "show", LARGE, "--image", "640x480"],
    "hardware": ["hardware"],
    "engines": ["engines"],
    "predict": ["predict", "--model", LARGE, *REQUEST, "--output-tokens", "20"],
    "breakeven": ["breakeven", "--small", SMALL, "--large", LARGE, "--large-output", "8", *REQUEST],
    "policy": [*POLICY, "--price-per-hour", "2"],
    "traces": ["traces", "check", TRACES, "--small", SMALL, "--large", LARGE],
}


def in_a_terminal(words: list[str], *, columns: int = 80) -> str:
    """What a command writes to standard output where that is a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-c", MAIN, *words],
        stdout=theirs, stderr=subprocess.DEVNULL, env={**environment, "TERM": "xterm"}, cwd=REPO,
    )  # fmt: skip
    os.close(theirs)
    text = b""
    while True:
        try:
            block = os.read(ours, 65536)
        except OSError:  # How a terminal ends whose last writer has gone.
            break
        if not block:
            break
        text += block
    os.close(ours)
    assert child.wait(timeout=60) == 0
    return text.decode()


class Screen(io.StringIO):
    """What says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def tables_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """Tables that a command shows, run in this process."""
    found: list[Table] = []
    monkeypatch.setattr(render, "_terminal", found.append)
    monkeypatch.setattr(sys, "argv", ["costmodel", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert not caught.value.code
    monkeypatch.undo()
    assert found
    return found


def shown(tables: list[Table], file: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is written of them where standard output is ``file``, 80 columns wide."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", file)
    for table in tables:
        render._terminal(table)
    monkeypatch.undo()
    return file.getvalue()


def plain(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", text).replace("\r", "")


@pytest.mark.parametrize("name", SHOWN)
def test_eighty_columns_are_enough(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = tables_of(SHOWN[name], monkeypatch)
    screen, pipe = shown(tables, Screen(), monkeypatch), shown(tables, io.StringIO(), monkeypatch)
    assert max(len(line) for line in plain(screen).splitlines()) <= 80
    assert "…" not in plain(screen)
    squeezed = "".join(plain(screen).split())
    # Every row is found by its first cell, which may be broken after a hyphen.
    assert all("".join(row[0].replace("-", "").split()) in squeezed.replace("-", "") for row in rows_of(tables))
    assert "\x1b" not in pipe
    assert not [line for line in pipe.splitlines() if line != line.rstrip()]
    lines = pipe.splitlines()
    for row in rows_of(tables):
        assert any(all(cell in line for cell in row) for line in lines), "a row is one line in a pipe"


def rows_of(tables: list[Table]) -> list[tuple[str, ...]]:
    return [row for table in tables for row in table.rows]


def test_a_real_terminal_and_a_real_pipe() -> None:
    screen = in_a_terminal(["hardware"])
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "hardware"], capture_output=True, text=True, cwd=REPO, timeout=60
    )
    assert "\x1b[1m" in screen
    assert max(len(line) for line in plain(screen).splitlines()) <= 80
    assert "\x1b" not in done.stdout
    assert max(len(line) for line in done.stdout.splitlines()) > 80


def printed(table: Table, width: int | None) -> list[str]:
    file = io.StringIO()
    console = Console(file=file, width=width or 100_000, highlight=False)
    console.print(layout(table, width)[0])
    return file.getvalue().splitlines()


WORDS = st.text(alphabet="abc1.- %[]/", max_size=30).map(str.strip)


@st.composite
def tables(draw: st.DrawFn) -> Table:
    columns = draw(st.lists(st.text(alphabet="abc ", min_size=1, max_size=12), min_size=1, max_size=9))
    row = st.tuples(*(WORDS for _ in columns))
    rows = draw(st.lists(row, min_size=1, max_size=4))
    spare = draw(st.permutations(range(1, len(columns))))
    return Table("", tuple(columns), tuple(rows), spare=tuple(spare[: draw(st.integers(0, 3))]))


@settings(max_examples=40)
@given(table=tables(), width=st.integers(60, 120))
def test_nothing_is_cut_and_nothing_sticks_out(table: Table, width: int) -> None:
    lines, left_out = printed(table, width), layout(table, width)[1]
    assert all(len(line.rstrip()) <= width for line in lines)
    if not left_out:
        letters = sorted("".join("".join(row) for row in table.rows).replace(" ", ""))
        found = sorted("".join(lines).replace(" ", ""))
        # Headers add letters, and blank cells of a stacked table are dropped: what was there is there.
        assert all(found.count(letter) >= letters.count(letter) for letter in set(letters))


@settings(max_examples=40)
@given(table=tables())
def test_no_limit_no_loss(table: Table) -> None:
    lines, left_out = printed(table, None), layout(table, None)[1]
    assert left_out == ""
    assert len(lines) == len(table.rows) + 1
    for row, line in zip(table.rows, lines[1:], strict=True):
        assert all(cell in line for cell in row)


def test_spare_columns_go_first_and_are_named() -> None:
    table = Table("", ("key", "long", "kept"), (("k" * 20, "1" * 30, "2" * 30),), spare=(1,))
    assert layout(table, 90)[1] == ""
    assert layout(table, 80)[1].startswith("not shown: long;")
    assert "1" * 30 not in "".join(printed(table, 80))
    assert "2" * 30 in "".join(printed(table, 80))
    assert len(printed(table, 40)) == 3, "a block for each row where not even that fits"


def test_progress_is_silent_for_quick_work(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.progress_bar("counting") as update:
        update(0.5, "half")
    assert capsys.readouterr() == ("", "")


def test_progress_in_a_pipe_is_a_line_each_tenth(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_DELAY_S", -1.0)
    with progress.progress_bar("counting") as update:
        for share in (0.05, 0.1, 0.15, 0.3):
            update(share, "x")
    assert capsys.readouterr() == ("", "counting: 10%\ncounting: 30%\n")


_BAR = """
import sys, time
from costmodel import cli, progress, render
progress._DELAY_S = {delay}
sys.stderr = sys.stdout
with progress.progress_bar("counting") as update:
    update(0.25, "first")
    time.sleep(0.3)
print("done")
"""


@pytest.mark.parametrize(("delay", "seen"), [(0.01, True), (60.0, False)])
def test_progress_in_a_terminal_is_a_bar_that_vanishes(delay: float, seen: bool) -> None:
    ours, theirs = pty.openpty()
    started = time.monotonic()
    with subprocess.Popen([sys.executable, "-c", _BAR.format(delay=delay)], stdout=theirs, cwd=REPO) as child:
        os.close(theirs)
        text = b""
        while b"done" not in text:
            text += os.read(ours, 65536)
        assert child.wait(timeout=30) == 0
    os.close(ours)
    assert ("counting" in text.decode()) is seen
    assert time.monotonic() - started < 50, "a bar that has not been shown holds nothing up"
