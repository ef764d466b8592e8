"""An engine's kernels from whole requests: fit ∘ simulate is the identity, and what is only assumed is said."""

from __future__ import annotations

import itertools
from pathlib import Path

import made_profiles as made
import pytest

from calibrate.accuracy.published_runs import encoder_runs, encoder_slopes, stage_cases
from calibrate.fit.engine import EngineFit, fit_engine, halves_of
from calibrate.fit.engine_file import engine_text
from calibrate.fit.engine_terms import assumed_law, pooled, unlearned
from costmodel.cases import Case, case_latency
from costmodel.documents import read_document
from costmodel.profiles import EngineProfile, LawFit, load_engine, load_hardware, profile_keys
from costmodel.specs.workload import Workload

LLAMA, QWEN = "deepseek-ai/DeepSeek-R1-Distill-Llama-8B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"
KEY = "gemm/w4a16"
TRUE = {"latency_s": 18e-6, "compute_efficiency": 0.45, "memory_efficiency": 0.9}
HOST = {"step_s": 0.0011, "request_s": 0.004}


def law(**values: float) -> LawFit:
    fit = assumed_law("latency_roofline")
    changed = {name: fit.coefficients[name].model_copy(update={"value": value}) for name, value in values.items()}
    return fit.model_copy(update={"coefficients": {**fit.coefficients, **changed}})


def start() -> EngineProfile:
    return made.engine(graph_captured=("decode",), kernels={KEY: law()})


def runs(truth: EngineProfile, device: str = "a100-sxm-80gb") -> list[Case]:
    """Runs of two models, without and with 4-bit weights, as they would have been measured."""
    shapes = itertools.product((LLAMA, QWEN), ("none", "w4a16"), ((64, 32), (64, 400), (3000, 32), (800, 150)))
    cases = []
    for index, (model, scheme, (prompt, output)) in enumerate(shapes):
        blank = Case(
            case_id=f"c{index}", model=model, hardware=device, engine="vllm-0.7.2", dtype="bf16", quantization=scheme,
            num_devices=1, workload=Workload(prompt_tokens=prompt, output_tokens=output), measured_s={},
        )  # fmt: skip
        total_s = case_latency(blank, load_hardware(device), truth).total_s.value
        cases.append(blank.model_copy(update={"measured_s": {"total": total_s}}))
    return cases


def truth() -> EngineProfile:
    host = {name: made.coefficient(value) for name, value in HOST.items()}
    return start().model_copy(update={**host, "kernels": {KEY: law(**TRUE)}})


@pytest.fixture(scope="module")
def fit() -> EngineFit:
    return fit_engine(runs(truth()), start(), hold_out="shapes", kernels=True)


def test_kernels_and_host_terms_are_recovered_together(fit: EngineFit) -> None:
    """As far as the priors let: they pull by less than the runs say."""
    found = {term.name: term.coefficient.value for term in fit.terms}
    for name, value in TRUE.items():
        assert found[f"a100-sxm-80gb {KEY} {name}"] == pytest.approx(value, rel=0.05)
    assert found["step_s"] == pytest.approx(HOST["step_s"], rel=0.1)
    assert fit.mape < 0.003


def test_kernels_explain_what_host_terms_can_not(fit: EngineFit) -> None:
    plain = fit_engine(runs(truth()), start())
    quantised = {score.group: score.mape for score in fit.held_out}
    host_only = {score.group: score.mape for score in plain.held_out}
    assert quantised["a100-sxm-80gb w4a16"] < 0.04 < host_only["a100-sxm-80gb w4a16"]


def test_the_fitted_engine_predicts_its_runs(fit: EngineFit) -> None:
    """What is written is what was fitted: no term is lost between the two."""
    for case in runs(truth()):
        predicted = case_latency(case, load_hardware(case.hardware), fit.engine).total_s
        assert predicted.value == pytest.approx(case.measured_s["total"], rel=0.01)
        assert predicted.low < case.measured_s["total"] < predicted.high


def test_what_runs_do_not_tell_is_said(fit: EngineFit) -> None:
    """Runs that the tables explain say nothing of the tables' own coefficients."""
    of_table = [term for term in fit.terms if "gemm/bf16" in term.name]
    assert of_table
    for term in of_table:
        assert term.fitted == (term.coefficient.source == "fitted")
        assert term.fitted or "no more than was assumed" in term.note or "can't tell" in term.note


def test_a_law_of_the_device_is_moved_only_where_runs_ask_for_it(fit: EngineFit) -> None:
    before = load_hardware("a100-sxm-80gb").laws["gemm/bf16"].values
    after = fit.engine.device_kernels["a100-sxm-80gb"]["gemm/bf16"].values
    assert after["memory_efficiency"] == pytest.approx(before["memory_efficiency"], rel=0.02)
    assert {name for name in before if before[name] != after[name]} <= {
        "fixed_s", "compute_efficiency", "memory_efficiency"
    }  # fmt: skip


def test_devices_are_pooled_for_one_that_showed_nothing() -> None:
    engine = start().model_copy(
        update={"device_kernels": {"a": {KEY: law(latency_s=10e-6)}, "b": {KEY: law(latency_s=40e-6)}}}
    )
    found = pooled(engine).kernels[KEY]
    assert found.values["latency_s"] == pytest.approx(20e-6)
    assert found.coefficients["latency_s"].stderr > 0
    alone = engine.model_copy(update={"device_kernels": {"b": engine.device_kernels["b"]}})
    assert pooled(alone).kernels[KEY].values["latency_s"] == pytest.approx(20e-6)
    assert unlearned(pooled(engine)).kernels[KEY] == law()
    assert unlearned(engine).device_kernels == {}


def test_earlier_runs_of_a_device_are_forgotten_not_counted_twice(fit: EngineFit) -> None:
    again = fit_engine(runs(truth()), fit.engine, hold_out="none", kernels=True, relearn=True)
    for name, coefficient in again.engine.device_kernels["a100-sxm-80gb"][KEY].coefficients.items():
        assert coefficient.value == pytest.approx(
            fit.engine.device_kernels["a100-sxm-80gb"][KEY].coefficients[name].value, rel=0.01
        )
    assert again.held_out == ()


def test_halves_have_short_and_long_answers_prompts_and_images() -> None:
    cases = [
        Case(
            case_id=f"{prompt} {output}", model=QWEN, hardware="h", engine="e", dtype="bf16", quantization="none",
            num_devices=1, workload=Workload(prompt_tokens=prompt, output_tokens=output), measured_s={},
        )
        for prompt in (64, 512)
        for output in (16, 128, 1024)
    ]  # fmt: skip
    half = halves_of(cases)
    for part in "01":
        inside = [case.workload for case in cases if half(case) == part]
        assert len(inside) == 3
        assert {request.prompt_tokens for request in inside} == {64, 512}
        assert {request.output_tokens for request in inside} == {16, 128, 1024}


@pytest.mark.parametrize("key", profile_keys("engines"))
def test_every_engine_states_its_sources_and_survives_its_file(key: str, tmp_path: Path) -> None:
    engine = load_engine(key)
    assert engine.references
    path = tmp_path / "engine.json"
    path.write_text(engine_text(engine))
    assert engine_text(read_document(path, EngineProfile)) == engine_text(engine)


def test_graphs_hide_launches_of_their_stage_alone() -> None:
    slow = made.coefficient(1e-4)
    case = runs(truth())[0]
    device = load_hardware(case.hardware)
    eager = case_latency(case, device, made.engine(launch_s=slow, graph_captured=()))
    captured = case_latency(case, device, made.engine(launch_s=slow, graph_captured=("decode",)))
    free = case_latency(case, device, made.engine(launch_s=made.coefficient(0.0)))
    assert captured.prefill_s == eager.prefill_s
    assert captured.decode_s.value == pytest.approx(free.decode_s.value)
    assert captured.decode_s.value < eager.decode_s.value


def test_scores_that_leave_the_kernel_cost_their_traffic() -> None:
    """Four passes over batch · heads · tokens² values of two bytes, at no more than the memory's rate."""
    case = runs(truth())[2]
    device = load_hardware(case.hardware)
    fused = case_latency(case, device, made.engine()).prefill_s.value
    beyond = case_latency(case, device, made.engine(fused_attention_tokens={"prefill": 384})).prefill_s.value
    layers, heads, tokens = 32, 32, 3000
    least = layers * heads * tokens**2 * 2 * 4 / device.datasheet.memory_bytes_per_s
    assert least < beyond - fused < 2 * least
    short = case_latency(case, device, made.engine(fused_attention_tokens={"prefill": 4096})).prefill_s.value
    assert short == fused


def test_a_quantised_vocabulary_is_read_faster_and_takes_less() -> None:
    from costmodel import load_model, predict

    request = Workload(prompt_tokens=64, output_tokens=32)
    common = (load_model(LLAMA), load_hardware("a100-sxm-80gb"))
    kept = predict(*common, made.engine(), request, quantization="gguf-q4_0")
    small = predict(*common, made.engine(quantised=("decoder", "vocabulary")), request, quantization="gguf-q4_0")
    assert small.latency.tpot_s.value < kept.latency.tpot_s.value
    table = 128256 * 4096
    saved = kept.memory.weights_bytes - small.memory.weights_bytes
    assert saved == pytest.approx(2 * table * (2 - 18 / 32), rel=0.01)


def test_an_engines_chunks_are_those_of_the_prediction() -> None:
    case = runs(truth())[2]
    device = load_hardware(case.hardware)
    whole = case_latency(case, device, made.engine()).prefill_s.value
    chunked = case_latency(case, device, made.engine(chunk_tokens=512)).prefill_s.value
    assert chunked > whole


def test_published_stages_of_a_jetson(realdata: Path) -> None:
    """Fitted on its text models alone, stages of its VLMs (TensorRT Edge-LLM 0.9.0 documentation)."""
    from calibrate.accuracy.published import check_published

    cases = stage_cases(realdata / "jetson_thor_stages.csv")
    assert {token for case in cases for token in case.measured_s} == {"encode", "prefill", "tpot"}
    result = check_published(realdata, only=("stages",))
    found = {score.group: score for score in result.scores}
    assert found["jetson-agx-thor tpot"].met
    assert found["jetson-agx-thor encode"].met
    assert found["jetson-agx-thor prefill w4a4-nvfp4"].mape < 0.15


def test_published_curves_of_a_vision_encoder(realdata: Path) -> None:
    """FasterTransformer's vision transformers on A100: exponents of time over batch and resolution."""
    slopes = encoder_slopes(encoder_runs(realdata / "vit_a100.csv"))
    over_batch = [slope for slope in slopes if slope.over == "batch"]
    over_pixels = [slope for slope in slopes if slope.over == "resolution" and slope.at != "batch 1"]
    assert len(over_batch) == 4
    assert len(over_pixels) == 6
    assert all(abs(slope.error) < 0.1 for slope in [*over_batch, *over_pixels])
