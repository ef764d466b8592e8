"""Properties of stages and memory that hold for every family: growth, chunks, quantisation, tensor parallelism."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import Workload, load_engine, load_hardware, predict, program
from costmodel.errors import ProfileError, UnknownKeyError, WorkloadError
from costmodel.families.sources import load_model, preset_names
from costmodel.memory import memory_of, weight_bytes
from costmodel.ops import AllGather, AllReduce, Gemm, MoeExperts, dtype_of
from costmodel.program import Options
from costmodel.specs.images import ImageSize
from costmodel.specs.model import LayerGroup, ModelSpec

PLAIN = Options("bf16", "bf16", fused=True)
ONE_OF_EACH = sorted({load_model(name).family: name for name in preset_names()}.values())
MODELS = st.sampled_from(ONE_OF_EACH)
TOKENS = st.integers(1, 4000)


def _cross(model: ModelSpec) -> int:
    """Vision states where the model has cross-attention."""
    return 1601 if any(group.attention.kind == "cross" for group in model.decoder.layers) else 0


def _prefill(model: ModelSpec, tokens: int, batch: int = 1, options: Options = PLAIN) -> program.Stage:
    return program.prefill(
        model, new_tokens=float(tokens), cached_tokens=0.0, batch=batch, options=options, cross_tokens=_cross(model)
    )


def _step(model: ModelSpec, context: int, batch: int = 1, options: Options = PLAIN) -> program.Stage:
    return program.decode_step(
        model, context_tokens=float(context), batch=batch, options=options, cross_tokens=_cross(model)
    )


def _grows(small: program.Stage, large: program.Stage) -> None:
    assert small.flops() <= large.flops() * (1 + 1e-12)
    assert small.bytes() <= large.bytes() * (1 + 1e-12)


@given(name=MODELS, tokens=TOKENS, more=TOKENS, batch=st.integers(1, 64), wider=st.integers(1, 64))
def test_work_grows_with_tokens_and_batch(name: str, tokens: int, more: int, batch: int, wider: int) -> None:
    model = load_model(name)
    for build in (_prefill, _step):
        _grows(build(model, tokens, batch), build(model, tokens + more, batch))
        _grows(build(model, tokens, batch), build(model, tokens, batch + wider))


def _deeper(group: LayerGroup) -> LayerGroup:
    return group.model_copy(update={"count": group.count + 1})


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_work_and_memory_grow_with_every_kind_of_layer(name: str) -> None:
    model = load_model(name)
    for index, group in enumerate(model.decoder.layers):
        layers = list(model.decoder.layers)
        layers[index] = _deeper(group)
        decoder = model.decoder.model_copy(update={"layers": tuple(layers)})
        more = model.model_copy(update={"decoder": decoder})
        assert _prefill(model, 100).flops() < _prefill(more, 100).flops()
        assert _step(model, 100).bytes() < _step(more, 100).bytes()
        assert weight_bytes(model, PLAIN) < weight_bytes(more, PLAIN)


def _memory(model: ModelSpec, context: int, batch: int) -> float:
    return memory_of(
        model,
        context_tokens=context,
        largest_pass_tokens=context,
        patches=0,
        batch=batch,
        options=PLAIN,
        capacity_bytes=1.0,
        cross_tokens=_cross(model),
    ).total_bytes


@given(name=MODELS, context=TOKENS, more=TOKENS, batch=st.integers(1, 64))
def test_memory_grows_with_context_and_batch(name: str, context: int, more: int, batch: int) -> None:
    model = load_model(name)
    assert _memory(model, context, batch) <= _memory(model, context + more, batch)
    assert _memory(model, context, batch) < _memory(model, context, batch + 1)


@given(name=MODELS, tokens=st.integers(2, 3000), chunk=st.integers(1, 800), cached=st.integers(0, 500))
@settings(max_examples=60)
def test_chunks_of_a_prefill_sum_to_the_whole(name: str, tokens: int, chunk: int, cached: int) -> None:
    model = load_model(name)
    sizes: dict[str, Any] = {"new_tokens": tokens, "cached_tokens": cached, "batch": 2, "cross_tokens": _cross(model)}
    (whole,) = program.prefill_chunks(model, options=PLAIN, **sizes)
    chunks = program.prefill_chunks(model, options=Options("bf16", "bf16", fused=True, chunk_tokens=chunk), **sizes)
    assert len(chunks) == -(-tokens // chunk)
    parts = sum(float(stage.flops()) for stage in chunks)
    if any(group.attention.kind == "latent" for group in model.decoder.layers):
        # Latents in the cache are expanded again for every chunk.
        assert parts >= whole.flops() * (1 - 1e-12)
    else:
        assert parts == pytest.approx(float(whole.flops()), rel=1e-9)
    assert sum(float(stage.bytes()) for stage in chunks) >= whole.bytes() * (1 - 1e-9)


def _decoder_weights(stage: program.Stage, dtype: str | None = None) -> float:
    """Bytes of the matrices that a stage reads, of one format or of all."""
    kinds = Gemm | MoeExperts
    ops = [(op, c.count) for c in stage.components for op in c.ops if isinstance(op, kinds)]
    return float(sum(op.weight_bytes * count for op, count in ops if dtype is None or op.dtype == dtype))


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_one_device_is_the_plain_case_and_more_share_the_layers(name: str) -> None:
    model = load_model(name)
    one = _step(model, 1000, 8)
    assert not [op for c in one.components for op in c.ops if isinstance(op, AllReduce | AllGather)]
    for devices in (2, 4):
        if any(group.attention.query_heads % devices for group in model.decoder.layers):
            continue
        shared = _step(model, 1000, 8, Options("bf16", "bf16", fused=True, num_devices=devices))
        reduces = sum(c.count for c in shared.components for op in c.ops if isinstance(op, AllReduce))
        assert reduces >= 2 * model.decoder.num_layers
        # Keys and values of fewer heads than devices, routers and latents are repeated.
        assert _decoder_weights(one) / devices <= _decoder_weights(shared) <= 0.75 * _decoder_weights(one)
        options = Options("bf16", "bf16", fused=True, num_devices=devices)
        assert weight_bytes(model, options) < weight_bytes(model, PLAIN)


@pytest.mark.parametrize("scheme", sorted(program.QUANTIZATIONS))
@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_quantisation_keeps_vision_embedding_and_head(name: str, scheme: str) -> None:
    model = load_model(name)
    options = Options("bf16", "bf16", fused=True, quantization=scheme)
    step, dtype = _step(model, 10, options=options), program.QUANTIZATIONS[scheme]
    (head,) = [op for op in step.components[-1].ops if isinstance(op, Gemm)]
    assert head.dtype == "bf16"
    # A file of llama.cpp may hold 32 bits.
    wider = dtype_of(dtype).weight_bytes / 2
    assert 0 < _decoder_weights(step, dtype) < _decoder_weights(_step(model, 10)) * max(wider, 1)
    saved = (2 - dtype_of(dtype).weight_bytes) * model.decoder.layer_parameters
    assert weight_bytes(model, PLAIN) - weight_bytes(model, options) == pytest.approx(saved)
    if model.image_rule is not None:
        layouts = program.image_layouts(model, [ImageSize(width=600, height=400)])
        plain = program.encode(model, layouts, batch=1, options=PLAIN)
        assert program.encode(model, layouts, batch=1, options=options) == plain


def test_a_step_reads_the_experts_that_some_token_chose() -> None:
    model = load_model("Qwen/Qwen3-VL-30B-A3B-Instruct")
    active = [
        float(op.active_experts)
        for batch in (1, 8, 64, 4096)
        for op in _step(model, 100, batch).components[1].ops
        if isinstance(op, MoeExperts)
    ]
    expected = [128 * (1 - (1 - 8 / 128) ** batch) for batch in (1, 8, 64, 4096)]
    assert active == pytest.approx(expected)
    assert active[0] == 8
    assert weight_bytes(model, PLAIN) > 9 * _decoder_weights(_step(model, 100))


def test_a_tied_head_is_read_and_held_once() -> None:
    tied = load_model("Qwen/Qwen3-0.6B")
    assert tied.decoder.tied_embeddings
    read, held = _decoder_weights(_step(tied, 10)), weight_bytes(tied, PLAIN)
    norms = held - read
    assert 0 < norms < 0.001 * held


CACHE_BYTES_PER_TOKEN = {
    "Qwen/Qwen2.5-VL-7B-Instruct": 28 * 2 * 4 * 128 * 2,
    "moonshotai/Kimi-VL-A3B-Instruct": 27 * (512 + 64) * 2,
    "Qwen/Qwen3.5-27B": 16 * 2 * 4 * 256 * 2,
    "google/gemma-4-E2B-it": 3 * 2 * 1 * 512 * 2,
}


@pytest.mark.parametrize("name", sorted(CACHE_BYTES_PER_TOKEN))
def test_cache_of_a_token_beyond_every_window(name: str) -> None:
    """By hand from the published configs: layers, heads, widths; states and full windows do not grow."""
    model = load_model(name)

    def cache(context: int) -> float:
        return sum(
            group.count * group.attention.cache_bytes(context, cross_tokens=0, element_bytes=2.0, devices=1)
            for group in model.decoder.layers
        )

    assert cache(20_001) - cache(20_000) == CACHE_BYTES_PER_TOKEN[name]


@given(prompt=st.integers(1, 3000), more=st.integers(1, 3000), output=st.integers(1, 400), batch=st.integers(1, 32))
@settings(max_examples=25)
def test_predicted_time_grows(prompt: int, more: int, output: int, batch: int) -> None:
    hardware, engine = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
    for name in ("Qwen/Qwen3-VL-30B-A3B-Instruct", "Qwen/Qwen3.5-9B", "moonshotai/Kimi-VL-A3B-Instruct"):
        model = load_model(name)

        def seconds(tokens: int, answer: int, requests: int, model: ModelSpec = model) -> float:
            workload = Workload(prompt_tokens=tokens, output_tokens=answer, batch=requests)
            return predict(model, hardware, engine, workload).latency.total_s.value

        base = seconds(prompt, output, batch)
        for grown in (
            seconds(prompt + more, output, batch),
            seconds(prompt, output + 1, batch),
            seconds(prompt, output, batch + 1),
        ):
            assert grown >= base * (1 - 1e-9)


def test_options_reach_a_prediction() -> None:
    hardware, engine = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
    model = load_model("Qwen/Qwen2.5-VL-72B-Instruct")
    workload = Workload(images=(ImageSize(width=640, height=480),), prompt_tokens=100, output_tokens=50)
    one = predict(model, hardware, engine, workload)
    four = predict(model, hardware, engine, workload, num_devices=4)
    small = predict(model, hardware, engine, workload, quantization="w4a16", num_devices=1)
    chunked = predict(model, hardware, engine, workload, chunk_tokens=100)
    assert not one.memory.fits
    assert four.memory.fits
    assert small.memory.fits
    assert four.latency.tpot_s.value < 0.5 * one.latency.tpot_s.value
    assert small.latency.tpot_s.value < 0.6 * one.latency.tpot_s.value
    assert chunked.latency.prefill_s.value > one.latency.prefill_s.value
    assert predict(model, hardware, engine, workload, quantization="none", num_devices=1) == one
    assert np.isfinite(four.latency.total_s.high)


def test_bad_options_are_typed() -> None:
    hardware, engine = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
    model, workload = load_model("Qwen/Qwen3-8B"), Workload(prompt_tokens=10, output_tokens=2)
    with pytest.raises(UnknownKeyError, match="unknown quantization 'w3a16'; nearest: "):
        predict(model, hardware, engine, workload, quantization="w3a16")
    with pytest.raises(WorkloadError, match="num_devices is 3, expected a divisor of the model's 32 heads"):
        predict(model, hardware, engine, workload, num_devices=3)
    for changes in ({"num_devices": 0}, {"chunk_tokens": 0}):
        with pytest.raises(WorkloadError, match="expected 1 or more"):
            predict(model, hardware, engine, workload, **changes)
    with pytest.raises(ProfileError, match="nvfp4"):
        predict(model, hardware, engine, workload, quantization="w4a4-nvfp4")


MOE = "Qwen/Qwen3-VL-30B-A3B-Instruct"


def _expert_ops(options: Options, batch: int) -> list[MoeExperts]:
    step = _step(load_model(MOE), 100, batch, options)
    return [op for component in step.components for op in component.ops if isinstance(op, MoeExperts)]


@given(batch=st.integers(1, 512), devices=st.sampled_from([2, 4, 8]))
def test_experts_shared_out_whole_do_the_same_work(batch: int, devices: int) -> None:
    """Against drawing routes: each device reads those of its own experts that some row chose."""
    cut = Options("bf16", "bf16", fused=True, num_devices=devices)
    whole = Options("bf16", "bf16", fused=True, num_devices=devices, expert_parallel=True)
    (sliced,), (shared,) = _expert_ops(cut, batch), _expert_ops(whole, batch)
    assert shared.flops == pytest.approx(sliced.flops)
    assert shared.weight_bytes == pytest.approx(sliced.weight_bytes)
    assert shared.intermediate_size == devices * sliced.intermediate_size
    rng = np.random.default_rng(0)
    chosen = rng.random((200, batch, 128)).argsort(axis=-1)[..., :8] if batch <= 32 else None
    if chosen is not None:
        mine = [len(np.unique(draw[draw < 128 // devices])) for draw in chosen]
        assert float(shared.active_experts) == pytest.approx(np.mean(mine), rel=0.1)


def test_expert_parallelism_needs_experts_and_devices() -> None:
    one = Options("bf16", "bf16", fused=True, expert_parallel=True)
    assert _step(load_model(MOE), 100, 8, one) == _step(load_model(MOE), 100, 8)
    model, hardware, engine = load_model(MOE), load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
    workload = Workload(prompt_tokens=100, output_tokens=10)
    plain = predict(model, hardware, engine, workload, num_devices=2)
    shared = predict(model, hardware, engine, workload, num_devices=2, expert_parallel=True)
    assert shared.memory.weights_bytes == plain.memory.weights_bytes
    assert shared.latency.decode_s.value != plain.latency.decode_s.value
    for wrong, devices in (("Qwen/Qwen3-0.6B", 2), (MOE, 1)):
        with pytest.raises(WorkloadError, match="expert_parallel"):
            predict(load_model(wrong), hardware, engine, workload, num_devices=devices, expert_parallel=True)
