"""Bytes on the device against real modules: the state dict, and the tensors of a real KV cache."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import TINY_CONFIGS, TINY_IMAGE_SETTINGS
from made_profiles import LARGE, SMALL, preset

from costmodel.families import read_config
from costmodel.memory import Memory, memory_of
from costmodel.program import Options
from costmodel.specs.model import ModelSpec

# Qwen3-VL here has a head of its own, Qwen2.5-VL a tied one.
FAMILIES = {"qwen3_vl": False, "qwen2_5_vl": True}


def _spec(family: str) -> ModelSpec:
    return read_config(TINY_CONFIGS[family], name="tiny", image_settings=TINY_IMAGE_SETTINGS)


def _memory(spec: ModelSpec, tokens: int, *, batch: int = 1, dtype: str = "fp32", kv: str | None = None) -> Memory:
    return memory_of(
        spec,
        context_tokens=tokens,
        largest_pass_tokens=tokens,
        patches=0,
        batch=batch,
        options=Options(dtype, kv or dtype, fused=True),
        capacity_bytes=1e9,
    )


@pytest.mark.parametrize("family", sorted(FAMILIES))
@pytest.mark.parametrize(("dtype", "name"), [("fp32", "float32"), ("bf16", "bfloat16")])
def test_weights_are_those_of_the_state_dict(family: str, dtype: str, name: str, torch: Any, tiny_model: Any) -> None:
    state = tiny_model(family).state_dict()
    storages = {tensor.data_ptr(): tensor for tensor in state.values()}
    assert (len(storages) < len(state)) == FAMILIES[family]
    held = sum(t.numel() for t in storages.values()) * getattr(torch, name).itemsize
    assert _memory(_spec(family), 10, dtype=dtype).weights_bytes == held


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_cache_is_that_of_a_real_prefill(family: str, batch: int, torch: Any, tiny_model: Any) -> None:
    model, tokens = tiny_model(family), 37
    with torch.no_grad():
        out = model(input_ids=torch.randint(0, 140, (batch, tokens)), use_cache=True)
    tensors = [t for layer in out.past_key_values.layers for t in (layer.keys, layer.values)]
    held = sum(t.numel() * t.element_size() for t in tensors)
    assert _memory(_spec(family), tokens, batch=batch).kv_cache_bytes == held


def test_cache_follows_its_own_format_and_the_kv_heads() -> None:
    spec = preset(LARGE)
    wide, narrow = _memory(spec, 1000, dtype="bf16"), _memory(spec, 1000, dtype="bf16", kv="fp8")
    assert narrow.kv_cache_bytes == wide.kv_cache_bytes / 2
    layer = spec.decoder.layers[0].attention
    assert layer.num_kv_heads < layer.num_heads
    assert wide.kv_cache_bytes == 1000 * 36 * 2 * 8 * 128 * 2


def test_a_window_bounds_the_cache() -> None:
    spec = preset(SMALL)
    group = spec.decoder.layers[0]
    attention = group.attention.model_copy(update={"window": 512})
    layers = (group.model_copy(update={"attention": attention}),)
    windowed = spec.model_copy(update={"decoder": spec.decoder.model_copy(update={"layers": layers})})
    assert _memory(windowed, 400).kv_cache_bytes == _memory(spec, 400).kv_cache_bytes
    assert _memory(windowed, 9000).kv_cache_bytes == _memory(spec, 512).kv_cache_bytes


def test_it_fits_when_the_sum_is_within_the_capacity() -> None:
    memory = _memory(preset(SMALL), 1000)
    assert memory.total_bytes == memory.weights_bytes + memory.kv_cache_bytes + memory.activations_bytes
    assert memory.fits == (memory.total_bytes <= 1e9)
    assert _memory(_spec("qwen3_vl"), 10).fits


def test_activations_grow_with_tokens_and_patches() -> None:
    spec, options = preset(SMALL), Options("bf16", "bf16", fused=True)
    sizes = [
        memory_of(
            spec,
            context_tokens=2000,
            largest_pass_tokens=tokens,
            patches=patches,
            batch=1,
            options=options,
            capacity_bytes=1e9,
        ).activations_bytes
        for tokens, patches in ((10, 0), (100, 0), (100, 4000), (100, 40_000))
    ]
    assert sizes == sorted(sizes)
    assert sizes[-1] > sizes[0]
