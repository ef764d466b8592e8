"""Visual tokens against the real image processor, and every way an image can be wrong."""

from __future__ import annotations

import csv
import math
import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import WorkloadError
from costmodel.families.sources import load_model, preset_names
from costmodel.specs.images import MAX_SIDE_PIXELS, ImageLayout, ImageSize, SmartResize

FAMILIES = {"qwen2_5_vl": "Qwen/Qwen2.5-VL-7B-Instruct", "qwen3_vl": "Qwen/Qwen3-VL-8B-Instruct"}
EXTREME_SIZES = [
    (1, 1),
    (1, 200),
    (200, 1),
    (3, 600),
    (27, 29),
    (56, 56),
    (8192, 8192),
    (65535, 65535),
    (65535, 328),
    (328, 65535),
    (10000, 50),
    (4096, 4096),
    (4097, 4096),
    (3584, 3584),
    (3585, 3584),
]


def _rule(family: str) -> SmartResize:
    rule = load_model(FAMILIES[family]).image_rule
    assert rule is not None
    return rule


def _sizes(seed: int, *, count: int, low: int, high: int) -> list[tuple[int, int]]:
    """Sides spread evenly in their logarithm, aspect ratios that the processor accepts."""
    rng = random.Random(seed)
    sizes: list[tuple[int, int]] = []
    while len(sizes) < count:
        width, height = (round(math.exp(rng.uniform(math.log(low), math.log(high)))) for _ in range(2))
        if max(width, height) <= 200 * min(width, height):
            sizes.append((width, height))
    return sizes


@pytest.fixture(scope="module")
def processors(transformers: Any) -> dict[str, Any]:
    """Build the real image processor with the settings of each family."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    built = {}
    for family in FAMILIES:
        rule = _rule(family)
        built[family] = Qwen2VLImageProcessorPil(
            size={"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
            patch_size=rule.patch_size,
            merge_size=rule.merge_size,
        )
    return built


def _grid(layout: ImageLayout) -> tuple[int, int, int]:
    return (layout.tiles, layout.grid_height, layout.grid_width)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_grid_equals_that_of_the_real_processor(family: str, processors: dict[str, Any]) -> None:
    from PIL import Image

    rule = _rule(family)
    # Few patches are needed to see the grid: small images, up and down to the clamps of a small area.
    small = rule.model_copy(update={"min_pixels": 56 * 56, "max_pixels": 40_000})
    processor = type(processors[family])(
        size={"shortest_edge": small.min_pixels, "longest_edge": small.max_pixels},
        patch_size=rule.patch_size,
        merge_size=rule.merge_size,
    )
    for width, height in _sizes(1, count=100, low=4, high=500):
        image = Image.fromarray(np.zeros((height, width, 3), dtype=np.uint8))
        out = processor.preprocess([image], return_tensors="np")
        layout = small.layout(ImageSize(width=width, height=height))
        assert tuple(out["image_grid_thw"][0]) == _grid(layout), (width, height)
        assert len(out["pixel_values"]) == layout.patches
        assert layout.visual_tokens * rule.merge_size**2 == layout.patches


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_preset_rule_processes_a_photo_like_the_real_processor(family: str, processors: dict[str, Any]) -> None:
    from PIL import Image

    for width, height in ((640, 480), (97, 333), (20, 9)):
        image = Image.fromarray(np.full((height, width, 3), 128, dtype=np.uint8))
        out = processors[family].preprocess([image], return_tensors="np")
        assert tuple(out["image_grid_thw"][0]) == _grid(_rule(family).layout(ImageSize(width=width, height=height)))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_patches_equal_the_real_count_at_every_scale(family: str, processors: dict[str, Any]) -> None:
    rule, processor = _rule(family), processors[family]
    clamped = {"low": 0, "high": 0}
    for width, height in EXTREME_SIZES + _sizes(2, count=300, low=1, high=MAX_SIDE_PIXELS):
        layout = rule.layout(ImageSize(width=width, height=height))
        expected = processor.get_number_of_image_patches(height, width)
        assert layout.patches == expected, (width, height)
        clamped["low"] += width * height < rule.min_pixels
        clamped["high"] += width * height > rule.max_pixels
    assert min(clamped.values()) > 20, "the sizes must reach both clamps"


def test_published_visual_tokens(realdata: Path) -> None:
    with (realdata / "configs" / "VISUAL_TOKENS.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["repo_id"] in preset_names()]
    rows = [row for row in rows if load_model(row["repo_id"]).family in FAMILIES]
    assert len(rows) >= 10
    for row in rows:
        model = load_model(row["repo_id"])
        assert model.image_rule is not None
        size = ImageSize(width=int(row["image_w"]), height=int(row["image_h"]))
        layout = model.image_rule.layout(size)
        assert layout.visual_tokens == int(row["visual_tokens_into_llm"])
        assert layout.patches == int(row["vision_patches_into_encoder"])
        assert row["extra_text_tokens"].startswith(f"+{layout.extra_text_tokens} ")
        assert model.visual_tokens(size.width, size.height) == layout.visual_tokens


def test_halves_round_to_even() -> None:
    # 70 = 2.5 * 28 goes down to 56, 98 = 3.5 * 28 goes up to 112.
    resized = _rule("qwen2_5_vl").resized(ImageSize(width=70, height=98))
    assert (resized.width, resized.height) == (56, 112)


@given(width=st.integers(1, MAX_SIDE_PIXELS), height=st.integers(1, MAX_SIDE_PIXELS))
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_area_stays_near_the_limits(family: str, width: int, height: int) -> None:
    rule = _rule(family)
    size = ImageSize(width=width, height=height)
    if max(width, height) > rule.max_aspect_ratio * min(width, height):
        with pytest.raises(WorkloadError, match="aspect ratio"):
            rule.layout(size)
        return
    resized = rule.resized(size)
    factor = rule.patch_size * rule.merge_size
    assert resized.width % factor == resized.height % factor == 0
    # One side may be as thin as one token, and then the other can't be cut below the limit exactly.
    assert resized.pixels <= max(rule.max_pixels, factor * max(resized.width, resized.height))
    assert resized.pixels >= rule.min_pixels


@pytest.mark.parametrize("side", [0, -1, MAX_SIDE_PIXELS + 1, 10**6])
def test_impossible_side_is_one_clear_line(side: int) -> None:
    for text in (f"{side}x480", f"480x{side}"):
        with pytest.raises(WorkloadError) as caught:
            ImageSize.parse(text)
        message = str(caught.value)
        assert str(side) in message
        assert "\n" not in message


@pytest.mark.parametrize("size", ["1x201", "201x1", "65535x327", "10000x49"])
def test_aspect_ratio_beyond_the_processor_is_refused_as_there(size: str, processors: dict[str, Any]) -> None:
    parsed = ImageSize.parse(size)
    for family in FAMILIES:
        with pytest.raises(WorkloadError, match=f"image {size}: aspect ratio"):
            _rule(family).layout(parsed)
        with pytest.raises(ValueError, match="aspect ratio"):
            processors[family].get_number_of_image_patches(parsed.height, parsed.width)


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "640", "640x", "x480", "640x480x3", "640*480", "64 0x480", "6.4e2x480", "640.0x480",
        "1_0x20", "+640x480", "\u0666\u0664x480", "\u00b2x480", "0x10x20", "axb", "640\u00d7480", "nanxinf",
        "9" * 5000 + "x1", "640x480\n640x480",
    ],
)  # fmt: skip
def test_malformed_text_is_one_clear_line(text: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(WorkloadError) as caught:
            ImageSize.parse(text)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 200


@pytest.mark.parametrize("text", ["640x480", "640X480", " 640 x 480 "])
def test_text_forms_that_are_read(text: str) -> None:
    assert ImageSize.parse(text) == ImageSize(width=640, height=480)


@given(st.text(max_size=12))
def test_parsing_gives_a_size_or_a_workload_error(text: str) -> None:
    try:
        size = ImageSize.parse(text)
    except WorkloadError:
        return
    assert ImageSize.parse(str(size)) == size
