"""Ours against packages that install from PyPI, in the same run: ``python benchmarks/peers.py PEER_PYTHON``.

``PEER_PYTHON`` is the interpreter of an environment of its own, made with
``python -m venv peers && peers/bin/pip install -r benchmarks/peers.txt``. Packages that are not there are left out, by
name.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
NAMES = ("aiconfigurator", "aiconfigurator, internal object", "llm-analysis", "genz-llm", "ridgepoint", "servcalc")
# An 8B decoder as those that read a config want it.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def ours(interval: float | None) -> dict[str, Any]:
    """One call of ours, timed like theirs."""
    started = time.perf_counter()
    from costmodel import ImageSize, Workload, load_engine, load_hardware, load_model, predict

    model = load_model("Qwen/Qwen3-VL-8B-Instruct")
    hardware, engine = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")

    image = ImageSize(width=1024, height=768)

    def run(more: int) -> None:
        workload = Workload(images=(image,), prompt_tokens=100 + more, output_tokens=200)
        predict(model, hardware, engine, workload, interval=interval)

    run(0)
    first_s = time.perf_counter() - started
    times = []
    for more in range(1, 201):
        start = time.perf_counter()
        run(more)
        times.append(time.perf_counter() - start)
    text = "predict" if interval is not None else "predict(interval=None)"
    return {"call": text, "first_s": first_s, "warm_s": statistics.median(times)}


def theirs(python: str, name: str, folder: str) -> dict[str, Any] | None:
    """One call of another package; nothing where it does not run."""
    command = [python, str(HERE / "peer_calls.py"), name, folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        print(f"{name}: did not run ({lines[-1][:100] if lines else 'no reason given'})", file=sys.stderr)
        return None
    return dict(json.loads(done.stdout))


def main() -> None:
    """Print a table."""
    python = sys.argv[1]
    print(f"load while measured: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores", file=sys.stderr)
    rows = [("costmodel", ours(0.9)), ("costmodel, values alone", ours(None))]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CONFIG))
        rows += [(name, found) for name in NAMES if (found := theirs(python, name, folder))]
    print("| package | call | first call, s | warm call, ms |\n| --- | --- | ---: | ---: |")
    for name, row in rows:
        print(f"| {name} | `{row['call']}` | {row['first_s']:.2f} | {row['warm_s'] * 1000:.3f} |")


if __name__ == "__main__":
    main()
