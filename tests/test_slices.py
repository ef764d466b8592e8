"""Slices of small real models: everything that a prediction asks for, at the sizes that it would ask with."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np
import pytest
from conftest import TINY_CONFIGS, TINY_IMAGE_SETTINGS
from tiny_families import TINY

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")

import torch

from calibrate.engines.local_transformers import LocalModel, random_image
from calibrate.measure.device import CpuDevice
from calibrate.measure.pool import WorkItem
from calibrate.measure.slices import SliceGrid, slice_items
from costmodel import program
from costmodel.errors import DeviceError
from costmodel.families import read_config
from costmodel.program import Component, Options
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec

CONFIGS = TINY_CONFIGS | {"qwen2_vl": TINY["qwen2_vl"].config}
FAMILIES = sorted(CONFIGS)
DEVICE = CpuDevice(threads=1)
OPTIONS = Options("fp32", "fp32", fused=False)
IMAGES = tuple(ImageSize.parse(size) for size in ("50x38", "90x70", "110x120"))
GRID = SliceGrid(images=IMAGES, text_tokens=(9, 33), shell_requests=((IMAGES[0], 5), (IMAGES[2], 21)))


@pytest.fixture(scope="module")
def spec() -> Callable[[str], ModelSpec]:
    def build(family: str) -> ModelSpec:
        config = copy.deepcopy(CONFIGS[family])
        # The words of a prompt need ids of their own.
        config.get("text_config", config)["vocab_size"] = 2048
        return read_config(config, name=f"tiny {family}", image_settings=TINY_IMAGE_SETTINGS)

    return build


@pytest.fixture(scope="module")
def items(spec: Callable[[str], ModelSpec]) -> Callable[[str], dict[str, WorkItem]]:
    built: dict[str, dict[str, WorkItem]] = {}

    def build(family: str) -> dict[str, WorkItem]:
        if family not in built:
            with torch.inference_mode():
                made = slice_items(spec(family), DEVICE, dtype="fp32", engine="hf-eager", grid=GRID, seed=0)
            built[family] = {item.key.rpartition("/fp32/")[2]: item for item in made}
            assert len(built[family]) == len(made), "every item has a key of its own"
        return built[family]

    return build


def _visit(item: WorkItem) -> dict[str, Any]:
    with torch.inference_mode():
        visits = item.visit()
    assert all(visit.latency_s > 0 for visit in visits)
    return {visit.component: visit for visit in visits}


def _stages(spec: ModelSpec, images: list[ImageSize], text: int, context: float) -> dict[str, Component]:
    layouts = program.image_layouts(spec, images)
    prompt = text + sum(layout.visual_tokens + layout.extra_text_tokens for layout in layouts)
    stages = (
        program.preprocess(images, layouts),
        program.encode(spec, layouts, batch=1, options=OPTIONS),
        program.prefill(spec, new_tokens=float(prompt), cached_tokens=0.0, batch=1, options=OPTIONS),
        program.decode_step(spec, context_tokens=context or prompt + 1.0, batch=1, options=OPTIONS),
    )
    return {component.name: component for stage in stages for component in stage.components}


@pytest.mark.parametrize("family", FAMILIES)
def test_components_are_those_that_predictions_ask_for(family: str, spec: Any, items: Any) -> None:
    """Nothing is left to fall back on operator laws."""
    measured = {name for item in items(family).values() for name in _visit(item)}
    assert measured == set(_stages(spec(family), [IMAGES[0]], 7, 0))


def _expected(spec: ModelSpec, key: str) -> dict[str, Component]:
    """The program's components at the sizes that the key of an item names."""
    what, _, size = key.partition("/")
    if what == "shell":
        image, text = size.split("/")
        return _stages(spec, [ImageSize.parse(image)], int(text), 0)
    if what in ("prefill", "decode"):
        return _stages(spec, [], int(size), int(size) + 1.0)
    return _stages(spec, [ImageSize.parse(size)] if size else [], 5, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_are_those_of_the_program(family: str, spec: Any, items: Any) -> None:
    for key, item in items(family).items():
        expected = _expected(spec(family), key)
        for name, visit in _visit(item).items():
            features = dict(visit.fields["features"])
            if key.startswith("shell") and name == "decode.shell":
                # The mean step of the run: between the first and the last context.
                step = features.pop("context_tokens") - expected[name].features["context_tokens"]
                assert 0 <= step < 8
            assert features == {n: pytest.approx(float(np.mean(expected[name].features[n]))) for n in features}
            assert set(visit.fields["features"]) == set(expected[name].features)
        assert item.fields["fingerprint"] == spec(family).fingerprint()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_component_is_measured_at_enough_sizes(family: str, items: Any) -> None:
    sizes: dict[str, set[tuple[float, ...]]] = {}
    for item in items(family).values():
        for name, visit in _visit(item).items():
            sizes.setdefault(name, set()).add(tuple(visit.fields["features"].values()))
    assert len(sizes.pop("head")) == 1
    assert all(len(found) >= 2 for found in sizes.values())


def _watch(monkeypatch: pytest.MonkeyPatch, cls: type, note: Callable[..., Any]) -> list[Any]:
    """What ``note`` makes of the arguments of every call of a module class, the real call included."""
    seen: list[Any] = []
    real = cls.forward  # type: ignore[attr-defined]

    @wraps(real)
    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append(note(self, *args, **kwargs))
        return real(self, *args, **kwargs)

    monkeypatch.setattr(cls, "forward", forward)
    return seen


def _layer_class(family: str) -> Any:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl
    from transformers.models.qwen2_vl import modeling_qwen2_vl
    from transformers.models.qwen3_vl import modeling_qwen3_vl

    return {
        "qwen3_vl": modeling_qwen3_vl.Qwen3VLTextDecoderLayer,
        "qwen2_5_vl": modeling_qwen2_5_vl.Qwen2_5_VLDecoderLayer,
        "qwen2_vl": modeling_qwen2_vl.Qwen2VLDecoderLayer,
    }[family]


@pytest.mark.parametrize("tokens", GRID.text_tokens)
@pytest.mark.parametrize("family", FAMILIES)
def test_replays_leave_the_cache_as_it_was(
    family: str, tokens: int, items: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cached_and_new(layer: Any, hidden: Any, *_: Any, past_key_values: Any, **__: Any) -> tuple[int, int]:
        return past_key_values.get_seq_length(layer.self_attn.layer_idx), hidden.shape[1]

    seen = _watch(monkeypatch, _layer_class(family), cached_and_new)
    for _ in range(3):
        _visit(items(family)[f"decode/{tokens}"])
    assert {new for _, new in seen} == {1}
    assert {cached for cached, _ in seen} == {tokens}
    first_pass = seen[: len(seen) // 3]
    assert first_pass == seen[len(seen) // 3 : 2 * len(seen) // 3]
    seen.clear()
    for _ in range(2):
        _visit(items(family)[f"prefill/{tokens}"])
    assert set(seen) == {(0, tokens)}


def test_window_blocks_are_called_with_windows(spec: Any, items: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl

    def sequences(_: Any, hidden: Any, *__: Any, cu_seqlens: Any, **___: Any) -> list[int]:
        lengths = cu_seqlens.diff().tolist()
        assert sum(lengths) == hidden.shape[0]
        return sorted(lengths)

    seen = _watch(monkeypatch, modeling_qwen2_5_vl.Qwen2_5_VLVisionBlock, sequences)
    vision = spec("qwen2_5_vl").vision
    assert {group.attention.window for group in vision.blocks} == {None, 8}
    for size in IMAGES:
        components = _stages(spec("qwen2_5_vl"), [size], 5, 0)
        for index, group in enumerate(vision.blocks):
            seen.clear()
            name = f"encode.block_{index}"
            _visit(items("qwen2_5_vl")[f"{name}/{size}"])
            attention = [op for op in components[name].ops if op.kind == "attention_encoder"]
            lengths = sorted(int(op.seq_len) for op in attention for _ in range(int(op.batch)))
            assert seen
            assert all(found == lengths for found in seen)
            assert (len(lengths) > 1) == (group.attention.window is not None)


def test_only_models_that_see_and_formats_that_exist(spec: Any) -> None:
    blind = spec("qwen3_vl").model_copy(update={"vision": None, "connector": None, "image_rule": None})
    with pytest.raises(DeviceError, match="vision tower"):
        LocalModel(blind, DEVICE, dtype="fp32")
    with pytest.raises(DeviceError, match="dtype 'fp8': expected one of fp32"):
        LocalModel(spec("qwen3_vl"), DEVICE, dtype="fp8")


@pytest.mark.parametrize("family", FAMILIES)
def test_stages_of_a_real_run_add_up(family: str, spec: Any) -> None:
    model = LocalModel(spec(family), DEVICE, dtype="fp32")
    with torch.inference_mode():
        times = model.run([random_image(IMAGES[1], seed=0)], prompt_tokens=6, output_tokens=5)
    parts = (times.preprocess_s, times.encode_s, times.prefill_s, times.decode_s)
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(times.total_s)
    assert times.ttft_s == pytest.approx(sum(parts[:3]))
    assert times.output_tokens == 5
    assert list(times.token_s) == sorted(times.token_s)
    assert (times.token_s[0], times.token_s[-1]) == (times.ttft_s, times.total_s)
    assert 0 < times.head_prefill_s < times.prefill_s
    assert 0 < times.head_step_s < times.decode_s


@pytest.mark.parametrize("family", FAMILIES)
def test_a_run_has_the_prompt_that_is_predicted(family: str, spec: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def tokens(_: Any, hidden: Any, *__: Any, **___: Any) -> int:
        return int(hidden.shape[1])

    seen = _watch(monkeypatch, _layer_class(family), tokens)
    model = LocalModel(spec(family), DEVICE, dtype="fp32")
    with torch.inference_mode():
        model.run([random_image(IMAGES[1], seed=0)], prompt_tokens=6, output_tokens=3)
    (layout,) = program.image_layouts(spec(family), [IMAGES[1]])
    assert seen == [6 + layout.visual_tokens + layout.extra_text_tokens] * 3 + [1] * 6


def test_a_text_only_run_has_no_encoder(spec: Any) -> None:
    with torch.inference_mode():
        times = LocalModel(spec("qwen3_vl"), DEVICE, dtype="fp32").run([], prompt_tokens=6, output_tokens=1)
    assert times.encode_s == times.decode_s == times.head_step_s == 0.0
    assert times.total_s == times.ttft_s > 0
