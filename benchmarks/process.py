"""Whole processes: time of the command, peak memory of predictions and of sweeps; ``python benchmarks/process.py``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_RUNS = 9
_COMMAND = [
    sys.executable, "-m", "costmodel.cli", "predict", "--model", "Qwen/Qwen3-VL-8B-Instruct", "--hardware", "h100-sxm",
    "--engine", "vllm-0.7.2", "--image", "1024x768", "--prompt-tokens", "100", "--output-tokens", "200",
    "--format", "json",
]  # fmt: skip
_SWEEP = """
import json, resource, sys
from pathlib import Path
from costmodel.sweeping.plan import Job, SweepPlan
from costmodel.sweeping.run import run_sweep
outputs = int(sys.argv[1])
plan = SweepPlan(
    model=("Qwen/Qwen3-VL-8B-Instruct",), hardware=("h100-sxm",), engine=("vllm-0.7.2",),
    prompt_tokens=tuple(range(100, 10_100, 100)), output_tokens=tuple(range(1, outputs + 1)),
    batch=(1, 2, 4, 8, 16, 32, 64, 96, 128, 256),
)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if outputs:
    run_sweep(Job.load(plan), Path(sys.argv[2]), progress=lambda share, what: None)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
json.dump({"before": before, "after": after}, sys.stdout)
"""
_PREDICT = """
import json, sys, tracemalloc
from costmodel import Workload, load_engine, load_hardware, load_model, predict
from costmodel.specs.images import ImageSize
model, hardware, engine = load_model("Qwen/Qwen3-VL-8B-Instruct"), load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
request = Workload(images=(ImageSize(width=1024, height=768),), prompt_tokens=100, output_tokens=200)
found = {}
for interval in (None, 0.9):
    predict(model, hardware, engine, request, interval=interval)
    tracemalloc.start()
    predict(model, hardware, engine, request, interval=interval)
    found[str(interval)] = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
json.dump(found, sys.stdout)
"""


def _run(script: str, *arguments: str) -> dict[str, int]:
    command = [sys.executable, "-c", script, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent.parent)
    return dict(json.loads(done.stdout))


def command_s() -> tuple[float, float]:
    """Least wall-clock and processor seconds of ``costmodel predict`` over some runs."""
    walls, cpus = [], []
    for _ in range(_RUNS):
        before, started = os.times(), time.perf_counter()
        subprocess.run(_COMMAND, check=True, capture_output=True, cwd=Path(__file__).parent.parent)
        walls.append(time.perf_counter() - started)
        after = os.times()
        cpus.append(after.children_user + after.children_system - before.children_user - before.children_system)
    return min(walls), min(cpus)


def main() -> None:
    """Print what the command takes, what a prediction allocates, and what a sweep to a file holds."""
    wall_s, cpu_s = command_s()
    predicted = _run(_PREDICT)
    print("| what | |\n| --- | ---: |")
    print(f"| costmodel predict, a process, wall clock | {wall_s:.2f} s |")
    print(f"| the same, processor time | {cpu_s:.2f} s |")
    print(f"| predict, values (allocated on top) | {predicted['None'] / 1024:.0f} KiB |")
    print(f"| predict, intervals (allocated on top) | {predicted['0.9'] / 1024:.0f} KiB |")
    for outputs in (10, 100, 1000, 5000):
        with tempfile.TemporaryDirectory() as folder:
            used = _run(_SWEEP, str(outputs), f"{folder}/parts")
        print(f"| sweep of {outputs * 1000:,} configurations to Parquet (resident) | {used['after'] / 1024:.0f} MiB |")


if __name__ == "__main__":
    main()
