"""The rule readers by checkpoint, for the tests of image rules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costmodel.families.reader import ConfigReader
from costmodel.image_rules.fixed import read_llava, read_paligemma
from costmodel.image_rules.gemma3 import read_gemma3
from costmodel.image_rules.gemma4 import read_gemma4
from costmodel.image_rules.glm4v import read_glm4v
from costmodel.image_rules.internvl import read_internvl
from costmodel.image_rules.kimi_vl import read_kimi_vl
from costmodel.image_rules.layout import Rule
from costmodel.image_rules.llama4 import read_llama4
from costmodel.image_rules.llava_next import read_llava_next
from costmodel.image_rules.llava_onevision import read_llava_onevision
from costmodel.image_rules.minicpmv import read_minicpmv
from costmodel.image_rules.mllama import read_mllama
from costmodel.image_rules.molmo import read_molmo
from costmodel.image_rules.phi4mm import read_phi4mm
from costmodel.image_rules.pixtral import read_pixtral
from costmodel.image_rules.smart_resize import read_smart_resize
from costmodel.image_rules.smolvlm import read_smolvlm

Reader = Callable[[ConfigReader, ConfigReader | None, ConfigReader], Rule]

READERS: dict[str, Reader] = {
    "Qwen/Qwen2-VL-7B-Instruct": lambda v, s, c: read_smart_resize(v, s, min_pixels=3136, max_pixels=12845056),
    "Qwen/Qwen2.5-VL-7B-Instruct": lambda v, s, c: read_smart_resize(v, s, min_pixels=3136, max_pixels=12845056),
    "Qwen/Qwen3-VL-8B-Instruct": lambda v, s, c: read_smart_resize(v, s, min_pixels=65536, max_pixels=16777216),
    "Qwen/Qwen3.5-27B": lambda v, s, c: read_smart_resize(v, s, min_pixels=65536, max_pixels=16777216),
    "zai-org/GLM-4.1V-9B-Thinking": lambda v, s, c: read_glm4v(v, s),
    "OpenGVLab/InternVL3-8B-hf": read_internvl,
    "llava-hf/llava-1.5-7b-hf": read_llava,
    "llava-hf/llava-v1.6-mistral-7b-hf": read_llava_next,
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": read_llava_onevision,
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": read_smolvlm,
    "HuggingFaceTB/SmolVLM2-2.2B-Instruct": read_smolvlm,
    "HuggingFaceM4/Idefics3-8B-Llama3": read_smolvlm,
    "google/gemma-3-4b-it": read_gemma3,
    "google/gemma-4-26B-A4B": lambda v, s, c: read_gemma4(v, s),
    "google/paligemma2-3b-pt-224": lambda v, s, c: read_paligemma(v, s),
    "mistral-community/pixtral-12b": read_pixtral,
    "mistralai/Mistral-Small-3.1-24B-Instruct-2503": read_pixtral,
    "meta-llama/Llama-3.2-11B-Vision-Instruct": lambda v, s, c: read_mllama(v, s),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": lambda v, s, c: read_llama4(v, s),
    "microsoft/Phi-4-multimodal-instruct": lambda v, s, c: read_phi4mm(v, s),
    "moonshotai/Kimi-VL-A3B-Instruct": lambda v, s, c: read_kimi_vl(v, s),
    "openbmb/MiniCPM-V-2_6": read_minicpmv,
    "allenai/Molmo-7B-D-0924": lambda v, s, c: read_molmo(s),
}


def read_rule(name: str, config: dict[str, Any], settings: dict[str, Any] | None) -> Rule:
    """Read one checkpoint's rule from its two files."""
    reader = ConfigReader(config)
    vision = reader.child("vision_config") if "vision_config" in config else ConfigReader({}, "vision_config")
    image_settings = None if settings is None else ConfigReader(settings, "preprocessor_config")
    return READERS[name](vision, image_settings, reader)
