"""Image rules against the real image processors of transformers: counts at every scale, pixels of small images."""

from __future__ import annotations

import importlib
import importlib.util
import math
import random
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from image_readers import read_rule

from costmodel.errors import WorkloadError
from costmodel.image_rules.layout import MAX_SIDE_PIXELS
from costmodel.specs.images import ImageLayout, ImageSize

Configs = Callable[[str], tuple[dict[str, Any], dict[str, Any]]]
Oracle = Callable[[int, int], dict[str, Any]]
Load = Callable[[str], ModuleType]

EXTREMES = [
    (1, 1), (1, 200), (201, 1), (3, 600), (27, 29), (111, 112), (112, 112), (336, 336), (336, 337), (384, 384),
    (448, 448), (449, 448), (560, 560), (896, 448), (1008, 1344), (8192, 8192), (65535, 65535), (65535, 328),
    (328, 65535), (65535, 1), (1, 65535), (10000, 50), (4096, 4096), (4097, 4096), (3584, 3585), (5000, 2000),
    (2801, 10), (10, 2801), (640, 112), (112, 640), (7140, 20), (7141, 20), (7168, 20), (20, 7100),
]  # fmt: skip


def _sizes(seed: int, *, count: int, low: int = 1, high: int = MAX_SIDE_PIXELS) -> list[tuple[int, int]]:
    """Widths and heights spread evenly in their logarithm."""
    rng = random.Random(seed)
    spread = [math.exp(rng.uniform(math.log(low), math.log(high))) for _ in range(2 * count)]
    return [(round(spread[2 * i]), round(spread[2 * i + 1])) for i in range(count)]


@pytest.fixture(scope="module")
def load(transformers: ModuleType) -> Iterator[Load]:
    """Import a module of transformers' models; of torchvision, only counting needs no more than its name."""
    before = set(sys.modules)
    if importlib.util.find_spec("torchvision") is None:
        functional = ModuleType("torchvision.transforms.v2.functional")
        functional.InterpolationMode = SimpleNamespace()  # type: ignore[attr-defined]
        for name in ("torchvision", "torchvision.transforms", "torchvision.transforms.v2"):
            sys.modules[name] = ModuleType(name)
        sys.modules["torchvision.transforms.v2"].functional = functional  # type: ignore[attr-defined]
        sys.modules["torchvision.transforms.v2.functional"] = functional
        sys.modules["torchvision"].transforms = sys.modules["torchvision.transforms"]  # type: ignore[attr-defined]
        sys.modules["torchvision.transforms"].v2 = sys.modules["torchvision.transforms.v2"]  # type: ignore[attr-defined]
    yield lambda name: importlib.import_module(f"transformers.models.{name}")
    for name in set(sys.modules) - before:
        if name.startswith(("torchvision", "transformers.models.")):
            del sys.modules[name]


def _blank(height: int, width: int) -> Any:
    """An image of any size that takes no memory: channels first."""
    return np.broadcast_to(np.zeros((1, 1, 1), dtype=np.uint8), (3, height, width))


def _qwen(rule: Any, load: Load) -> Oracle:
    processor = load("qwen2_vl.image_processing_pil_qwen2_vl").Qwen2VLImageProcessorPil(
        size={"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
        patch_size=rule.patch_size,
        merge_size=rule.merge_size,
    )
    return lambda height, width: {"patches": processor.get_number_of_image_patches(height, width)}


def _glm4v(rule: Any, load: Load) -> Oracle:
    processor = load("glm4v.image_processing_pil_glm4v").Glm4vImageProcessorPil(
        size={"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
        patch_size=rule.patch_size,
        merge_size=rule.merge_size,
    )
    return lambda height, width: {"patches": processor.get_number_of_image_patches(height, width)}


def _internvl(rule: Any, load: Load) -> Oracle:
    processor = load("got_ocr2.image_processing_pil_got_ocr2").GotOcr2ImageProcessorPil(
        size={"height": rule.tile_size, "width": rule.tile_size},
        crop_to_patches=True,
        min_patches=rule.min_tiles,
        max_patches=rule.max_tiles,
    )
    return lambda height, width: {"tiles": processor.get_number_of_image_patches(height, width)}


def _any_res(processor_module: str, name: str, model_module: str, **fields: Any) -> Callable[[Any, Load], Oracle]:
    def build(rule: Any, load: Load) -> Oracle:
        processor = object.__new__(getattr(load(processor_module), name))
        canvases = [list(canvas) for canvas in rule.canvases]
        side = rule.tile_size // rule.patch_size
        attributes = {"patch_size": rule.patch_size, "num_additional_image_tokens": 0, "num_image_tokens": side**2}
        for key, value in {**attributes, **fields}.items():
            setattr(processor, key, value)
        processor.image_processor = SimpleNamespace(image_grid_pinpoints=canvases)
        tiles = load(model_module).image_size_to_num_patches
        return lambda height, width: {
            "visual_tokens": processor._get_number_of_features(height, width, rule.tile_size, rule.tile_size),
            "tiles": tiles([height, width], canvases, rule.tile_size),
        }

    return build


def _smolvlm(rule: Any, load: Load) -> Oracle:
    processor = load("smolvlm.image_processing_pil_smolvlm").SmolVLMImageProcessorPil(
        size={"longest_edge": rule.longest_edge}, max_image_size={"longest_edge": rule.tile_size}
    )
    prompt = load("smolvlm.processing_smolvlm").get_image_prompt_string

    def count(height: int, width: int) -> dict[str, Any]:
        tiles, rows, columns = processor.get_number_of_image_patches(height, width)
        text = prompt(rows, columns, 0, "F", "I", "G").replace("\n\n", "\n")
        for row in range(rows):
            for column in range(columns):
                text = text.replace(f"<row_{row + 1}_col_{column + 1}>", "T", 1)
        return {"tiles": tiles or 1, "extra_text_tokens": len(text)}

    return count


def _gemma3(rule: Any, load: Load) -> Oracle:
    processor = load("gemma3.image_processing_pil_gemma3").Gemma3ImageProcessorPil()

    def count(height: int, width: int) -> dict[str, Any]:
        crops = processor.pan_and_scan(_blank(height, width), rule.min_crop_size, rule.max_crops, rule.min_aspect_ratio)
        return {"tiles": 1 + len(crops)}

    return count


def _gemma4(rule: Any, load: Load) -> Oracle:
    resize = load("gemma4.processing_gemma4").get_aspect_ratio_preserving_size
    patches = rule.max_tokens * rule.pooling_size**2

    def count(height: int, width: int) -> dict[str, Any]:
        sides = resize(height, width, rule.patch_size, patches, rule.pooling_size)
        return {"patches": math.prod(side // rule.patch_size for side in sides)}

    return count


def _pixtral(rule: Any, load: Load) -> Oracle:
    module = load("pixtral.image_processing_pil_pixtral")
    token_side = rule.patch_size * rule.merge_size

    def count(height: int, width: int) -> dict[str, Any]:
        sides = module.get_resize_output_image_size(
            _blank(height, width), rule.longest_edge, token_side, input_data_format="channels_first"
        )
        if min(sides) < 1:
            raise ValueError("no image is left to resize")
        return {"visual_tokens": math.prod(side // token_side for side in sides), "resized_pixels": math.prod(sides)}

    return count


def _mllama(rule: Any, load: Load) -> Oracle:
    canvas = load("mllama.image_processing_pil_mllama").get_optimal_tiled_canvas

    def count(height: int, width: int) -> dict[str, Any]:
        sides = canvas(height, width, rule.max_tiles, rule.tile_size)
        tiles = math.prod(int(side) // rule.tile_size for side in sides)
        return {"cross_attention_tokens": tiles * 1601, "patches": 4 * 1600, "connector_tokens": 4 * 1601}

    return count


def _llama4(rule: Any, load: Load) -> Oracle:
    import torch
    from transformers.image_utils import SizeDict

    module = load("llama4.image_processing_llama4")
    prompt = load("llama4.processing_llama4").Llama4Processor._prompt_split_image
    side = SizeDict(height=rule.tile_size, width=rule.tile_size)
    canvases = torch.tensor(module.find_supported_resolutions(max_num_chunks=rule.max_tiles, patch_size=side))

    def count(height: int, width: int) -> dict[str, Any]:
        grid = [int(edge) // rule.tile_size for edge in module.get_best_fit((height, width), canvases)]
        tiles = math.prod(grid)
        return {"tiles": tiles + (tiles > 1), "extra_text_tokens": prompt(None, grid, 0).count("<|")}

    return count


def _phi4mm(rule: Any, load: Load) -> Oracle:
    import torch
    from transformers.image_utils import SizeDict

    module = load("phi4_multimodal.image_processing_phi4_multimodal")

    def blank(height: int, width: int) -> Any:
        return torch.zeros((3, 1, 1), dtype=torch.uint8).expand(3, height, width)

    class Counting(module.Phi4MultimodalImageProcessor):  # type: ignore[misc, name-defined]
        """The real one without its resampling: what it counts needs sizes only."""

        resize = staticmethod(lambda image, size, **_: blank(size.height, size.width))
        rescale_and_normalize = staticmethod(lambda image, *_: image)

    module.tvF = SimpleNamespace(
        resize=lambda image, size: blank(*size),
        pad=lambda image, padding, fill: blank(image.shape[1] + padding[3], image.shape[2] + padding[2]),
    )
    processor, side = object.__new__(Counting), SizeDict(height=rule.tile_size, width=rule.tile_size)
    keys = ("do_resize", "resample", "do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")

    def count(height: int, width: int) -> dict[str, Any]:
        out = processor._preprocess(
            [blank(height, width)],
            size=side,
            patch_size=rule.patch_size,
            dynamic_hd=rule.max_crops,
            disable_grouping=None,
            return_tensors=None,
            **dict.fromkeys(keys),
        )
        return {"visual_tokens": out["num_img_tokens"][0], "tiles": out["image_pixel_values"].shape[1]}

    return count


def _kimi_vl(rule: Any, load: Load) -> Oracle:
    """Kimi-VL's own processor comes with its checkpoint; that of Kimi-K2.5 resizes alike."""
    resize = load("kimi_k25.image_processing_kimi_k25").navit_resize

    def count(height: int, width: int) -> dict[str, Any]:
        _, padded = resize(height, width, rule.patch_size, rule.merge_size, rule.max_patches, MAX_SIDE_PIXELS)
        if max(padded) // rule.patch_size >= 512:
            raise ValueError("beyond the position table")
        return {"patches": math.prod(side // rule.patch_size for side in padded)}

    return count


def _minicpmv(rule: Any, load: Load) -> Oracle:
    """MiniCPM-V 2.6's processor comes with its checkpoint; that of 4.6 slices alike, to multiples of four patches."""
    processor = load("minicpmv4_6.image_processing_pil_minicpmv4_6").MiniCPMV4_6ImageProcessorPil()
    quarter = rule.patch_size / 4

    def count(height: int, width: int) -> dict[str, Any]:
        size = (height, width)
        grid = processor.get_sliced_grid(size, rule.max_slices, rule.view_size)
        settings = (rule.view_size, quarter, "16x")
        groups = [(1, *processor.find_best_resize(size, *settings, allow_upscale=grid is None))]
        if grid is not None:
            sides = processor.get_refine_size(size, grid, *settings, allow_upscale=True)
            groups.append((math.prod(grid), sides[0] / grid[0], sides[1] / grid[1]))
        return {"shapes": [(tiles, *(round(side / rule.patch_size) for side in sides)) for tiles, *sides in groups]}

    return count


def _molmo(rule: Any, load: Load) -> Oracle:
    """Molmo's processor comes with its checkpoint; that of Molmo2 cuts and pools images alike."""
    processor = object.__new__(load("molmo2.image_processing_molmo2").Molmo2ImageProcessor)
    settings = {
        "max_crops": rule.max_crops,
        "overlap_margins": [rule.left_margin, rule.right_margin],
        "patch_size": rule.patch_size,
        "pooling_size": [2, 2],
        "size": {"height": rule.tile_size, "width": rule.tile_size},
    }

    def count(height: int, width: int) -> dict[str, Any]:
        grid, crops = processor.get_image_grid_and_crops(height, width, settings)
        return {"visual_tokens": grid[0] * grid[1] + grid[2] * grid[3], "tiles": crops}

    return count


ORACLES: dict[str, Callable[[Any, Load], Oracle]] = {
    "Qwen/Qwen2-VL-7B-Instruct": _qwen,
    "Qwen/Qwen2.5-VL-7B-Instruct": _qwen,
    "Qwen/Qwen3-VL-8B-Instruct": _qwen,
    "Qwen/Qwen3.5-27B": _qwen,
    "zai-org/GLM-4.1V-9B-Thinking": _glm4v,
    "OpenGVLab/InternVL3-8B-hf": _internvl,
    "llava-hf/llava-v1.6-mistral-7b-hf": _any_res(
        "llava_next.processing_llava_next", "LlavaNextProcessor", "llava_next.modeling_llava_next"
    ),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": _any_res(
        "llava_onevision.processing_llava_onevision",
        "LlavaOnevisionProcessor",
        "llava_onevision.modeling_llava_onevision",
        vision_aspect_ratio="anyres_max_9",
    ),
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": _smolvlm,
    "HuggingFaceM4/Idefics3-8B-Llama3": _smolvlm,
    "google/gemma-3-4b-it": _gemma3,
    "google/gemma-4-26B-A4B": _gemma4,
    "mistral-community/pixtral-12b": _pixtral,
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": _pixtral,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": _mllama,
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": _llama4,
    "microsoft/Phi-4-multimodal-instruct": _phi4mm,
    "moonshotai/Kimi-VL-A3B-Instruct": _kimi_vl,
    "openbmb/MiniCPM-V-2_6": _minicpmv,
    "allenai/Molmo-7B-D-0924": _molmo,
}


def _observed(layout: ImageLayout, key: str) -> Any:
    if key == "shapes":
        return [(group.tiles, group.grid_height, group.grid_width) for group in layout.groups]
    return getattr(layout, key)


def _rule_of(name: str, real_configs: Configs) -> Any:
    rule = read_rule(name, *real_configs(name))
    return rule.model_copy(update={"pan_and_scan": True}) if name.startswith("google/gemma-3") else rule


@pytest.mark.parametrize("name", ORACLES)
def test_counts_equal_those_of_the_real_processor(name: str, real_configs: Configs, load: Load) -> None:
    rule = _rule_of(name, real_configs)
    oracle, smallest = ORACLES[name](rule, load), 14 if "Kimi" in name else 1
    sizes = EXTREMES + _sizes(1, count=120, high=3000) + _sizes(2, count=80)
    refused = 0
    for width, height in sizes:
        if min(width, height) < smallest:
            continue
        size = ImageSize(width=width, height=height)
        try:
            expected = oracle(height, width)
        except ValueError:
            refused += 1
            with pytest.raises(WorkloadError, match=f"image {size}: ") as caught:
                rule.layout(size)
            assert "\n" not in str(caught.value)
            continue
        layout = rule.layout(size)
        assert {key: _observed(layout, key) for key in expected} == expected, str(size)
    assert refused < len(sizes) / 2


@pytest.mark.parametrize("frames", [1, 2, 5, 64])
def test_video_patches_of_qwen2_equal_those_of_the_real_processor(
    frames: int, real_configs: Configs, load: Load
) -> None:
    rule = _rule_of("Qwen/Qwen2.5-VL-7B-Instruct", real_configs)
    count = load("qwen2_vl.video_processing_qwen2_vl").Qwen2VLVideoProcessor.get_num_of_video_patches
    settings = SimpleNamespace(
        size={"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
        patch_size=rule.patch_size,
        merge_size=rule.merge_size,
        temporal_patch_size=rule.temporal_patch_size,
    )
    for width, height in ((640, 480), (33, 77), (4000, 300), (5000, 4000), (7, 9)):
        layout = rule.video_layout(ImageSize(width=width, height=height), frames)
        assert layout.patches == count(settings, frames, height, width, {})
