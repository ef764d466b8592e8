"""What a newcomer sees: help that fits the screen, and examples that do what they say when they are copied."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from kitchen import stock

from costmodel import cli
from costmodel.helptext import commands_of, example_of

cli._load_plugins()
COMMANDS = {" ".join(words): command for words, command in commands_of(typer.main.get_command(cli.app))}
GROUPS = ["", *sorted({name.rpartition(" ")[0] for name in COMMANDS} - {""})]

NOT_RUN = {
    "explore": "serves until it is stopped; tests/test_explore_browser.py starts it",
    "calibrate preprocess": "times image processors for a minute",
    "calibrate fleet": "needs a cluster; tests/test_ray.py starts one",
    "run": "asks two servers; tests/test_policy_run.py does",
    "sweep": "thousands of rows; tests/test_sweep_command.py runs fewer",
    "sweep merge": "joins shards; tests/test_sweep_command.py makes some",
    "calibrate run": "measures for a minute; tests/test_live.py runs it for less",
    "calibrate pair": "times the machine; tests/test_demo_pair.py runs it",
    "calibrate evaluate": "scores 80,000 rows; examples/calibrate.ipynb does, and is run",
    "calibrate rebuild": "refits ten devices, minutes",
    "validate": "runs two models for real; tests/test_live.py does",
}

# What must be run before, so that a file is there that the example reads.
AFTER = {"calibrate fit": "calibrate import"}

Run = Callable[..., str]


def help_of(command: str, run: Run) -> str:
    return run(*command.split(), "--help")


def shown_example(text: str) -> list[str]:
    """The words of the example as a shell reads them when the lines are copied."""
    lines = text.partition("Example:\n")[2].strip("\n").split("\n")
    copied = []
    for line in lines:
        copied.append(line)
        if not line.endswith("\\"):
            break
    # A shell takes a backslash at the end of a line away together with the end.
    return shlex.split("\n".join(copied).replace("\\\n", ""))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command that must succeed in this process; its standard output."""

    def call(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["costmodel", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        assert not caught.value.code, err
        return out

    return call


@pytest.mark.parametrize("command", [*GROUPS, *sorted(COMMANDS)])
def test_help_fits_eighty_columns(command: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = help_of(command, run).splitlines()
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if re.search("\x1b|[│╭╰─┃]", line)]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_examples_survive_copying(command: str, run: Run) -> None:
    text, line = example_of(COMMANDS[command].help)
    assert text
    assert line.startswith(f"costmodel {command}")
    assert shown_example(help_of(command, run)) == shlex.split(line)


def test_every_command_says_what_it_is_in_the_list(run: Run) -> None:
    for group in GROUPS:
        listed = run(*group.split(), "--help").partition("Commands:\n")[2]
        names = [line.split() for line in listed.splitlines() if line.startswith("  ") and line[2] != " "]
        assert names
        assert all(len(words) > 3 for words in names)


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kitchen")


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - NOT_RUN.keys()))
def test_examples_run(command: str, run: Run, kitchen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if command.startswith("calibrate"):
        pytest.importorskip("scipy", reason="scipy is not installed (extra: calibrate)")
    monkeypatch.chdir(kitchen)
    if not (kitchen / "traces.jsonl").exists():
        stock(kitchen, run)
    before = AFTER.get(command)
    if before and not (kitchen / "rows.parquet").exists():
        pytest.importorskip("aiconfigurator_core", reason="the tables are not installed (extra: tables)")
        run(*example_of(COMMANDS[before].help)[1].split()[1:])
    _, *words = shown_example(help_of(command, run))
    out = run(*words)
    written = [Path(words[index + 1]) for index, word in enumerate(words) if word in ("--out", "--plot")]
    assert out or written
    assert all(path.stat().st_size > 0 for path in written)


def test_commands_that_are_not_run_exist() -> None:
    assert set(NOT_RUN) <= set(COMMANDS)
