"""Completion in real shells: keys of models, devices and engines, and quickly enough to be used."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO

SHELLS = {
    "bash": """
eval "$(_COSTMODEL_COMPLETE=source_bash costmodel)"
COMP_WORDS=({words}); COMP_CWORD=$(( ${{#COMP_WORDS[@]}} - 1 ))
_costmodel_completion costmodel
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    # `_arguments` is what zsh's completion system would be given to choose from.
    "zsh": """
compdef() {{ : }}
_arguments() {{ print -r -- "$@" }}
eval "$(_COSTMODEL_COMPLETE=source_zsh costmodel)"
words=({words}); CURRENT=${{#words}}
_costmodel_completion
""",
}


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A folder with a `costmodel` that is this checkout's."""
    script = tmp_path / "costmodel"
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from costmodel.cli import main; main()" "$@"\n')
    script.chmod(0o755)
    return f"{tmp_path}{os.pathsep}{os.environ['PATH']}"


def complete(shell: str, words: str, path: str) -> str:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    flag = {"bash": "--norc", "zsh": "-f"}[shell]
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPO)}
    done = subprocess.run(
        [shell, flag, "-c", SHELLS[shell].format(words=words)],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize(
    ("words", "offered", "not_offered"),
    [
        ("costmodel pre", "predict", "breakeven"),
        ("costmodel predict --model Qwen/Qwen3-VL-2", "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"),
        ("costmodel predict --hardware h100", "h100-sxm", "a100-sxm-80gb"),
        ("costmodel breakeven --engine vl", "vllm-0.7.2", "hf-eager"),
        ("costmodel hardware show l4", "l40s", "h100-sxm"),
        ("costmodel policy --small Qwen/Qwen3-VL-8", "Qwen/Qwen3-VL-8B-Instruct", "Qwen/Qwen3-VL-2B-Instruct"),
        ("costmodel calibrate run --datasheet b2", "b200-sxm", "h100-sxm"),
    ],
)
def test_keys_are_offered(shell: str, words: str, offered: str, not_offered: str, path: str) -> None:
    given = complete(shell, words, path)
    assert offered in given
    assert not_offered not in given


_LOADED = """
import atexit, sys
atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))
from costmodel.cli import main
main()
"""


@pytest.mark.parametrize("words", ["costmodel predict --model Qwen", "costmodel calibrate run --model Qwen"])
def test_a_completion_loads_nothing_slow(words: str) -> None:
    """Counted in modules, not in seconds, which depend on the machine."""
    environment = {
        **os.environ,
        "_COSTMODEL_COMPLETE": "complete_bash",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-c", _LOADED], env=environment, capture_output=True, text=True, cwd=REPO, timeout=60
    )
    assert "Qwen/Qwen3-VL-8B-Instruct" in done.stdout.splitlines()
    assert not set(done.stderr.split()) & {"torch", "transformers", "scipy", "plotly", "pandas", "pyarrow", "PIL"}
