"""Image rules against what the real processors make of real pixels, at small settings; and videos."""

from __future__ import annotations

import importlib
import math
import random
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from costmodel.errors import WorkloadError
from costmodel.image_rules.layout import MAX_FRAMES, Rule
from costmodel.specs.images import (
    FixedSize,
    Gemma3Crops,
    Gemma4Resize,
    Glm4vResize,
    ImageSize,
    InternVLTiles,
    KimiVLResize,
    LlavaNextTiles,
    LlavaOnevisionTiles,
    MiniCPMVSlices,
    MllamaTiles,
    PixtralResize,
    SmartResize,
    SmolVLMTiles,
)

CANVASES = tuple((28 * rows, 28 * columns) for rows in range(4, 0, -1) for columns in range(1, 5))
PINPOINTS = [list(canvas) for canvas in CANVASES]
SQUARE = {"height": 28, "width": 28}

# Rule, module and class of the real processor, its settings, and how its output tells tiles and pixels.
CASES: dict[str, tuple[Rule, str, str, dict[str, Any]]] = {
    "smart_resize": (
        SmartResize(patch_size=2, merge_size=2, min_pixels=400, max_pixels=6000),
        "qwen2_vl.image_processing_pil_qwen2_vl",
        "Qwen2VLImageProcessorPil",
        {"size": {"shortest_edge": 400, "longest_edge": 6000}, "patch_size": 2, "merge_size": 2},
    ),
    "glm4v": (
        Glm4vResize(patch_size=2, merge_size=2, min_pixels=400, max_pixels=6000),
        "glm4v.image_processing_pil_glm4v",
        "Glm4vImageProcessorPil",
        {"size": {"shortest_edge": 400, "longest_edge": 6000}, "patch_size": 2, "merge_size": 2},
    ),
    "internvl": (
        InternVLTiles(tile_size=28, patch_size=7, merge_size=2, max_tiles=12),
        "got_ocr2.image_processing_pil_got_ocr2",
        "GotOcr2ImageProcessorPil",
        {"size": SQUARE, "crop_to_patches": True, "max_patches": 12},
    ),
    "fixed clip": (
        FixedSize(tile_size=28, patch_size=7, class_tokens=1),
        "clip.image_processing_pil_clip",
        "CLIPImageProcessorPil",
        {"size": {"shortest_edge": 28}, "crop_size": SQUARE},
    ),
    "fixed siglip": (
        FixedSize(tile_size=28, patch_size=7),
        "siglip.image_processing_pil_siglip",
        "SiglipImageProcessorPil",
        {"size": SQUARE},
    ),
    "llava_next": (
        LlavaNextTiles(tile_size=28, patch_size=7, canvases=CANVASES),
        "llava_next.image_processing_pil_llava_next",
        "LlavaNextImageProcessorPil",
        {"size": {"shortest_edge": 28}, "crop_size": SQUARE, "image_grid_pinpoints": PINPOINTS},
    ),
    "llava_onevision": (
        LlavaOnevisionTiles(tile_size=28, patch_size=7, canvases=CANVASES),
        "llava_onevision.image_processing_pil_llava_onevision",
        "LlavaOnevisionImageProcessorPil",
        {"size": SQUARE, "image_grid_pinpoints": PINPOINTS},
    ),
    "smolvlm": (
        SmolVLMTiles(longest_edge=112, tile_size=28, patch_size=7, merge_size=2),
        "smolvlm.image_processing_pil_smolvlm",
        "SmolVLMImageProcessorPil",
        {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 28}},
    ),
    "smolvlm ragged": (
        SmolVLMTiles(longest_edge=100, tile_size=28, patch_size=7, merge_size=2),
        "smolvlm.image_processing_pil_smolvlm",
        "SmolVLMImageProcessorPil",
        {"size": {"longest_edge": 100}, "max_image_size": {"longest_edge": 28}},
    ),
    "smolvlm whole": (
        SmolVLMTiles(longest_edge=112, tile_size=28, patch_size=7, merge_size=2, split=False),
        "smolvlm.image_processing_pil_smolvlm",
        "SmolVLMImageProcessorPil",
        {"size": {"longest_edge": 112}, "max_image_size": {"longest_edge": 28}, "do_image_splitting": False},
    ),
    "gemma3": (
        Gemma3Crops(
            tile_size=28, patch_size=7, tokens_per_tile=4, pan_and_scan=True, min_crop_size=20, max_crops=4
        ),
        "gemma3.image_processing_pil_gemma3",
        "Gemma3ImageProcessorPil",
        {
            "size": SQUARE,
            "do_pan_and_scan": True,
            "pan_and_scan_min_crop_size": 20,
            "pan_and_scan_max_num_crops": 4,
            "pan_and_scan_min_ratio_to_activate": 1.2,
        },
    ),
    "gemma4": (
        Gemma4Resize(patch_size=2, pooling_size=3, max_tokens=70),
        "gemma4.image_processing_pil_gemma4",
        "Gemma4ImageProcessorPil",
        {"patch_size": 2, "pooling_kernel_size": 3, "max_soft_tokens": 70},
    ),
    "pixtral": (
        PixtralResize(patch_size=4, merge_size=1, longest_edge=60),
        "pixtral.image_processing_pil_pixtral",
        "PixtralImageProcessorPil",
        {"size": {"longest_edge": 60}, "patch_size": {"height": 4, "width": 4}},
    ),
    "pixtral merged": (
        PixtralResize(patch_size=2, merge_size=2, longest_edge=60),
        "pixtral.image_processing_pil_pixtral",
        "PixtralImageProcessorPil",
        {"size": {"longest_edge": 60}, "patch_size": {"height": 4, "width": 4}},
    ),
    "mllama": (
        MllamaTiles(tile_size=28, patch_size=7),
        "mllama.image_processing_pil_mllama",
        "MllamaImageProcessorPil",
        {"size": SQUARE, "max_image_tiles": 4},
    ),
}  # fmt: skip


def _sizes(seed: int, count: int) -> Iterator[ImageSize]:
    rng = random.Random(seed)
    while count:
        width, height = (round(math.exp(rng.uniform(math.log(2), math.log(200)))) for _ in range(2))
        if max(width, height) <= 20 * min(width, height):
            count -= 1
            yield ImageSize(width=width, height=height)


def _read_out(out: Any, rule: Any) -> dict[str, int]:
    """What a processor's output says of one image, in the words of a layout."""
    pixels = out["pixel_values"]
    if "image_grid_thw" in out:
        patches = int(np.prod(out["image_grid_thw"][0]))
        return {"patches": patches, "resized_pixels": patches * rule.patch_size**2}
    if "image_position_ids" in out:
        real = int((out["image_position_ids"][0][:, 0] >= 0).sum())
        tokens = int(out["num_soft_tokens_per_image"][0])
        return {"patches": real, "visual_tokens": tokens, "resized_pixels": pixels[0].size // 3}
    found = {"resized_pixels": np.asarray(pixels).size // 3}
    if "num_tiles" in out:
        states = (rule.tile_size // rule.patch_size) ** 2 + 1
        return {**found, "cross_attention_tokens": out["num_tiles"][0][0] * states}
    return found


@pytest.mark.parametrize("name", CASES)
def test_layouts_equal_what_the_real_processor_makes_of_pixels(name: str, transformers: ModuleType) -> None:
    from PIL import Image

    rule, module, cls, settings = CASES[name]
    processor = getattr(importlib.import_module(f"transformers.models.{module}"), cls)(**settings)
    for size in _sizes(3, 200):
        image = Image.fromarray(np.zeros((size.height, size.width, 3), dtype=np.uint8))
        expected = _read_out(processor.preprocess([image], return_tensors="np"), rule)
        layout = rule.layout(size)
        assert {key: getattr(layout, key) for key in expected} == expected, str(size)


def test_several_images_are_not_tiled_by_llava_onevision(transformers: ModuleType) -> None:
    from PIL import Image
    from transformers.models.llava_onevision.image_processing_pil_llava_onevision import (
        LlavaOnevisionImageProcessorPil,
    )

    rule = CASES["llava_onevision"][0]
    processor = LlavaOnevisionImageProcessorPil(size=SQUARE, image_grid_pinpoints=PINPOINTS)
    images = [Image.fromarray(np.zeros((60, 90, 3), dtype=np.uint8))] * 2
    out = processor.preprocess([images], return_tensors="np")
    layout = rule.layout(ImageSize(width=90, height=60), images_in_prompt=2)
    assert layout.tiles == np.asarray(out["pixel_values"]).shape[1] == 1
    assert layout.visual_tokens == 16 + 1


VIDEO_SIZES = [(640, 480), (1920, 1080), (33, 77), (4000, 300), (224, 224), (7, 9), (3000, 2999)]
VIDEO_RULES: dict[str, tuple[Any, str, str]] = {
    "qwen3_vl": (
        SmartResize(patch_size=16, merge_size=2, min_pixels=1, max_pixels=1, video_limits=(4096, 25_165_824)),
        "qwen3_vl.video_processing_qwen3_vl",
        "Qwen3VLVideoProcessor",
    ),
    "glm4v": (
        Glm4vResize(patch_size=14, merge_size=2),
        "glm4v.video_processing_glm4v",
        "Glm4vVideoProcessor",
    ),
}


@pytest.mark.parametrize("name", VIDEO_RULES)
@pytest.mark.parametrize("frames", [2, 3, 4, 15, 64, 768])
def test_video_patches_equal_those_of_the_real_processor(name: str, frames: int, transformers: ModuleType) -> None:
    rule, module, cls = VIDEO_RULES[name]
    count = getattr(importlib.import_module(f"transformers.models.{module}"), cls).get_num_of_video_patches
    smallest, largest = getattr(rule, "video_limits", None) or (rule.min_pixels, rule.video_max_pixels)
    settings = SimpleNamespace(
        size={"shortest_edge": smallest, "longest_edge": largest},
        patch_size=rule.patch_size,
        merge_size=rule.merge_size,
        temporal_patch_size=2,
        cap_pixels_per_frame=None,
    )
    for width, height in VIDEO_SIZES:
        layout = rule.video_layout(ImageSize(width=width, height=height), frames)
        assert layout.patches == count(settings, frames, height, width, {})
        assert layout.groups[0].sequences == math.ceil(frames / 2)
        assert layout.visual_tokens * 4 == layout.patches
        slices = layout.groups[0].sequences
        assert layout.extra_text_tokens == (8 * slices if name == "qwen3_vl" else 2 + 3 * slices)


def test_video_frames_of_qwen2_have_the_limits_of_images() -> None:
    rule = SmartResize(patch_size=14, merge_size=2, min_pixels=3136, max_pixels=12_845_056)
    size = ImageSize(width=640, height=480)
    image, video = rule.layout(size), rule.video_layout(size, 7)
    assert (video.sequences, video.patches) == (4, 4 * image.patches)
    assert video.extra_text_tokens == image.extra_text_tokens


def test_videos_of_one_tile_a_frame() -> None:
    size = ImageSize(width=640, height=480)
    onevision = LlavaOnevisionTiles(tile_size=384, patch_size=14, canvases=((384, 384),))
    assert onevision.video_layout(size, 8).visual_tokens == 8 * 196 + 1
    internvl = InternVLTiles(tile_size=448, patch_size=14, merge_size=2)
    assert internvl.video_layout(size, 8).visual_tokens == 8 * 256
    smolvlm = SmolVLMTiles(longest_edge=2048, tile_size=512, patch_size=16, merge_size=4)
    assert smolvlm.video_layout(size, 8).visual_tokens == 8 * 64
    gemma4 = Gemma4Resize(patch_size=16, pooling_size=3)
    frame = gemma4.model_copy(update={"max_tokens": 70}).layout(size)
    assert gemma4.video_layout(size, 8).visual_tokens == 8 * frame.visual_tokens


VIDEO: list[Callable[[ImageSize, int], Any]] = [
    SmartResize(patch_size=14, merge_size=2, min_pixels=3136, max_pixels=12_845_056).video_layout,
    Glm4vResize(patch_size=14, merge_size=2).video_layout,
    InternVLTiles(tile_size=448, patch_size=14, merge_size=2).video_layout,
    LlavaOnevisionTiles(tile_size=384, patch_size=14, canvases=((384, 384),)).video_layout,
    SmolVLMTiles(longest_edge=2048, tile_size=512, patch_size=16, merge_size=4).video_layout,
    Gemma4Resize(patch_size=16, pooling_size=3).video_layout,
    FixedSize(tile_size=336, patch_size=14).video_layout,
    KimiVLResize(patch_size=14, merge_size=2).video_layout,
    MiniCPMVSlices(patch_size=14).video_layout,
]


@pytest.mark.parametrize("video", VIDEO)
@pytest.mark.parametrize("frames", [-1, 0, MAX_FRAMES + 1])
def test_impossible_videos_are_one_line(video: Callable[[ImageSize, int], Any], frames: int) -> None:
    with pytest.raises(WorkloadError, match=f"of {frames} frames") as caught:
        video(ImageSize(width=640, height=480), frames)
    assert "\n" not in str(caught.value)
