"""Result files of load generators: written here by hand after the documentation that each test names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import made_profiles as made
import pytest
from typer.testing import CliRunner

from calibrate.commands.app import app as calibrate_app
from calibrate.results import ServedAs, read_results
from costmodel.errors import MeasurementError
from costmodel.specs.images import ImageSize

SERVED = ServedAs(made.SMALL, "h100-sxm", "vllm-0.7.2", "bf16")
IMAGE = ImageSize(width=640, height=480)


def write(path: Path, content: object, *, lines: bool = False) -> Path:
    text = "\n".join(map(json.dumps, content)) + "\n" if lines and isinstance(content, list) else json.dumps(content)
    path.write_text(text)
    return path


def vllm(**fields: Any) -> dict[str, Any]:
    """After the result dictionary of ``vllm/benchmarks/serve.py``; times in seconds."""
    return {
        "date": "20260101-000000", "backend": "openai-chat", "model_id": "m", "num_prompts": 4, "request_rate": "inf",
        "max_concurrency": 1, "completed": 3, "total_input_tokens": 400, "mean_ttft_ms": 55.0,
        "input_lens": [100, 100, 200, 100], "output_lens": [3, 3, 2, 3], "ttfts": [0.05, 0.07, 0.09, 0.0],
        "itls": [[0.01, 0.02], [0.02, 0.02], [0.03], []], "errors": ["", "", "", "Timeout"], **fields,
    }  # fmt: skip


def guidellm(*requests: dict[str, Any], failed: int = 0) -> dict[str, Any]:
    """After ``GenerativeRequestStats`` of GuideLLM: latency in seconds, first token in milliseconds."""
    return {
        "metadata": {"version": 1},
        "benchmarks": [
            {"config": {"strategy": {"type_": "synchronous"}},
             "requests": {"successful": list(requests), "errored": [{}] * failed, "incomplete": []}},
        ],
    }  # fmt: skip


def guidellm_request(start_s: float, *, prompt: int = 400, output: int = 11) -> dict[str, Any]:
    return {
        "request_id": "r", "prompt_tokens": prompt, "output_tokens": output, "request_start_time": start_s,
        "request_latency": 0.5, "time_to_first_token_ms": 100.0, "time_per_output_token_ms": 45.45,
        "inter_token_latency_ms": 40.0,
    }  # fmt: skip


def aiperf(start_ns: int, *, error: object = None, unit: str = "ms", phase: str = "profiling") -> dict[str, Any]:
    """After the guide to profile exports of AIPerf: one record a line, metrics with units."""
    return {
        "metadata": {"session_num": 1, "request_start_ns": start_ns, "benchmark_phase": phase, "was_cancelled": False},
        "metrics": {
            "input_sequence_length": {"value": 550, "unit": "tokens"},
            "time_to_first_token": {"value": 255.0, "unit": unit},
            "request_latency": {"value": 295.0, "unit": unit},
            "output_sequence_length": {"value": 9, "unit": "tokens"},
        },
        "error": error,
    }


def test_vllm_bench_serve(tmp_path: Path) -> None:
    found = read_results(write(tmp_path / "bench.json", vllm()), SERVED)
    assert found.left_out == {"request failed or is incomplete": 1}
    one, two = found.cases
    assert (one.case_id, one.workload.prompt_tokens, one.workload.output_tokens) == ("bench-100-3", 100, 3)
    assert one.measured_s == pytest.approx({"ttft": 0.06, "total": 0.095, "tpot": 0.0175})
    assert two.measured_s == pytest.approx({"ttft": 0.09, "total": 0.12, "tpot": 0.03})
    assert (one.model, one.hardware, one.engine, one.dtype) == (made.SMALL, "h100-sxm", "vllm-0.7.2", "bf16")


def test_vllm_requests_that_ran_side_by_side_are_left_out(tmp_path: Path) -> None:
    times = vllm(max_concurrency=None, start_times=[10.0, 10.05, 20.0, 30.0])
    found = read_results(write(tmp_path / "b.json", times), SERVED)
    assert [case.workload.prompt_tokens for case in found.cases] == [200]
    assert found.left_out["ran beside others: load is not modelled"] == 2


def test_images_of_the_requests_are_part_of_the_cases(tmp_path: Path) -> None:
    served = ServedAs(made.SMALL, "h100-sxm", "vllm-0.7.2", "bf16", images=(IMAGE,))
    (text, _) = read_results(write(tmp_path / "b.json", vllm()), served).cases
    assert (text.workload.images, text.workload.prompt_tokens) == ((IMAGE,), 100)
    visual = made.preset(made.SMALL).visual_tokens(640, 480)
    (whole,) = read_results(write(tmp_path / "g.json", guidellm(guidellm_request(1.0))), served).cases
    assert whole.workload.prompt_tokens == 400 - visual - 2, "the server counts visual tokens and those around them"


def test_guidellm(tmp_path: Path) -> None:
    content = guidellm(guidellm_request(1.0), guidellm_request(2.0), guidellm_request(3.0, prompt=9), failed=2)
    found = read_results(write(tmp_path / "benchmarks.json", content), SERVED)
    assert found.left_out == {"request failed or is incomplete": 2}
    assert [case.workload.prompt_tokens for case in found.cases] == [9, 400]
    assert found.cases[1].measured_s == pytest.approx({"ttft": 0.1, "total": 0.5, "tpot": 0.04})


def test_guidellm_under_load(tmp_path: Path) -> None:
    content = guidellm(guidellm_request(1.0), guidellm_request(1.3), guidellm_request(9.0))
    found = read_results(write(tmp_path / "g.json", content), SERVED)
    assert found.left_out == {"ran beside others: load is not modelled": 2}


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_aiperf(tmp_path: Path, unit: str) -> None:
    scale = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}[unit]
    start, step = 1759813207532900363, 2_000_000_000
    records = [aiperf(start + i * step, unit=unit) for i in range(3)]
    records += [aiperf(start + 9 * step, error={"code": 499}), aiperf(start, phase="warmup")]
    found = read_results(write(tmp_path / "profile_export.jsonl", records, lines=True), SERVED)
    assert found.left_out == {"request failed or is incomplete": 1, "record of another phase or kind": 1}
    (case,) = found.cases
    assert (case.workload.prompt_tokens, case.workload.output_tokens) == (550, 9)
    assert case.measured_s == pytest.approx({"ttft": 255 * scale, "total": 295 * scale, "tpot": 5 * scale})


REFUSED: dict[str, tuple[object, str]] = {
    "summary of vllm": ({"mean_ttft_ms": 3.0, "total_input_tokens": 9}, "--save-detailed"),
    "lists of other lengths": (vllm(ttfts=[0.1]), "entries, expected as many"),
    "no concurrency": (vllm(max_concurrency=None), "does not say when"),
    "all failed": (vllm(errors=["x"] * 4), "no request can be used .4 request failed"),
    "impossible": (vllm(itls=[[-1.0], [-1.0], [-1.0], []]), "3 figures that no answer can have"),
    "texts for numbers": (vllm(ttfts=["a", None, True, {}]), "no request can be used"),
    "guidellm without requests": ({"benchmarks": [{"metrics": {}}]}, "without single requests"),
    "guidellm of nulls": (guidellm({"prompt_tokens": None}), "1 request lacks a figure"),
    "summary of aiperf": ({"request_latency": {"avg": 1}, "input_config": {}}, "profile_export.jsonl"),
    "aiperf in fortnights": (aiperf(1, unit="fortnights"), "'fortnights', expected one of"),
    "something else": ({"hello": 1}, "not a result of"),
    "a number": (7, "expected a JSON object"),
    "nothing": ([], "expected a JSON object"),
}


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_files_that_cannot_be_used(tmp_path: Path, kind: str) -> None:
    content, words = REFUSED[kind]
    with pytest.raises(MeasurementError, match=words) as caught:
        read_results(write(tmp_path / "r.json", content), SERVED)
    assert str(caught.value).startswith("r.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "a\nb", "\xff", "[" * 100_000])
def test_files_that_are_no_json(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(MeasurementError, match=r"^r\.json: "):
        read_results(tmp_path / "r.json", SERVED)


def test_more_image_tokens_than_prompt_tokens(tmp_path: Path) -> None:
    served = ServedAs(made.SMALL, "h100-sxm", "vllm-0.7.2", "bf16", images=(IMAGE, IMAGE))
    with pytest.raises(MeasurementError, match="fewer prompt tokens than the images have"):
        read_results(write(tmp_path / "g.json", guidellm(guidellm_request(1.0))), served)


def run(arguments: list[str]) -> tuple[int, dict[str, Any]]:
    import typer

    from calibrate.commands.validate import validate

    app = typer.Typer()
    app.command()(validate)
    done = CliRunner().invoke(app, [*arguments, "--format", "json"])
    return done.exit_code, json.loads(done.stdout) if done.stdout else {}


def test_validate_reads_results(tmp_path: Path) -> None:
    path = str(write(tmp_path / "bench.json", vllm()))
    served = ["--results", path, "--model", made.SMALL, "--hardware", "h100-sxm", "--engine", "vllm-0.7.2"]
    status, result = run(served)
    assert status == 0
    assert result["n"] == 2
    assert {row["stage"] for row in result["rows"]} == {"ttft", "tpot", "total"}
    status, result = run([*served, "--max-error", "1e-9"])
    assert (status, result["verdict"]) == (1, "failed")


def test_calibrate_engine_reads_tables(tmp_path: Path, realdata: Path) -> None:
    out = tmp_path / "engine.json"
    arguments = ["engine", "--cases", str(realdata / "vlm_single_stream.csv"), "--out", str(out), "--format", "json"]
    done = CliRunner().invoke(calibrate_app, arguments)
    assert done.exit_code == 0, done.output
    fit = json.loads(done.stdout)
    assert json.loads(out.read_text())["megapixel_s"]["source"] == "fitted"
    assert fit["held_out"][0]["n"] == fit["rows"] >= 12
    plain = json.loads(CliRunner().invoke(calibrate_app, [*arguments, "--quantization", "none"]).stdout)
    assert [score["group"] for score in plain["held_out"]] == ["all", "a100-sxm-80gb none", "rtx-a6000 none"]
    wrong = CliRunner().invoke(calibrate_app, [*arguments, "--quantization", "half"])
    assert "no run is quantised as 'half'; the tables have none, " in str(wrong.exception)
