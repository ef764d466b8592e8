"""Image rules against published counts, the real image processors, and every way settings can be wrong."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
from costmodel.specs.images import ImageSize

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
VARIANTS: dict[str, dict[str, Any]] = {
    "crop_to_patches=False (image processor alone, as its preprocessor_config says)": {"crop_to_patches": False},
    "do_pan_and_scan=True, min_crop 256, max 4, ratio 1.2": {"pan_and_scan": True},
}
"""What rows of the table change of the settings; rows with any other remark are as the checkpoint has it."""

Configs = Callable[[str], tuple[dict[str, Any], dict[str, Any]]]


def _read(name: str, config: dict[str, Any], settings: dict[str, Any] | None) -> Rule:
    reader = ConfigReader(config)
    vision = reader.child("vision_config") if "vision_config" in config else ConfigReader({}, "vision_config")
    image_settings = None if settings is None else ConfigReader(settings, "preprocessor_config")
    return READERS[name](vision, image_settings, reader)


@pytest.fixture(scope="module")
def rules(real_configs: Configs) -> dict[str, Rule]:
    """Every rule, as its checkpoint's files have it."""
    return {name: _read(name, *real_configs(name)) for name in READERS}


def test_published_counts(realdata: Path, rules: dict[str, Rule]) -> None:
    with (realdata / "configs" / "VISUAL_TOKENS.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["repo_id"] for row in rows} == set(READERS)
    for row in rows:
        rule = rules[row["repo_id"]].model_copy(update=VARIANTS.get(row["variant"], {}))
        layout = rule.layout(ImageSize(width=int(row["image_w"]), height=int(row["image_h"])))
        assert layout.visual_tokens == int(row["visual_tokens_into_llm"]), row
        assert layout.patches == int(row["vision_patches_into_encoder"]), row
        count = row["extra_text_tokens"].lstrip("+").split(" ")[0]
        if count.isdigit():
            assert layout.extra_text_tokens == int(count), row


def test_settings_may_be_absent(real_configs: Configs, rules: dict[str, Rule]) -> None:
    for name, rule in rules.items():
        config, _ = real_configs(name)
        assert _read(name, config, None) == rule, name
