"""One small valid file for every reader of the toolkit, to be spoilt by the fuzzing tests."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import made_profiles as made
import policy_samples
from conftest import REPO, TINY_CONFIGS
from test_policy_importers import QUESTION, SAMPLE, options
from test_results import SERVED, aiperf, guidellm, guidellm_request, vllm

from calibrate.measure.journal import read_journal
from calibrate.results import read_results
from calibrate.tables.operators import read_tables
from costmodel.cases import read_cases
from costmodel.documents import read_document
from costmodel.families.sources import load_model
from costmodel.policy.catalog import plan_named
from costmodel.policy.importers import READERS, import_logs
from costmodel.policy.importers.common import read_image_sizes
from costmodel.policy.plan import Plan
from costmodel.policy.traces import read_traces
from costmodel.profiles import load_engine, load_hardware

PROFILES = REPO / "hardware_profiles"


@dataclass(frozen=True)
class Sample:
    """A valid file, and what reads it."""

    name: str
    content: bytes
    read: Callable[[Path], object]


def _json(content: object) -> bytes:
    return json.dumps(content).encode()


def _lines(*rows: object) -> bytes:
    return b"".join(_json(row) + b"\n" for row in rows)


def _log(kind: str) -> Callable[[Path], object]:
    return lambda path: import_logs(READERS[kind], [path], options())


_ROW = {"op": "gemm", "dtype": "bf16", "m": 8, "n": 256, "k": 256, "latency_s": 1e-5}
_MEASURED = "\n".join(
    ["op,dtype,m,n,k,latency_s,contended", *(f"gemm,bf16,{8 << i},256,256,{1e-5 * (i + 1)},0" for i in range(4))]
)
_CASE = (
    "case_id,model,hardware,engine,dtype,images,prompt_tokens,output_tokens,batch,ttft_s,total_s\n"
    f"a,{made.SMALL},h100-sxm,vllm-0.7.2,bf16,640x480;32x32,100,20,1,0.1,0.5\n"
)
_HEADER = {"kind": "header", "schema_version": 1, "environment": {"device": "x"}}

SAMPLES = (
    Sample("hardware.json", (PROFILES / "gpus" / "t4.json").read_bytes(), lambda path: load_hardware(str(path))),
    Sample("engine.json", (PROFILES / "engines" / "vllm-0.7.2.json").read_bytes(), lambda path: load_engine(str(path))),
    Sample("config.json", _json(TINY_CONFIGS["qwen2_5_vl"]), load_model),
    Sample("spec.json", made.preset(made.SMALL).model_dump_json().encode(), load_model),
    Sample(
        "plan.json", plan_named("always-transfer").model_dump_json().encode(), lambda path: read_document(path, Plan)
    ),
    Sample("cases.csv", _CASE.encode(), read_cases),
    Sample("sizes.csv", b"item_id,images\na,64x48;32x32\nb,\n", read_image_sizes),
    Sample("rows.csv", _MEASURED.encode(), lambda path: read_tables([path])),
    Sample("rows.jsonl", _lines(_HEADER, _ROW, {**_ROW, "m": 16}), lambda path: read_tables([path])),
    Sample("journal.jsonl", _lines(_HEADER, _ROW, _ROW), read_journal),
    Sample(
        "traces.jsonl",
        b"".join(trace.model_dump_json().encode() + b"\n" for trace in policy_samples.traces(items=2)),
        read_traces,
    ),
    Sample("vllm.json", _json(vllm()), lambda path: read_results(path, SERVED)),
    Sample("guidellm.json", _json(guidellm(guidellm_request(1.0))), lambda path: read_results(path, SERVED)),
    Sample("aiperf.jsonl", _lines(aiperf(0), aiperf(10**9)), lambda path: read_results(path, SERVED)),
    Sample("log_samples_mmmu.jsonl", _lines(SAMPLE, {**SAMPLE, "doc_id": 8}), _log("lmms-eval")),
    Sample("log.json", _json([QUESTION, {**QUESTION, "index": 13}]), _log("vlmevalkit")),
    Sample("log.tsv", b"index\tquestion\tA\tB\tanswer\tprediction\n1\tq\tx\ty\tB\tB\n", _log("vlmevalkit")),
)


def parsed(content: bytes) -> Any:
    """The JSON object of a sample, or its first line; nothing where it is a table."""
    for text in (content, content.split(b"\n")[-2] if b"\n" in content else b""):
        try:
            return json.loads(text)
        except ValueError:
            continue
    return None
