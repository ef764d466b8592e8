"""Videos through a prediction: sizes, tokens, work, and models that read none."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_families import TINY, layout
from torch_count import counted

from costmodel import ImageSize, Workload, load_engine, load_hardware, load_model, predict, program
from costmodel.errors import WorkloadError
from costmodel.families import read_config
from costmodel.families.sources import preset_names
from costmodel.program import Options
from costmodel.specs.images import VideoSize

PLAIN = Options("bf16", "bf16", fused=True)
ONE_OF_EACH = sorted({load_model(name).family: name for name in preset_names()}.values())
CLIP = VideoSize(width=640, height=480, frames=16)


def _reads_videos(name: str) -> bool:
    try:
        program.image_layouts(load_model(name), (), [CLIP])
    except WorkloadError:
        return False
    return True


READERS = [name for name in ONE_OF_EACH if _reads_videos(name)]


def test_families_that_take_videos() -> None:
    families = {load_model(name).family for name in READERS}
    assert families == {
        "gemma4", "glm4v", "glm4v_moe", "internvl", "llava_onevision", "qwen2_5_vl", "qwen2_vl", "qwen3_5",
        "qwen3_5_moe", "qwen3_vl", "qwen3_vl_moe", "smolvlm",
    }  # fmt: skip


@pytest.mark.parametrize("name", [name for name in ONE_OF_EACH if name not in READERS])
def test_a_video_is_never_ignored(name: str) -> None:
    with pytest.raises(WorkloadError, match=r"reads (images|text) only"):
        program.image_layouts(load_model(name), (), [CLIP])


@given(name=st.sampled_from(READERS), frames=st.integers(2, 128), more=st.integers(0, 64))
@settings(max_examples=40)
def test_tokens_grow_with_frames(name: str, frames: int, more: int) -> None:
    """Not quite monotone where all frames share a budget: rounding a side down may cost a few tokens."""
    model = load_model(name)
    few, many = (
        program.image_layouts(model, (), [VideoSize(width=320, height=240, frames=count)])[0]
        for count in (frames, frames + more)
    )
    assert many.visual_tokens >= 0.9 * few.visual_tokens
    work = [float(program.encode(model, [each], batch=1, options=PLAIN).flops()) for each in (few, many)]
    assert 0 < work[0] <= work[1] * 1.2


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen3_vl_moe", "qwen3_5", "glm4v"])
def test_slices_of_a_video_see_themselves_alone(name: str, torch: Any, hf_class: Any) -> None:
    config = TINY[name].config
    cls = hf_class(config["model_type"])
    model = cls._from_config(cls.config_class(**config), attn_implementation="eager").eval()
    measured, _ = counted(lambda: model.get_video_features(torch.randn(3 * 48, 96), torch.tensor([[3, 6, 8]])))
    stage = program.encode(
        read_config(config, name="x"), [layout(3, 6, 8, 36)], batch=1, options=Options("fp32", "fp32", fused=False)
    )
    assert float(stage.flops(dense=True)) == pytest.approx(measured, rel=0.01)


def test_predict_prices_every_frame() -> None:
    model, hardware, engine = (
        load_model("Qwen/Qwen2.5-VL-7B-Instruct"),
        load_hardware("h100-sxm"),
        load_engine("vllm-0.7.2"),
    )
    image = ImageSize(width=640, height=480)
    video = predict(model, hardware, engine, Workload(videos=(CLIP,), prompt_tokens=50, output_tokens=20))
    one = predict(model, hardware, engine, Workload(images=(image,), prompt_tokens=50, output_tokens=20))
    # Two frames are a slice, and each slice has as many tokens as an image.
    assert video.visual_tokens == (8 * one.visual_tokens[0],)
    assert video.latency.encode_s.value > 4 * one.latency.encode_s.value
    # Sixteen frames to read and resize, of one picture.
    frames = engine.megapixel_s.value * 16 * 640 * 480 / 1e6
    assert video.latency.preprocess_s.value >= engine.request_s.value + engine.image_s.value + frames
    assert any("videos" in warning for warning in video.warnings)
    both = predict(
        model, hardware, engine, Workload(images=(image,), videos=(CLIP,), prompt_tokens=50, output_tokens=20)
    )
    assert both.visual_tokens == (*one.visual_tokens, *video.visual_tokens)


@pytest.mark.parametrize(
    "text", ["640x480", "640x480x", "640x480x0", "0x480x3", "640x480x3x4", "axbxc", "640x480x70000"]
)
def test_impossible_videos_are_one_line(text: str) -> None:
    with pytest.raises(WorkloadError) as caught:
        VideoSize.parse(text)
    assert str(caught.value).isprintable()


def test_the_command_line_takes_videos() -> None:
    command = [sys.executable, "-m", "costmodel.cli", "predict", "--model", "Qwen/Qwen3-VL-8B-Instruct"]
    command += ["--hardware", "h100-sxm", "--engine", "vllm-0.7.2", "--prompt-tokens", "100", "--output-tokens", "10"]
    command += ["--video", "640x480x32", "--video", "320x240x8", "--format", "json"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert len(printed["visual_tokens"]) == 2
    assert printed["workload"]["videos"][1] == {"width": 320, "height": 240, "frames": 8}
