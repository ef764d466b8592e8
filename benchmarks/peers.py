"""Ours against packages that install from PyPI, in the same run: ``python benchmarks/peers.py PEER_PYTHON``.

``PEER_PYTHON`` is the interpreter of an environment of its own, made with
``python -m venv peers && peers/bin/pip install -r benchmarks/peers.txt``. Packages that are not there are left out, by
name.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
OURS = ("costmodel", "costmodel, values alone")
THEIRS = ("aiconfigurator", "aiconfigurator, internal object", "llm-analysis", "genz-llm", "ridgepoint", "servcalc")
# An 8B decoder as those that read a config want it.
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
    "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
    "vocab_size": 128256, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip


def timed(python: str, name: str, folder: str) -> dict[str, Any] | None:
    """One call of a package, in a process of its own; nothing where it does not run."""
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
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(CONFIG))
        found = {name: timed(sys.executable, name, folder) for name in OURS}
        found |= {name: timed(python, name, folder) for name in THEIRS}
    print("| package | call | first call, s | the same, processor | warm call, processor ms |")
    print("| --- | --- | ---: | ---: | ---: |")
    for name, row in found.items():
        if row is not None:
            warm_ms = row["warm_cpu_s"] * 1000
            print(f"| {name} | `{row['call']}` | {row['first_s']:.2f} | {row['first_cpu_s']:.2f} | {warm_ms:.3f} |")


if __name__ == "__main__":
    main()
