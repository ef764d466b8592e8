"""The image processors of transformers that run on PIL and numpy, one an image rule."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from PIL import Image

from costmodel.errors import DeviceError
from costmodel.image_rules.layout import Rule
from costmodel.specs.model import ModelSpec

__all__ = ["PROCESSED_RULES", "Process", "processor_of"]

Process = Callable[[Image.Image], object]
Settings = Mapping[str, Any]


def _square(side: int) -> dict[str, int]:
    return {"height": side, "width": side}


def _pixels(rule: Any) -> tuple[str, Settings]:
    return "qwen2_vl.Qwen2VL", {
        "patch_size": rule.patch_size,
        "merge_size": rule.merge_size,
        "size": {"shortest_edge": rule.min_pixels, "longest_edge": rule.max_pixels},
    }


def _glm4v(rule: Any) -> tuple[str, Settings]:
    return "glm4v.Glm4v", _pixels(rule)[1]


def _internvl(rule: Any) -> tuple[str, Settings]:
    return "got_ocr2.GotOcr2", {
        "size": _square(rule.tile_size),
        "crop_to_patches": rule.crop_to_patches,
        "min_patches": rule.min_tiles,
        "max_patches": rule.max_tiles,
    }


def _smolvlm(rule: Any) -> tuple[str, Settings]:
    return "smolvlm.SmolVLM", {
        "size": {"longest_edge": rule.longest_edge},
        "max_image_size": {"longest_edge": rule.tile_size},
        "do_image_splitting": rule.split,
    }


def _llava_next(rule: Any) -> tuple[str, Settings]:
    return "llava_next.LlavaNext", {
        "size": {"shortest_edge": rule.tile_size},
        "crop_size": _square(rule.tile_size),
        "image_grid_pinpoints": [list(canvas) for canvas in rule.canvases],
    }


def _llava_onevision(rule: Any) -> tuple[str, Settings]:
    return "llava_onevision.LlavaOnevision", {
        "size": _square(rule.tile_size),
        "image_grid_pinpoints": [list(canvas) for canvas in rule.canvases],
    }


def _fixed(rule: Any) -> tuple[str, Settings]:
    """CLIP resizes the short side and crops, SigLIP resizes both; the class token tells which tower it is."""
    if rule.class_tokens:
        return "clip.CLIP", {"size": {"shortest_edge": rule.tile_size}, "crop_size": _square(rule.tile_size)}
    return "siglip.Siglip", {"size": _square(rule.tile_size)}


def _gemma3(rule: Any) -> tuple[str, Settings]:
    return "gemma3.Gemma3", {
        "size": _square(rule.tile_size),
        "do_pan_and_scan": rule.pan_and_scan,
        "pan_and_scan_min_crop_size": rule.min_crop_size,
        "pan_and_scan_max_num_crops": rule.max_crops,
        "pan_and_scan_min_ratio_to_activate": rule.min_aspect_ratio,
    }


def _gemma4(rule: Any) -> tuple[str, Settings]:
    return "gemma4.Gemma4", {
        "patch_size": rule.patch_size,
        "max_soft_tokens": rule.max_tokens,
        "pooling_kernel_size": rule.pooling_size,
    }


def _pixtral(rule: Any) -> tuple[str, Settings]:
    side = rule.patch_size * rule.merge_size
    return "pixtral.Pixtral", {"patch_size": _square(side), "size": {"longest_edge": rule.longest_edge}}


def _mllama(rule: Any) -> tuple[str, Settings]:
    return "mllama.Mllama", {"size": _square(rule.tile_size), "max_image_tiles": rule.max_tiles}


_BY_RULE: dict[str, Callable[[Any], tuple[str, Settings]]] = {
    "smart_resize": _pixels,
    "glm4v": _glm4v,
    "internvl": _internvl,
    "smolvlm": _smolvlm,
    "llava_next": _llava_next,
    "llava_onevision": _llava_onevision,
    "fixed": _fixed,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "pixtral": _pixtral,
    "mllama": _mllama,
}

PROCESSED_RULES = tuple(sorted(_BY_RULE))
"""Rules whose processor runs here; those of the others need torchvision or come with their checkpoint."""


def processor_of(model: ModelSpec) -> Process:
    """What the model's processor does to one image, from a PIL image to a tensor.

    Raises
    ------
    DeviceError
        If the model reads no images, or its processor can't be run here.
    """
    rule: Rule | None = model.image_rule
    name = getattr(rule, "rule", "")
    if rule is None or name not in _BY_RULE:
        expected = ", ".join(PROCESSED_RULES)
        raise DeviceError(f"{model.name}: no image processor on PIL for rule {name or 'none'!r}; expected {expected}")
    path, settings = _BY_RULE[name](rule)
    folder, _, family = path.partition(".")
    module = importlib.import_module(f"transformers.models.{folder}.image_processing_pil_{folder}")
    processor = getattr(module, f"{family}ImageProcessorPil")(**settings)
    return lambda image: processor(images=[image], return_tensors="pt")
