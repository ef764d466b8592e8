"""A sweep against one prediction at a time, and against itself cut into other blocks."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_profiles import SMALL, calibrated, preset, slices_of, text_only

from costmodel.errors import ProfileError, UnknownKeyError, WorkloadError
from costmodel.estimate import Estimate
from costmodel.families.sources import preset_names
from costmodel.predict import predict
from costmodel.profiles import EngineProfile, HardwareProfile, load_engine, load_hardware
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload
from costmodel.sweeping import AXES, QUANTITIES, sweep
from costmodel.sweeping import result as sweep_result
from costmodel.sweeping.axes import blocks
from costmodel.sweeping.steps import StepTable, knots

CROSS = "meta-llama/Llama-3.2-11B-Vision-Instruct"
H100, L40S = load_hardware("h100-sxm"), load_hardware("l40s")
VLLM, EAGER = load_engine("vllm-0.7.2"), load_engine("hf-eager")
IMAGES = ["640x480", "none", "1024x768+320x240"]


def _assert_equals_predictions(
    model: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    axes: dict[str, Any],
    interval: float | None,
    **options: Any,
) -> None:
    swept = sweep(model, hardware, engine, **axes, interval=interval, exact=True, **options)
    rows = list(swept)
    assert len(rows) == len(swept) == math.prod(swept.shape)
    for row in rows:
        workload = Workload(**{name: row[name] for name in AXES})
        one = predict(model, hardware, engine, workload, interval=interval, **options)
        for name in QUANTITIES:
            quantity = getattr(one.latency, name)
            assert row[name] == pytest.approx(quantity.value, rel=1e-9, abs=1e-15)
            if interval is not None:
                assert row[f"{name}_low"] == pytest.approx(quantity.low, rel=1e-9, abs=1e-15)
                assert row[f"{name}_high"] == pytest.approx(quantity.high, rel=1e-9, abs=1e-15)
        assert row["memory_bytes"] == pytest.approx(one.memory.total_bytes, rel=1e-12)
        assert row["fits"] == one.memory.fits
        assert row["within_context"] == (not any("beyond the model's" in text for text in one.warnings))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(preset_names()),
    hardware=st.sampled_from([H100, L40S, load_hardware("mi300x")]),
    engine=st.sampled_from([VLLM, EAGER]),
    prompts=st.lists(st.integers(1, 9000), min_size=1, max_size=3),
    outputs=st.lists(st.integers(1, 2000), min_size=1, max_size=3),
    batches=st.lists(st.sampled_from([1, 2, 7, 6, 64]), min_size=1, max_size=3),
    quantization=st.sampled_from(["none", "w4a16"]),
    chunk=st.sampled_from([None, 512]),
    interval=st.sampled_from([None, 0.9]),
)
def test_every_configuration_equals_its_prediction(
    name: str,
    hardware: HardwareProfile,
    engine: EngineProfile,
    prompts: list[int],
    outputs: list[int],
    batches: list[int],
    quantization: str,
    chunk: int | None,
    interval: float | None,
) -> None:
    model = preset(name)
    axes = {
        "images": IMAGES[:2] if model.vision else ["none"],
        "prompt_tokens": prompts,
        "output_tokens": outputs,
        "batch": batches,
    }
    _assert_equals_predictions(model, hardware, engine, axes, interval, quantization=quantization, chunk_tokens=chunk)


@pytest.mark.parametrize("interval", [None, 0.5])
@pytest.mark.parametrize("chunk", [None, 300])
@pytest.mark.parametrize("name", [SMALL, CROSS])
def test_images_and_prefixes_may_be_mixed(name: str, chunk: int | None, interval: float | None) -> None:
    """Cross-attention layers run only where there is an image; passes of a prefill differ in number."""
    axes = {
        "images": IMAGES,
        "prompt_tokens": [30, 300, 1200],
        "cached_prefix_tokens": [0, 29],
        "output_tokens": [1, 40],
        "batch": [1, 6],
    }
    _assert_equals_predictions(preset(name), H100, VLLM, axes, interval, chunk_tokens=chunk, kv_dtype="fp8")


@pytest.mark.parametrize("devices", [2, 4])
def test_devices_that_share_layers(devices: int) -> None:
    axes = {"images": IMAGES[:1], "prompt_tokens": [100], "output_tokens": [50], "batch": [1, 16]}
    _assert_equals_predictions(preset(SMALL), H100, VLLM, axes, 0.9, num_devices=devices)


@pytest.mark.parametrize("only", [None, ("decode.decoder_layer", "preprocess")], ids=["all", "some"])
def test_slices(only: tuple[str, ...] | None) -> None:
    chosen = {} if only is None else {"only": only}
    fitted = slices_of(preset(SMALL), engine_key=VLLM.key, **chosen)  # type: ignore[arg-type]
    hardware = calibrated(slices=[fitted], run_log_sd=0.03)
    axes = {"images": IMAGES[:2], "prompt_tokens": [64, 500], "output_tokens": [2, 47], "batch": [1, 3]}
    _assert_equals_predictions(preset(SMALL), hardware, VLLM, axes, 0.9)


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from([SMALL, CROSS, "google/gemma-3-4b-it", "Qwen/Qwen3-VL-30B-A3B-Instruct"]),
    hardware=st.sampled_from([H100, L40S, load_hardware("mi300x")]),
    prompts=st.lists(st.integers(1, 20_000), min_size=1, max_size=3),
    outputs=st.lists(st.integers(1, 4000), min_size=1, max_size=3),
    interval=st.sampled_from([None, 0.9]),
)
def test_tabulated_steps_are_near_the_exact_ones(
    name: str, hardware: HardwareProfile, prompts: list[int], outputs: list[int], interval: float | None
) -> None:
    """The limit is that of ``predict`` against a loop over steps, see ``test_predict``: laws of tiles have steps."""
    axes: dict[str, Any] = {
        "images": IMAGES, "prompt_tokens": prompts, "output_tokens": outputs, "batch": [1, 6], "interval": interval,
    }  # fmt: skip
    table = sweep(preset(name), hardware, VLLM, **axes)
    exact = sweep(preset(name), hardware, VLLM, exact=True, **axes)
    for column in exact.columns:
        np.testing.assert_allclose(table[column].astype(float), exact[column].astype(float), rtol=5e-3, atol=1e-12)
    for column in ("ttft_s", "encode_s", "memory_bytes"):
        np.testing.assert_array_equal(table[column], exact[column])


def test_tabulated_steps_are_exact_where_steps_are_linear() -> None:
    hardware = calibrated(slices=[slices_of(preset(SMALL), engine_key=VLLM.key)])
    axes: dict[str, Any] = {
        "prompt_tokens": [1, 77, 9000], "output_tokens": [1, 2, 1234], "batch": [1, 6], "interval": 0.9,
    }  # fmt: skip
    table = sweep(preset(SMALL), hardware, VLLM, **axes)
    exact = sweep(preset(SMALL), hardware, VLLM, exact=True, **axes)
    np.testing.assert_allclose(table["total_s"].astype(float), exact["total_s"].astype(float), rtol=1e-9)


@given(first=st.floats(1, 1e5), span=st.floats(0, 1e5), inner=st.floats(0, 1))
def test_sums_of_tabulated_steps_add_up(first: float, span: float, inner: float) -> None:
    """A square's integral, piecewise linear: near the true one, additive, zero over nothing."""
    grid = knots(first, first + span)
    assert grid[0] <= first * (1 + 1e-12)
    assert grid[-1] >= (first + span) * (1 - 1e-12)
    table = StepTable.of(grid, 1, lambda context: Estimate(context**2))
    ends = np.array([first, first + inner * span, first + span])

    def between(low: float, high: float) -> float:
        return float(np.asarray(table.summed(np.array([low]), np.array([[high]])).value_s).item())

    whole = between(ends[0], ends[2])
    assert whole == pytest.approx((ends[2] ** 3 - ends[0] ** 3) / 3, rel=2e-3, abs=1e-6 * grid[-1] ** 3)
    assert between(ends[0], ends[1]) + between(ends[1], ends[2]) == pytest.approx(whole, abs=1e-9 * grid[-1] ** 3)
    assert between(ends[1], ends[1]) == 0.0


@given(shape=st.lists(st.integers(1, 6), min_size=5, max_size=5), most=st.integers(1, 200))
def test_blocks_are_the_outer_product_in_order(shape: list[int], most: int) -> None:
    number = np.arange(math.prod(shape)).reshape(shape)
    parts = [number[block].reshape(-1) for block in blocks(shape, most)]
    assert np.concatenate(parts).tolist() == list(range(number.size))
    assert all(part.size <= most for part in parts)
    assert len(parts) <= 2 * math.ceil(number.size / most) * max(shape)


@pytest.mark.parametrize("block", [1, 7, 50])
def test_the_size_of_a_block_changes_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    axes: dict[str, Any] = {
        "images": IMAGES,
        "prompt_tokens": [30, 300],
        "cached_prefix_tokens": [0, 29],
        "output_tokens": [1, 40, 90],
        "batch": [1, 6],
    }
    whole = sweep(preset(SMALL), H100, VLLM, interval=0.9, **axes)
    monkeypatch.setattr(sweep_result, "BLOCK", block)
    cut = sweep(preset(SMALL), H100, VLLM, interval=0.9, **axes)
    assert set(cut.columns) == set(whole.columns)
    for name in whole.columns:
        np.testing.assert_allclose(cut[name].astype(float), whole[name].astype(float), rtol=1e-12)
    assert cut.sources == whole.sources
    assert cut.warnings == whole.warnings


def test_columns_are_named_arrays_of_the_axes() -> None:
    swept = sweep(preset(SMALL), H100, VLLM, images=IMAGES[:2], prompt_tokens=[1, 2, 3], output_tokens=5)
    assert swept.shape == (2, 3, 1, 1, 1)
    assert swept["total_s"].shape == swept.shape
    assert swept["fits"].dtype == bool
    assert (np.diff(swept["ttft_s"], axis=1) > 0).all()
    with pytest.raises(UnknownKeyError, match="total_s"):
        swept["totl_s"]
    with pytest.raises(ValueError, match="read-only"):
        swept["total_s"][0] = 1.0


def test_a_table_has_a_row_for_every_configuration() -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    swept = sweep(preset(SMALL), H100, VLLM, images=IMAGES, prompt_tokens=[1, 2], output_tokens=[3, 4], batch=[1, 8])
    table = swept.to_table()
    assert table.num_rows == len(swept)
    for row, expected in zip(table.to_pylist(), swept, strict=True):
        assert row["model"] == SMALL
        assert row["images"] == ("+".join(map(str, expected.pop("images"))) or "none")
        assert {name: row[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"prompt_tokens": []}, "prompt_tokens"),
        ({"prompt_tokens": [1.5]}, "whole numbers"),
        ({"prompt_tokens": ["a"]}, "whole numbers"),
        ({"prompt_tokens": [[1]]}, "shape"),
        ({"output_tokens": [0]}, "output_tokens is 0"),
        ({"batch": [-1]}, "batch is -1"),
        ({"prompt_tokens": [2**40]}, "expected 0 to"),
        ({"prompt_tokens": [float("nan")]}, "whole numbers"),
        ({"images": []}, "images is empty"),
        ({"images": ["640"]}, "WIDTHxHEIGHT"),
        ({"images": [7]}, "WIDTHxHEIGHT"),
        ({"images": ["none", "64x64"], "prompt_tokens": [0, 5]}, "the request is empty"),
        ({"cached_prefix_tokens": [0, 10]}, "cached_prefix_tokens is 10"),
        ({"interval": 1.0}, "interval is 1.0"),
        ({"prompt_tokens": np.arange(1, 100_000), "output_tokens": np.arange(1, 100_000)}, "GiB"),
    ],
)
def test_bad_axes_are_refused(axes: dict[str, Any], said: str) -> None:
    given_axes = {"prompt_tokens": [10], "output_tokens": [5], **axes}
    with pytest.raises(WorkloadError, match=said):
        sweep(preset(SMALL), H100, VLLM, **given_axes)


def test_what_a_prediction_refuses_a_sweep_refuses() -> None:
    with pytest.raises(WorkloadError, match="reads text only"):
        sweep(text_only(), H100, VLLM, images=[ImageSize(width=9, height=9)], prompt_tokens=1, output_tokens=1)
    with pytest.raises(WorkloadError, match="divisor"):
        sweep(preset(SMALL), H100, VLLM, prompt_tokens=1, output_tokens=1, num_devices=7)
    with pytest.raises(ProfileError, match="no peak"):
        sweep(preset(SMALL), load_hardware("v100-sxm-16gb"), VLLM, prompt_tokens=1, output_tokens=1)
