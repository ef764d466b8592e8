"""Time one call of another package, in its own process: ``python peer_calls.py NAME CONFIG_FOLDER`` prints JSON.

Runs under the interpreter in which that package is installed; ours is called in the same way. The request is as near to
ours as each package can say it: an 8B dense model in 16 bits on an H100 (or the nearest that it has), 868 prompt
tokens, 200 output tokens, one request.
"""

from __future__ import annotations

import contextlib
import io
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

PROMPT, OUTPUT = 868, 200


def costmodel_intervals(folder: str) -> tuple[str, Callable[[int], Any]]:
    return "predict", _costmodel(0.9)


def costmodel_values(folder: str) -> tuple[str, Callable[[int], Any]]:
    return "predict(interval=None)", _costmodel(None)


def _costmodel(interval: float | None) -> Callable[[int], Any]:
    from costmodel import ImageSize, Workload, load_engine, load_hardware, load_model, predict

    model = load_model("Qwen/Qwen3-VL-8B-Instruct")
    hardware, engine = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
    image = ImageSize(width=1024, height=768)

    def call(more: int) -> Any:
        workload = Workload(images=(image,), prompt_tokens=PROMPT - 768 + more, output_tokens=OUTPUT)
        return predict(model, hardware, engine, workload, interval=interval)

    return call


def aiconfigurator_public(folder: str) -> tuple[str, Callable[[int], Any]]:
    from aiconfigurator.cli.api import cli_estimate

    del folder
    return "cli_estimate(mode='static')", lambda more: cli_estimate(
        "Qwen/Qwen3-8B", "h100_sxm", mode="static", backend_name="vllm", isl=PROMPT + more, osl=OUTPUT, batch_size=1
    )


def aiconfigurator_warm(folder: str) -> tuple[str, Callable[[int], Any]]:
    from aiconfigurator.sdk import config, models, perf_database
    from aiconfigurator.sdk.backends.factory import get_backend
    from aiconfigurator.sdk.inference_session import InferenceSession

    del folder
    version = perf_database.get_latest_database_version("h100_sxm", "vllm")
    database = perf_database.get_database("h100_sxm", "vllm", version)
    model = models.get_model("Qwen/Qwen3-8B", config.ModelConfig(), "vllm")
    session = InferenceSession(model, database, get_backend("vllm"))

    def call(more: int) -> Any:
        runtime = config.RuntimeConfig(batch_size=1, isl=PROMPT + more, osl=OUTPUT)
        return session.run_static_latency_only(runtime, "static")

    return "InferenceSession.run_static_latency_only", call


def llm_analysis(folder: str) -> tuple[str, Callable[[int], Any]]:
    from llm_analysis.analysis import LLMAnalysis
    from llm_analysis.config import (
        ParallelismConfig,
        get_dtype_config_by_name,
        get_gpu_config_by_name,
        get_model_config_by_name,
    )

    del folder
    parts = (
        get_model_config_by_name("decapoda-research_llama-7b-hf"),
        get_gpu_config_by_name("a100-sxm-80gb"),
        get_dtype_config_by_name("w16a16e16"),
        ParallelismConfig(),
    )
    return "LLMAnalysis(…).inference", lambda more: LLMAnalysis(*parts).inference(
        batch_size_per_gpu=1, seq_len=PROMPT + more, num_tokens_to_generate=OUTPUT
    )


def genz(folder: str) -> tuple[str, Callable[[int], Any]]:
    from GenZ import decode_moddeling, prefill_moddeling

    del folder
    common = {"model": "meta-llama/Llama-3.1-8B", "batch_size": 1, "system_name": "H100_GPU", "bits": "bf16"}

    def call(more: int) -> Any:
        prefill = prefill_moddeling(input_tokens=PROMPT + more, **common)
        return prefill, decode_moddeling(input_tokens=PROMPT + more, output_tokens=OUTPUT, Bb=1, **common)

    return "prefill_moddeling + decode_moddeling", call


def ridgepoint(folder: str) -> tuple[str, Callable[[int], Any]]:
    import ridgepoint

    del folder
    return "fit", lambda more: ridgepoint.fit(
        "llama-3-8b", "h100-80gb", ctx=PROMPT + more + OUTPUT, prompt=PROMPT + more, as_json=True
    )


def servcalc(folder: str) -> tuple[str, Callable[[int], Any]]:
    from servcalc import Workload, estimate

    def call(more: int) -> Any:
        workload = Workload(prompt_len=PROMPT + more, gen_len=OUTPUT, concurrency=(1,))
        return estimate(f"{folder}/config.json", "H100 80GB", workload=workload)

    return "estimate", call


CALLS = {
    "costmodel": costmodel_intervals,
    "costmodel, values alone": costmodel_values,
    "aiconfigurator": aiconfigurator_public,
    "aiconfigurator, internal object": aiconfigurator_warm,
    "llm-analysis": llm_analysis,
    "genz-llm": genz,
    "ridgepoint": ridgepoint,
    "servcalc": servcalc,
}


def main() -> None:
    """Print what one call takes: the first one with everything it loads, then warm ones."""
    warnings.simplefilter("ignore")
    name, folder = sys.argv[1:3]
    started, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        text, call = CALLS[name](folder)
        call(0)
        first_s, first_cpu_s = time.perf_counter() - started, time.process_time() - cpu
        times = []
        while sum(times) < 3 and len(times) < 200:
            # Another prompt each time: a cache of answers is not what is timed.
            start = time.process_time()
            call(len(times) + 1)
            times.append(time.process_time() - start)
    found = {"call": text, "first_s": first_s, "first_cpu_s": first_cpu_s, "warm_cpu_s": statistics.median(times)}
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
