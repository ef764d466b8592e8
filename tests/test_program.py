"""Stages against real models: FLOPs as torch counts them, weights of the modules, windows as cut there."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from conftest import TINY_CONFIGS, TINY_IMAGE_SETTINGS, TINY_VISION_SIZES, WRITABLE_FAMILIES

from costmodel import program
from costmodel.errors import WorkloadError
from costmodel.families import read_config
from costmodel.families.sources import load_model, preset_names
from costmodel.ops import EncoderAttention, Gemm
from costmodel.specs.images import ImageLayout, ImageSize
from costmodel.specs.model import ModelSpec

FAMILIES = sorted(TINY_CONFIGS)
OPTIONS = program.Options("fp32", "fp32", fused=False)
FUSED = program.Options("fp32", "fp32", fused=True)
SIZES = [ImageSize(width=width, height=height) for width, height in TINY_VISION_SIZES]
TOLERANCE = 1e-9


def _spec(family: str) -> ModelSpec:
    return read_config(TINY_CONFIGS[family], name="tiny", image_settings=TINY_IMAGE_SETTINGS)


def _layouts(spec: ModelSpec, sizes: list[ImageSize] = SIZES) -> tuple[ImageLayout, ...]:
    return program.image_layouts(spec, sizes)


def _ops(stage: program.Stage) -> Iterator[tuple[Any, int]]:
    for component in stage.components:
        for op in component.ops:
            yield op, component.count


def _vision_inputs(torch: Any, spec: ModelSpec, layouts: tuple[ImageLayout, ...]) -> tuple[Any, Any]:
    patches = sum(layout.patches for layout in layouts)
    grid = torch.tensor([[1, layout.grid_height, layout.grid_width] for layout in layouts])
    return torch.randn(patches, spec.vision.patch_features), grid


def _prompt(torch: Any, model: Any, visual_tokens: int, text_tokens: int) -> tuple[Any, Any]:
    """Token ids of one request, and which of them are images."""
    ids = torch.tensor([[1] * text_tokens + [model.config.image_token_id] * visual_tokens + [2]])
    return ids, (ids == model.config.image_token_id).int()


@pytest.fixture(scope="module")
def counted(torch: Any) -> Callable[[Callable[[], Any]], tuple[int, Any]]:
    """FLOPs that torch counts while a function runs, and what it returns."""
    from torch.utils.flop_counter import FlopCounterMode

    def run(function: Callable[[], Any]) -> tuple[int, Any]:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            result = function()
        return counter.get_total_flops(), result

    return run


@pytest.mark.parametrize("sizes", [SIZES, SIZES[:1], SIZES[3:4], SIZES[1:3]], ids=["all", "one", "least", "two"])
@pytest.mark.parametrize("family", FAMILIES)
def test_encode_flops(family: str, sizes: list[ImageSize], torch: Any, tiny_model: Any, counted: Any) -> None:
    spec, model = _spec(family), tiny_model(family)
    layouts = _layouts(spec, sizes)
    pixels, grid = _vision_inputs(torch, spec, layouts)
    measured, _ = counted(lambda: model.get_image_features(pixels, grid))
    stage = program.encode(spec, layouts, batch=1, options=OPTIONS)
    assert stage.flops(dense=True) == pytest.approx(measured, rel=TOLERANCE)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_and_decode_flops_of_text(family: str, batch: int, torch: Any, tiny_model: Any, counted: Any) -> None:
    spec, model = _spec(family), tiny_model(family)
    ids = torch.randint(0, 140, (batch, 37))
    measured, out = counted(lambda: model(input_ids=ids, use_cache=True, logits_to_keep=1))
    stage = program.prefill(spec, new_tokens=37, cached_tokens=0, batch=batch, options=OPTIONS)
    assert stage.flops(dense=True) == pytest.approx(measured, rel=TOLERANCE)

    cache = out.past_key_values
    for context in (38, 39):
        measured, _ = counted(lambda: model(input_ids=ids[:, :1], past_key_values=cache, use_cache=True))
        stage = program.decode_step(spec, context_tokens=context, batch=batch, options=OPTIONS)
        assert stage.flops(dense=True) == pytest.approx(measured, rel=TOLERANCE)
        assert cache.get_seq_length() == context


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_of_a_second_chunk(family: str, torch: Any, tiny_model: Any, counted: Any) -> None:
    spec, model = _spec(family), tiny_model(family)
    ids = torch.randint(0, 140, (2, 50))
    with torch.no_grad():
        cache = model(input_ids=ids[:, :30], use_cache=True).past_key_values
    measured, _ = counted(lambda: model(input_ids=ids[:, 30:], past_key_values=cache, use_cache=True, logits_to_keep=1))
    stage = program.prefill(spec, new_tokens=20, cached_tokens=30, batch=2, options=OPTIONS)
    assert stage.flops(dense=True) == pytest.approx(measured, rel=TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_flops_of_a_whole_request_with_images(family: str, torch: Any, tiny_model: Any, counted: Any) -> None:
    spec, model = _spec(family), tiny_model(family)
    layouts = _layouts(spec)
    pixels, grid = _vision_inputs(torch, spec, layouts)
    visual_tokens = sum(layout.visual_tokens for layout in layouts)
    ids, kinds = _prompt(torch, model, visual_tokens, 11)
    # Positions are given: only their number matters here, not where the images stand.
    measured, out = counted(
        lambda: model(
            input_ids=ids,
            pixel_values=pixels,
            image_grid_thw=grid,
            mm_token_type_ids=kinds,
            position_ids=torch.arange(ids.shape[1]).expand(3, 1, -1),
            use_cache=True,
            logits_to_keep=1,
        )
    )
    stages = (
        program.encode(spec, layouts, batch=1, options=OPTIONS),
        program.prefill(spec, new_tokens=ids.shape[1], cached_tokens=0, batch=1, options=OPTIONS),
    )
    assert sum(stage.flops(dense=True) for stage in stages) == pytest.approx(measured, rel=TOLERANCE)
    assert out.past_key_values.get_seq_length() == 11 + visual_tokens + 1


def _real_windows(grid: Any, spec: ModelSpec) -> Counter[int]:
    from transformers.vision_utils import get_vision_window_index

    window = max(group.attention.window or 0 for group in spec.vision.blocks)
    _, ends = get_vision_window_index(
        grid,
        spatial_merge_size=spec.image_rule.merge_size,
        window_size=window * spec.vision.patch_size,
        patch_size=spec.vision.patch_size,
    )
    return Counter(np.diff(np.asarray(ends)).tolist())


def test_window_lengths_equal_those_of_the_real_model(torch: Any, transformers: Any) -> None:
    spec = load_model("Qwen/Qwen2.5-VL-3B-Instruct")
    rng = np.random.default_rng(3)
    for _ in range(60):
        sides = rng.integers(28, 900, size=(rng.integers(1, 4), 2)).tolist()
        layouts = _layouts(spec, [ImageSize(width=width, height=height) for width, height in sides])
        grid = torch.tensor([[1, layout.grid_height, layout.grid_width] for layout in layouts])
        lengths = Counter[int]()
        for op, count in _ops(program.encode(spec, layouts, batch=1, options=OPTIONS)):
            if isinstance(op, EncoderAttention) and count == 28:
                lengths[int(op.seq_len)] += int(op.batch)
        assert lengths == _real_windows(grid, spec), sides


def test_blocks_with_full_attention_see_each_image_alone() -> None:
    spec = load_model("Qwen/Qwen2.5-VL-3B-Instruct")
    layouts = _layouts(spec, [ImageSize(width=224, height=224), ImageSize(width=280, height=224)] * 2)
    full = [
        (op.batch, op.seq_len)
        for op, count in _ops(program.encode(spec, layouts, batch=3, options=OPTIONS))
        if isinstance(op, EncoderAttention) and count == 4
    ]
    assert sorted(full) == [(6, 16 * 16), (6, 16 * 20)]


def _matrix_weights(module: Any) -> int:
    """Elements of the matrices that multiply activations: linear maps and patch convolutions."""
    kinds = ("Linear", "Conv3d")
    return sum(part.weight.numel() for part in module.modules() if type(part).__name__ in kinds)


def _gemm_weight_bytes(stage: program.Stage) -> float:
    return float(sum(op.weight_bytes * count for op, count in _ops(stage) if isinstance(op, Gemm)))


WRITABLE = [name for name in preset_names() if load_model(name).family in WRITABLE_FAMILIES]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("name", WRITABLE)
def test_every_stage_reads_each_weight_matrix_once(name: str, fused: bool, torch: Any, hf_class: Any) -> None:
    from calibrate.measure.hf_config import hf_config

    spec = load_model(name)
    with torch.device("meta"):
        model = hf_class(spec.family)(hf_config(spec))
    options = program.Options("bf16", "bf16", fused=fused)
    decoder_bytes = 2 * (_matrix_weights(model.model.language_model) + _matrix_weights(model.lm_head))
    step = program.decode_step(spec, context_tokens=1000, batch=4, options=options)
    assert _gemm_weight_bytes(step) == decoder_bytes
    prefill = program.prefill(spec, new_tokens=700, cached_tokens=300, batch=2, options=options)
    assert _gemm_weight_bytes(prefill) == decoder_bytes
    layouts = _layouts(spec, [ImageSize(width=640, height=480)])
    encode = program.encode(spec, layouts, batch=1, options=options)
    assert _gemm_weight_bytes(encode) == 2 * _matrix_weights(model.model.visual)


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_are_additive_in_batch_and_blind_to_order(family: str) -> None:
    spec = _spec(family)
    layouts = _layouts(spec)
    one = program.encode(spec, layouts, batch=1, options=OPTIONS)
    assert program.encode(spec, layouts, batch=5, options=OPTIONS).flops() == 5 * one.flops()
    assert program.encode(spec, layouts[::-1], batch=1, options=OPTIONS) == one
    assert program.encode(spec, layouts * 2, batch=1, options=OPTIONS).bytes() == (
        program.encode(spec, layouts, batch=2, options=OPTIONS).bytes()
    )
    for build in (
        lambda batch: program.prefill(spec, new_tokens=90, cached_tokens=7, batch=batch, options=OPTIONS),
        lambda batch: program.decode_step(spec, context_tokens=90, batch=batch, options=OPTIONS),
    ):
        assert build(6).flops() == 6 * build(1).flops()


@pytest.mark.parametrize("family", FAMILIES)
def test_arrays_give_what_numbers_give(family: str) -> None:
    spec = _spec(family)
    new, cached = np.array([1.0, 17.0, 900.0]), np.array([[0.0], [5.0]])
    table = program.prefill(spec, new_tokens=new, cached_tokens=cached, batch=2, options=OPTIONS)
    contexts = np.array([1.0, 33.0, 4000.0])
    steps = program.decode_step(spec, context_tokens=contexts, batch=3, options=OPTIONS)
    for j, n in enumerate(new):
        for i, c in enumerate(cached[:, 0]):
            one = program.prefill(spec, new_tokens=n, cached_tokens=c, batch=2, options=OPTIONS)
            assert (table.flops()[i, j], table.bytes()[i, j]) == (one.flops(), one.bytes())
    for j, context in enumerate(contexts):
        step = program.decode_step(spec, context_tokens=context, batch=3, options=OPTIONS)
        assert (steps.flops()[j], steps.bytes()[j]) == (step.flops(), step.bytes())


@pytest.mark.parametrize("family", FAMILIES)
def test_chunks_sum_to_the_whole_but_for_the_head(family: str) -> None:
    spec = _spec(family)
    cuts = [0, 13, 14, 200, 517]
    head = 2.0 * spec.decoder.hidden_size * spec.decoder.vocab_size

    def flops(start: int, end: int) -> float:
        stage = program.prefill(spec, new_tokens=end - start, cached_tokens=start, batch=1, options=OPTIONS)
        return float(stage.flops()) - head

    parts = sum(flops(start, end) for start, end in itertools.pairwise(cuts))
    assert parts == pytest.approx(flops(0, 517), rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_prefill_of_one_token_computes_a_decode_step(family: str) -> None:
    spec = _spec(family)
    chunk = program.prefill(spec, new_tokens=1, cached_tokens=99, batch=2, options=OPTIONS)
    step = program.decode_step(spec, context_tokens=100, batch=2, options=OPTIONS)
    assert chunk.flops() == step.flops()
    assert chunk.bytes() == pytest.approx(step.bytes())


@pytest.mark.parametrize("family", FAMILIES)
def test_fusing_changes_neither_flops_nor_adds_kernels_or_bytes(family: str) -> None:
    spec = _spec(family)
    layouts = _layouts(spec)
    for plain, fused in (
        [program.encode(spec, layouts, batch=1, options=options) for options in (OPTIONS, FUSED)],
        [
            program.prefill(spec, new_tokens=50, cached_tokens=0, batch=1, options=options)
            for options in (OPTIONS, FUSED)
        ],
        [program.decode_step(spec, context_tokens=50, batch=1, options=options) for options in (OPTIONS, FUSED)],
    ):
        assert fused.flops() == plain.flops()
        assert fused.launches() < plain.launches()
        assert fused.bytes() < plain.bytes()


def test_sliding_window_caps_what_a_step_reads() -> None:
    config = TINY_CONFIGS["qwen2_5_vl"] | {
        "use_sliding_window": True,
        "sliding_window": 16,
        "max_window_layers": 1,
    }
    spec = read_config(config, name="tiny", image_settings=TINY_IMAGE_SETTINGS)

    def step_bytes(context: int) -> float:
        return float(program.decode_step(spec, context_tokens=context, batch=1, options=OPTIONS).bytes())

    kv_bytes_per_token = 2 * 4 * 2 * 16  # keys and values, fp32, two KV heads of 16
    assert step_bytes(11) - step_bytes(10) == 3 * kv_bytes_per_token
    assert step_bytes(101) - step_bytes(100) == kv_bytes_per_token


def test_no_image_is_ignored_by_a_text_model() -> None:
    whole = _spec("qwen3_vl")
    text = whole.model_copy(update={"vision": None, "connector": None, "image_rule": None})
    with pytest.raises(WorkloadError, match="tiny reads text only, got 2 image"):
        program.image_layouts(text, SIZES[:2])
    assert program.image_layouts(text, []) == ()
    assert program.encode(whole, [], batch=1, options=OPTIONS).components == ()


def test_preprocess_counts_pixels_before_and_after() -> None:
    spec = load_model("Qwen/Qwen3-VL-2B-Instruct")
    sizes = [ImageSize(width=1000, height=1000), ImageSize(width=500, height=2000)]
    (component,) = program.preprocess(sizes, _layouts(spec, sizes)).components
    assert component.features["images"] == 2
    assert component.features["megapixels"] == pytest.approx(2.0)
    resized = (992 * 992 + 512 * 1984) / 10.0**6
    assert component.features["resized_megapixels"] == pytest.approx(resized)
    assert math.isclose(component.features["requests"], 1.0)
