"""The laws of a model behind an endpoint: fit ∘ simulate is the identity, and a real server is predicted."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import made_profiles as made
import numpy as np
import pytest

pytest.importorskip("httpx", reason="httpx is not installed (extra: serve)")

import real_servers

from calibrate.check import endpoint_load
from calibrate.check.endpoint import LiveEndpoint, calibrate_endpoint, validate_endpoint
from calibrate.check.endpoint_runs import EndpointDesign, MeasuredCase, design_requests, measured_cases
from calibrate.check.endpoint_verdict import Against, check_endpoint
from calibrate.commands.engine import law_table
from calibrate.engines.openai_endpoint import Endpoint
from calibrate.fit.endpoint import fit_endpoint, with_slice
from costmodel.errors import EndpointError, FitError
from costmodel.predict import predict
from costmodel.profiles import EngineProfile, HardwareProfile, load_engine, load_hardware
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

DESIGN = EndpointDesign()


def parts() -> tuple[ModelSpec, HardwareProfile, EngineProfile]:
    return made.text_only(), load_hardware("h100-sxm"), load_engine("llama.cpp")


def measured(case_id: str, prompt: int, output: int, *, noise: float = 0.0, seed: int = 0) -> MeasuredCase:
    """A server of its own: quadratic prefill, decode linear in the context, written down without the toolkit."""
    rng = np.random.default_rng([seed, prompt, output])
    factors = np.exp(noise * rng.standard_normal((2, 3)))
    ttft_s = 0.004 + 3e-4 * prompt + 2e-7 * prompt * (prompt + 1) / 2
    decode_s = sum(0.006 + 1e-5 * (prompt + i) for i in range(1, output))
    return MeasuredCase(
        case_id,
        Workload(prompt_tokens=prompt, output_tokens=output),
        prompt,
        tuple(ttft_s * factors[0]),
        tuple(decode_s * factors[1]),
    )


def simulated(noise: float = 0.0, seed: int = 0) -> list[MeasuredCase]:
    cases = [measured(f"fit-{p}-{o}", p, o, noise=noise, seed=seed) for p in (16, 64, 180, 420) for o in (4, 16, 40)]
    held_out = [(30, 9), (50, 30), (100, 12), (150, 25), (250, 8), (333, 33)]
    return cases + [measured(f"held-out-{p}", p, o, noise=noise, seed=seed) for p, o in held_out]


def test_the_fit_recovers_the_laws_of_the_server() -> None:
    model, hardware, engine = parts()
    profile = with_slice(hardware, fit_endpoint(simulated(), model, engine, dtype="bf16"))
    for prompt, output in ((16, 4), (77, 21), (400, 2)):
        truth = measured("x", prompt, output)
        request = Workload(prompt_tokens=prompt, output_tokens=output)
        latency = predict(model, profile, engine, request, dtype="bf16").latency
        assert latency.ttft_s.value == pytest.approx(truth.ttft_s[0], rel=1e-3)
        assert latency.decode_s.value == pytest.approx(truth.decode_s[0], rel=1e-3)
    check = check_endpoint(simulated(), Against(model, profile, engine, "bf16"))
    assert check.verdict == "passed"
    assert check.n == 6
    assert max(abs(row.error) for row in check.rows) < 1e-3


def test_few_coefficients_with_errors() -> None:
    model, _, engine = parts()
    fitted = fit_endpoint(simulated(0.05), model, engine, dtype="bf16")
    prefill = fitted.components["prefill.decoder_layer"].coefficients
    decode = fitted.components["decode.decoder_layer"].coefficients
    assert set(prefill) <= {"layers", "gemm_flops", "attention_flops"}
    assert set(decode) == {"layers", "kv_bytes"}
    assert all(c.stderr > 0 for c in (*prefill.values(), *decode.values()))


def test_coefficients_that_the_requests_can_not_tell_are_named() -> None:
    model, _, engine = parts()
    table = law_table(fit_endpoint(simulated(), model, engine, dtype="bf16"))
    assert table.footer == ("decode.decoder_layer: gemm_flops is not told apart: the same in all requests",)
    assert {(row[0], row[1]) for row in table.rows} == {
        ("prefill.decoder_layer", "layers"),
        ("prefill.decoder_layer", "gemm_flops"),
        ("prefill.decoder_layer", "attention_flops"),
        ("decode.decoder_layer", "layers"),
        ("decode.decoder_layer", "kv_bytes"),
    }
    same = [dataclasses.replace(case, case_id="fit-x") for case in simulated()[:1] * 6]
    assert "prefill.decoder_layer: gemm_flops" in str(law_table(fit_endpoint(same, model, engine, dtype="bf16")).footer)


def test_noise_is_shown_beside_the_error_and_covered() -> None:
    model, hardware, engine = parts()
    inside = []
    for seed in range(8):
        cases = simulated(0.06, seed)
        profile = with_slice(hardware, fit_endpoint(cases, model, engine, dtype="bf16"))
        check = check_endpoint(cases, Against(model, profile, engine, "bf16"))
        total = check.stages[-1]
        assert 0.02 < total.noise_floor < 0.12
        assert total.limit == pytest.approx(max(0.10, 1.5 * total.noise_floor))
        inside += [row.predicted.low <= row.measured_s <= row.predicted.high for row in check.rows]
    assert np.mean(inside) > 0.75


def test_a_wrong_law_fails_and_few_cases_are_inconclusive() -> None:
    model, hardware, engine = parts()
    cases = simulated()
    profile = with_slice(hardware, fit_endpoint(cases, model, engine, dtype="bf16"))
    slower = [
        dataclasses.replace(
            case, ttft_s=tuple(2 * t for t in case.ttft_s), decode_s=tuple(2 * t for t in case.decode_s)
        )
        for case in cases
    ]
    failed = check_endpoint(slower, Against(model, profile, engine, "bf16"))
    assert failed.verdict == "failed"
    assert "above 10.0%" in failed.reasons[0]
    few = check_endpoint(cases[:14], Against(model, profile, engine, "bf16"))
    assert (few.verdict, few.n) == ("inconclusive", 2)
    loud = check_endpoint(simulated(0.5), Against(model, profile, engine, "bf16"))
    assert loud.verdict == "inconclusive"
    assert "quieter machine" in loud.reasons[0]


def test_too_few_requests() -> None:
    model, _, engine = parts()
    with pytest.raises(FitError, match=r"2 request\(s\)"):
        fit_endpoint(simulated()[:2], model, engine, dtype="bf16")


def test_a_newer_law_takes_the_place_of_the_older() -> None:
    model, hardware, engine = parts()
    fitted = fit_endpoint(simulated(), model, engine, dtype="bf16")
    once = with_slice(hardware, fitted)
    assert with_slice(once, fitted) == once
    other = fitted.model_copy(update={"dtype": "fp16"})
    assert len(with_slice(once, other).slices) == len(once.slices) + 1


def test_a_design_varies_lengths_independently_and_begins_every_prompt_anew() -> None:
    requests = design_requests(DESIGN)
    fit = [case for case in requests if not case.case_id.startswith("held-out")]
    assert len(fit) == 12
    words = [len(case.request.prompt.split()) for case in fit]
    tokens = [case.request.max_output_tokens for case in fit]
    assert abs(np.corrcoef(words, tokens)[0, 1]) < 1e-9
    beginnings = {tuple(case.request.prompt.split()[:3]) for case in requests}
    assert len(beginnings) == len(requests)
    assert all(case.request.ignore_eos and not case.request.reuse_prefix for case in requests)
    held = [case for case in requests if case.case_id.startswith("held-out")]
    assert len(held) == DESIGN.held_out
    assert all(min(words) < len(case.request.prompt.split()) < max(words) for case in held)
    assert design_requests(DESIGN) == requests


def test_images_take_turns() -> None:
    sizes = (ImageSize(width=64, height=48), ImageSize(width=200, height=120))
    requests = design_requests(dataclasses.replace(DESIGN, images=sizes), made.preset(made.SMALL))
    by_size = {text: [c for c in requests if c.facts["images"] == text] for text in ("", "64x48", "200x120")}
    assert all(len(found) == 6 for found in by_size.values())
    for text, found in by_size.items():
        assert all(bool(case.request.images) == bool(text) for case in found)
        assert len({case.facts["words"] for case in found}) > 2


def test_rows_that_are_no_measurement_are_not_used() -> None:
    row = {"op": "request", "repeat": 0, "images": "", "prompt_tokens_total": 20, "output_tokens": 4,
           "ttft_s": 0.1, "decode_s": 0.2, "reason": ""}  # fmt: skip
    rows = [{**row, "case_id": "a", "outcome": "ok"}, {**row, "case_id": "b", "outcome": "timeout", "reason": "slow"}]
    assert [case.case_id for case in measured_cases(rows)] == ["a"]
    with pytest.raises(EndpointError, match="no request gave a usable measurement: slow"):
        measured_cases(rows[1:])


def live(url: str, folder: Path, **design: object) -> LiveEndpoint:
    """A plan for a text model; its shape stands in for the served one, whose config no family here reads."""
    (folder / "spec.json").write_text(made.text_only().model_dump_json())
    return LiveEndpoint(
        endpoint=Endpoint(url),
        model=str(folder / "spec.json"),
        hardware="h100-sxm",
        engine="llama.cpp",
        dtype="bf16",
        design=EndpointDesign(**design),  # type: ignore[arg-type]
    )


@pytest.mark.slow
def test_a_real_llama_server_is_predicted(tmp_path: Path) -> None:
    weights = real_servers.smollm2_weights()
    runs = tmp_path / "runs.jsonl"
    with real_servers.llama_server(weights, "smollm2") as url:
        plan = live(url, tmp_path, prompt_words=(8, 40, 120), output_tokens=(4, 20), repeats=2, held_out=5)
        result = calibrate_endpoint(plan, law=True, runs=runs, progress=lambda share, text: None)
        lines = runs.read_text()
        again = calibrate_endpoint(plan, law=True, runs=runs, progress=lambda share, text: None)
    assert runs.read_text() == lines, "what was measured is not measured again"
    assert again.check == result.check
    check = result.check
    assert check is not None
    assert check.n == 5
    assert check.mape is not None
    # Not the gate of the check, for the machine may be busy: an order of magnitude and the sense of the error.
    assert check.mape < 0.5
    assert {score.stage for score in check.stages} == {"ttft", "decode", "total"}
    outcomes = {json.loads(line).get("outcome", "ok") for line in lines.splitlines()}
    assert outcomes == {"ok"}
    result.write(tmp_path / "profile.json")
    assert load_hardware(tmp_path / "profile.json") == result.hardware


def quiet(share: float, text: str) -> None:
    """No progress."""


def few_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_load, "_LOOP_SHAPES", ((8, 6),))
    monkeypatch.setattr(endpoint_load, "_LOOPS", 1)
    monkeypatch.setattr(endpoint_load, "_COUNTED", 3)
    monkeypatch.setattr(endpoint_load, "_BURSTS", 1)


@pytest.mark.slow
def test_a_real_llama_server_is_validated_alone_and_under_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few_loops(monkeypatch)
    with real_servers.llama_server(real_servers.smollm2_weights(), "smollm2", slots=2) as url:
        design = {"prompt_words": (4, 24), "output_tokens": (4, 12), "repeats": 2, "held_out": 5}
        plan = dataclasses.replace(live(url, tmp_path, **design), concurrency=(2,), slots=2)
        fitted = calibrate_endpoint(plan, law=True, runs=tmp_path / "fit.jsonl", progress=quiet)
        fitted.write(tmp_path / "profile.json")
        assert fitted.law is not None
        assert "gemm_flops" in fitted.law.components["decode.decoder_layer"].highest
        known = dataclasses.replace(plan, hardware=str(tmp_path / "profile.json"))

        alone = dataclasses.replace(known, concurrency=())
        check = validate_endpoint(alone, runs=tmp_path / "alone.jsonl", max_error=None, progress=quiet)
        asked = {row["case_id"]: row["words"] for row in rows_of(tmp_path / "alone.jsonl") if "words" in row}
        calibrated = {row["case_id"]: row["words"] for row in rows_of(tmp_path / "fit.jsonl") if "words" in row}
        assert {stage.stage for stage in check.stages} == {"ttft", "decode", "total"}
        assert any(asked[name] != calibrated.get(name) for name in asked), "other lengths than were held out before"

        loaded = dataclasses.replace(known, concurrency=(1, 2))
        check = validate_endpoint(loaded, runs=tmp_path / "load.jsonl", max_error=None, progress=quiet)
        assert {row.model for row in check.rows} == {"1 clients", "2 clients"}
        # An order of magnitude, for the machine may be busy; a prediction without the other client would be half.
        assert all(0.2 < row.predicted.value / row.measured_s < 5 for row in check.rows)


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_real_vlm_server_is_calibrated_with_images(tmp_path: Path) -> None:
    for name in ("transformers", "fastapi", "uvicorn", "openai", "accelerate"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra: dev)")
    folder = tmp_path / "tiny-vlm"
    real_servers.write_tiny_vlm(folder)
    design = EndpointDesign(
        prompt_words=(4, 16, 40),
        output_tokens=(3, 9),
        images=(ImageSize(width=64, height=48), ImageSize(width=800, height=600)),
        held_out=6,
        repeats=2,
    )
    with real_servers.transformers_server(folder) as url:
        plan = LiveEndpoint(Endpoint(url, str(folder)), str(folder), "h100-sxm", "hf-eager", "fp32", design, slots=1)
        result = calibrate_endpoint(plan, law=True, runs=tmp_path / "law.jsonl", progress=quiet)
        terms = calibrate_endpoint(plan, law=False, runs=tmp_path / "law.jsonl", progress=quiet)
    rows = [row for row in rows_of(tmp_path / "law.jsonl") if row.get("op") == "request"]
    assert {row["images"] for row in rows} == {"", "64x48", "800x600"}
    assert all(row["outcome"] == "ok" for row in rows)
    with_image = next(row for row in rows if row["images"] and row["words"] == 4)
    assert with_image["prompt_tokens_total"] == 4 + real_servers.VISUAL_TOKENS
    check = result.check
    assert check is not None
    assert check.n == 6
    assert check.mape is not None
    assert check.mape < 1.0
    assert terms.fit is not None
    assert {term.name for term in terms.fit.terms} == {"step_s", "megapixel_s", "image_s", "request_s"}
