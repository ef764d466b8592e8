"""A folder with every file that the examples of the command line name, so that they can be run word for word."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

from conftest import REPO

from costmodel import ImageSize, Workload, load_engine, load_hardware, load_model, predict

SMALL, LARGE = "Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"
REQUEST = ["--hardware", "h100-sxm", "--engine", "vllm-0.7.2", "--image", "640x480", "--prompt-tokens", "50"]

_LOG = {
    "doc_id": 7,
    "target": "B",
    "input": "What is it? Answer with a letter.",
    "resps": [["<think>one two</think>B"]],
    "filtered_resps": ["B"],
    "mmmu_acc": {"score": 1.0},
}


def runs_csv(path: Path) -> None:
    """A table of runs: what an engine whose steps cost 2 ms would have measured."""
    engine = load_engine("vllm-0.7.2")
    slower = engine.model_copy(update={"step_s": engine.step_s.model_copy(update={"value": 0.002})})
    columns = ["case_id", "model", "hardware", "engine", "dtype", "images", "prompt_tokens", "output_tokens", "total_s"]
    rows = []
    for number, (side, prompt, output) in enumerate((s, p, o) for s in (448, 896) for p in (64, 512) for o in (16, 96)):
        request = Workload(images=(ImageSize(width=side, height=side),), prompt_tokens=prompt, output_tokens=output)
        total = predict(load_model(SMALL), load_hardware("h100-sxm"), slower, request).latency.total_s.value
        rows.append((number, SMALL, "h100-sxm", "vllm-0.7.2", "bf16", f"{side}x{side}", prompt, output, total))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows])


def _tokenizer(path: Path) -> None:
    """A tokenizer of words, in the format of the hub."""
    content = {
        "version": "1.0",
        "model": {"type": "WordLevel", "vocab": {"[UNK]": 0}, "unk_token": "[UNK]"},
        "pre_tokenizer": {"type": "Whitespace"},
    }
    path.write_text(json.dumps(content))


def stock(folder: Path, run: Callable[..., str]) -> None:
    """Write the files; ``run`` gives the standard output of a command that is run in the folder."""
    shutil.copy(REPO / "examples" / "synthetic_traces.jsonl", folder / "traces.jsonl")
    shutil.copy(REPO / "hardware_profiles" / "gpus" / "h100-sxm.json", folder / "profile.json")
    runs_csv(folder / "runs.csv")
    _tokenizer(folder / "tokenizer.json")
    (folder / "logs").mkdir()
    (folder / "logs" / "20250101_samples_mmmu_val.jsonl").write_text(json.dumps(_LOG) + "\n")
    for name, model in (("small", SMALL), ("large", LARGE)):
        text = run("predict", "--model", model, *REQUEST, "--output-tokens", "30", "--format", "json")
        (folder / f"{name}.json").write_text(text)
    pair = ["--small", SMALL, "--large", LARGE, "--large-output", "8"]
    (folder / "breakeven.json").write_text(run("breakeven", *pair, *REQUEST, "--format", "json"))
    (folder / "validation.json").write_text(run("validate", "--cases", "runs.csv", "--format", "json"))
