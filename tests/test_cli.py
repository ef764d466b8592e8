"""The command line: data on standard output, one line on standard error for bad input, and nothing slow."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import TINY_CONFIGS
from made_profiles import LARGE, SMALL, calibrated

from costmodel import cli
from costmodel.predict import Prediction

Run = Callable[..., tuple[int, str, str]]

PREDICT = {
    "--model": SMALL,
    "--hardware": "h100-sxm",
    "--engine": "vllm-0.7.2",
    "--image": "640x480",
    "--prompt-tokens": "20",
    "--output-tokens": "30",
}
COMMANDS = ("predict", "load", "breakeven", "models", "hardware", "engines", "report")
_AS_A_PROCESS = "from costmodel.cli import main; main()"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in this process: exit status, standard output, standard error."""

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["costmodel", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def _words(**changes: str | None) -> list[str]:
    options = {**PREDICT, **{f"--{name.replace('_', '-')}": value for name, value in changes.items()}}
    return ["predict", *(word for name, value in options.items() if value is not None for word in (name, value))]


def _process(*words: str, code: str = _AS_A_PROCESS) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60)


def _is_one_line(status: int, out: str, err: str) -> str:
    assert status == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert len(err) < 500
    return err


QUANTITIES = {"preprocess_s", "encode_s", "prefill_s", "decode_s", "ttft_s", "tpot_s", "total_s"}
MEMORY = {"weights_bytes", "kv_cache_bytes", "activations_bytes", "total_bytes", "capacity_bytes", "fits"}


def test_predict_prints_the_documented_json(run: Run) -> None:
    status, out, err = run(*_words(), "--format", "json")
    result = json.loads(out)
    assert status == 0
    assert set(result) >= {"schema_version", "model", "hardware", "engine", "dtype", "visual_tokens"}
    assert set(result) >= {"prompt_tokens_total", "latency", "memory", "bound", "sources", "warnings"}
    assert (result["schema_version"], result["model"]) == (1, SMALL)
    assert result["visual_tokens"] == [300]
    assert set(result["latency"]) == QUANTITIES
    for quantity in result["latency"].values():
        assert set(quantity) == {"value", "low", "high"}
        assert quantity["low"] <= quantity["value"] <= quantity["high"]
    assert set(result["memory"]) == MEMORY
    assert set(result["bound"]) == {"encode", "prefill", "decode"}
    assert set(result["bound"].values()) <= {"compute", "memory", "host"}
    assert err == "".join(f"warning: {warning}\n" for warning in result["warnings"])
    assert Prediction.model_validate_json(out).model == SMALL


def test_formats_say_the_same(run: Run) -> None:
    _, table, _ = run(*_words())
    _, text, _ = run(*_words(), "--format", "csv")
    _, markdown, _ = run(*_words(), "--format", "markdown")
    columns, *rows = list(csv.reader(io.StringIO(text)))
    assert [row[0] for row in rows] == ["preprocess", "encode", "prefill", "decode", "ttft", "tpot", "total"]
    lines = [line for line in markdown.splitlines() if line]
    assert all(line.startswith("| ") and line.endswith(" |") for line in lines)
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells == [columns, ["---"] * len(columns), *rows]
    for row in rows:
        assert any(all(cell in line for cell in row) for line in table.splitlines())
    assert "prompt tokens" in table
    assert SMALL in table.splitlines()[0]


@pytest.mark.parametrize("output", ["table", "json", "csv", "markdown"])
@pytest.mark.parametrize("command", ["models", "hardware", "engines"])
def test_catalogues_in_every_format(run: Run, command: str, output: str) -> None:
    status, out, err = run(command, "--format", output)
    assert (status, err) == (0, "")
    known = {"models": LARGE, "hardware": "h100-sxm", "engines": "vllm-0.7.2"}[command]
    assert known in out
    if output == "json":
        assert known in {entry.get("key", entry["name"]) for entry in json.loads(out)}


def test_show_prints_a_document_that_can_be_read_again(run: Run, tmp_path: Path) -> None:
    _, out, _ = run("hardware", "show", "h100-sxm", "--format", "json")
    (tmp_path / "mine.json").write_text(out)
    assert run("hardware", "show", str(tmp_path / "mine.json"), "--format", "json") == (0, out, "")
    status, _, _ = run(*_words(hardware=str(tmp_path / "mine.json")))
    assert status == 0


def test_breakeven_prints_the_documented_json(run: Run, tmp_path: Path) -> None:
    plot = tmp_path / "out.html"
    words = ["breakeven", "--small", SMALL, "--large", LARGE, "--large-output", "8", "--hardware", "h100-sxm"]
    words += ["--engine", "hf-eager", "--prompt-tokens", "40", "--small-output", "30", "--image", "640x480"]
    status, out, err = run(*words, "--format", "json", "--plot", str(plot))
    result = json.loads(out)
    assert status == 0
    assert {"break_even_output_tokens", "small_at_break_even_s", "large_s", "probability_large_faster"} <= set(result)
    assert set(result["break_even_output_tokens"]) == {"value", "low", "high"}
    assert 0 <= result["probability_large_faster"] <= 1
    assert result["curve"]
    assert f"figures: {plot}" in err
    assert plot.read_text().lstrip().startswith("<!")
    status, out, _ = run(*words, "--format", "csv")
    assert next(iter(csv.reader(io.StringIO(out))))[0] == "large tokens"


BAD_OPTIONS: list[tuple[dict[str, str | None], str]] = [
    ({"model": "Qwen/Qwen3-VL-9B"}, r"unknown model 'Qwen/Qwen3-VL-9B'; nearest: .*Qwen/Qwen3"),
    ({"hardware": "h100"}, r"unknown hardware 'h100'; nearest: h100-"),
    ({"engine": "vlm"}, r"unknown engine 'vlm'; nearest: vllm, vllm-0\.7\.2"),
    ({"dtype": "bfloat"}, r"unknown .*'bfloat'; nearest: bf16"),
    ({"kv_dtype": "x"}, r"unknown .*'x'"),
    ({"hardware": "a100-sxm-80gb", "dtype": "fp8"}, r"no peak for dtype 'fp8'"),
    ({"image": "0x10"}, r"image 0x10: width is 0, expected 1 to"),
    ({"image": "10x0"}, r"image 10x0: height is 0"),
    ({"image": "1000000x10"}, r"image 1000000x10: width is 1000000"),
    ({"image": "-5x10"}, r"width is -5"),
    ({"image": "big"}, r"image 'big': expected WIDTHxHEIGHT"),
    ({"image": "60000x3"}, r"aspect ratio is 20000"),
    ({"prompt_tokens": "-1"}, r"prompt_tokens is -1, expected 0 or more"),
    ({"prompt_tokens": "ten"}, r"Invalid value for '--prompt-tokens'"),
    ({"output_tokens": "0"}, r"output_tokens is 0, expected 1 or more"),
    ({"output_tokens": "-3"}, r"output_tokens is -3"),
    ({"batch": "0"}, r"batch is 0"),
    ({"cached_prefix": "-1"}, r"cached_prefix_tokens is -1"),
    ({"cached_prefix": "99999"}, r"cached_prefix_tokens is 99999, expected fewer than the prompt's"),
    ({"interval": "0"}, r"interval is 0\.0"),
    ({"interval": "1"}, r"interval is 1\.0"),
    ({"interval": "nan"}, r"interval is nan"),
    ({"model": None}, r"[Mm]issing option '--model'"),
    ({"format": "yaml"}, r"'yaml' is not one of"),
    ({"color": "red"}, r"[Nn]o such option.*--color"),
]


@pytest.mark.parametrize(("changes", "words"), BAD_OPTIONS)
def test_bad_options_are_one_line(run: Run, changes: dict[str, str | None], words: str) -> None:
    assert re.search(words, _is_one_line(*run(*_words(**changes))))


def _bad_config(config: dict[str, Any]) -> str:
    return json.dumps({**config, "architectures": ["X"]})


_NO_DEPTH = {**TINY_CONFIGS["qwen3_vl"], "vision_config": {"hidden_size": 48}}
BAD_FILES: list[tuple[str, str, str]] = [
    ("model", json.dumps({"model_type": "resnet", "architectures": ["ResNet"]}), r"model_type: got 'resnet', expected"),
    ("model", json.dumps(_NO_DEPTH), r"config field vision_config\.\w+: got nothing, expected"),
    ("model", json.dumps({**TINY_CONFIGS["qwen3_vl"], "text_config": 3}), r"config field text_config"),
    ("model", "{", r"not .*JSON"),
    ("model", "[" * 100_000, r"not .*JSON"),
    ("hardware", "{'a'}", r"p\.json: not a JSON file"),
    ("hardware", "[" * 100_000, r"p\.json: not a JSON file"),
    ("hardware", '{"schema_version": 99}', r"schema_version is 99, this version reads up to 1; upgrade"),
    ("hardware", '{"schema_version": 1, "key": 3}', r"p\.json: field"),
    ("hardware", calibrated().model_dump_json().replace('"kind":"cuda"', '"kind":"abacus"'), r"datasheet\.kind"),
    ("engine", '{"schema_version": 1}', r"p\.json: field"),
]


@pytest.mark.parametrize(("option", "content", "words"), BAD_FILES)
def test_bad_files_are_one_line(run: Run, tmp_path: Path, option: str, content: str, words: str) -> None:
    path = tmp_path / ("config.json" if option == "model" else "p.json")
    path.write_text(content)
    assert re.search(words, _is_one_line(*run(*_words(**{option: str(path)}))))


@pytest.mark.parametrize(
    "words",
    [
        ["models", "show", "Qwen/none"],
        ["models", "show"],
        ["models", "show", "x" * 300],
        ["hardware", "delete", "h100-sxm"],
        ["hardware", "show", "nul\0byte"],
        ["engines", "show", "vllm-0", "--format", "json"],
        ["report", "--out", "/dev/null/report.html"],
        ["report", "--out", "r.html", "--prediction", "absent.json"],
        ["breakeven", "--small", SMALL],
        ["nonsense"],
        ["calibrate", "nonsense"],
    ],
)
def test_bad_words_are_one_line(run: Run, words: list[str]) -> None:
    _is_one_line(*run(*words))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--threads", "0"], "threads is 0"),
        (["--budget-s", "nan"], "budget is nan"),
        (["--budget-s", "-3"], "budget is -3.0"),
        (["--dtype", "fp8"], "dtype 'fp8': expected one of fp32"),
        (["--device", "tpu"], "device 'tpu': expected auto, cpu, cuda or cuda:N"),
        (["--engine", "vlm"], "nearest: vllm, vllm-0.7.2"),
        (["--model", "Qwen/none"], "unknown model 'Qwen/none'"),
        (["--measurements", "/dev/null/j.jsonl"], "can't be written"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused_at_once(
    run: Run, tmp_path: Path, changes: list[str], words: str
) -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
    pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")
    out = tmp_path / "profile.json"
    assert words in _is_one_line(*run("calibrate", "run", "--device", "cpu", "--out", str(out), *changes))
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_leaves_nothing_behind(run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("kept")
    words = ["breakeven", "--small", SMALL, "--large", LARGE, "--large-output", "8", "--hardware", "h100-sxm"]
    words += ["--engine", "hf-eager", "--prompt-tokens", "40", "--plot", str(tmp_path / "taken" / "out.html")]
    _is_one_line(*run(*words))
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
    assert (tmp_path / "taken").read_text() == "kept"


def test_bad_input_to_the_real_process() -> None:
    result = _process(*_words(hardware="h100"))
    assert "nearest: h100-" in _is_one_line(result.returncode, result.stdout, result.stderr)
    result = _process(*_words(), "--format", "json")
    assert result.returncode == 0
    assert json.loads(result.stdout)["model"] == SMALL


def _leaves(group: Any, name: str = "") -> list[str]:
    """Names of every command, sub-commands included."""
    found = []
    for word, command in group.commands.items():
        path = f"{name} {word}".strip()
        found += _leaves(command, path) if hasattr(command, "commands") else [path]
    return found


def test_help_has_an_example(run: Run) -> None:
    cli._load_plugins()
    commands = _leaves(typer.main.get_command(cli.app))
    assert {*COMMANDS, "validate", "calibrate run", "calibrate pair"} <= set(commands)
    for command in commands:
        status, out, _ = run(*command.split(), "--help")
        assert status == 0
        assert f"Example: costmodel {command}" in " ".join(out.split())


def test_without_words_it_says_how_to_use_it(run: Run) -> None:
    _, out, err = run()
    assert all(command in out for command in (*COMMANDS, "validate", "calibrate"))
    assert err == ""
    status, out, err = run("calibrate")
    assert (status, out) == (2, "")
    assert err.startswith("Usage: ")


def test_every_built_in_command_is_listed_as_one() -> None:
    names = {command.name or command.callback.__name__ for command in cli.app.registered_commands if command.callback}
    assert set(COMMANDS) <= names
    assert set(cli._BUILT_IN) >= set(COMMANDS)


_LOADED = """
import atexit, sys
atexit.register(lambda: print(*sorted(sys.modules), file=sys.stderr))
from costmodel.cli import main
main()
"""


@pytest.mark.parametrize(
    "words",
    [_words(), [*_words(), "--format", "json"], ["hardware", "--format", "csv"]],
    ids=["predict", "json", "hardware"],
)
def test_predict_loads_nothing_slow(words: list[str]) -> None:
    result = _process(*words, code=_LOADED)
    loaded = set(result.stderr.split())
    assert result.returncode == 0
    assert "costmodel.profiles" in loaded
    heavy = {"torch", "transformers", "scipy", "pandas", "plotly", "pynvml", "calibrate", "PIL", "requests"}
    assert not loaded & heavy
    assert not [name for name in loaded if name.startswith("scipy.")]


@pytest.mark.skipif(os.name != "posix", reason="pipes are closed otherwise elsewhere")
def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        result = subprocess.run(
            [sys.executable, "-c", _AS_A_PROCESS, "hardware", "--format", "json"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert "Traceback" not in result.stderr
    assert "BrokenPipe" not in result.stderr
    assert result.returncode == 0


def test_interrupting_is_no_traceback(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("costmodel.load_model", interrupted)
    status, out, err = run(*_words())
    assert (status, out) == (130, "")
    assert "interrupted" in err
    assert err.strip().count("\n") == 0
