"""Image rules against published counts, the real image processors, and every way settings can be wrong."""

from __future__ import annotations

import copy
import csv
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_readers import READERS, read_rule
from pydantic import TypeAdapter, ValidationError

from costmodel.errors import ConfigError, WorkloadError
from costmodel.image_rules.layout import Rule
from costmodel.specs.images import MAX_SIDE_PIXELS, ImageLayout, ImageRule, ImageSize

VARIANTS: dict[str, dict[str, Any]] = {
    "crop_to_patches=False (image processor alone, as its preprocessor_config says)": {"crop_to_patches": False},
    "do_pan_and_scan=True, min_crop 256, max 4, ratio 1.2": {"pan_and_scan": True},
}
"""What rows of the table change of the settings; rows with any other remark are as the checkpoint has it."""

Configs = Callable[[str], tuple[dict[str, Any], dict[str, Any]]]


@pytest.fixture(scope="module")
def rules(real_configs: Configs) -> dict[str, Rule]:
    """Every rule, as its checkpoint's files have it."""
    return {name: read_rule(name, *real_configs(name)) for name in READERS}


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


def test_lengths_in_the_encoder(rules: dict[str, Rule]) -> None:
    """Sequences and their length, class tokens and padding included."""
    expected = {
        "OpenGVLab/InternVL3-8B-hf": [(13, 1025)],
        "llava-hf/llava-1.5-7b-hf": [(1, 577)],
        "google/gemma-4-26B-A4B": [(1, 2520)],
        "meta-llama/Llama-3.2-11B-Vision-Instruct": [(1, 4 * 1608)],
        "meta-llama/Llama-4-Scout-17B-16E-Instruct": [(5, 577)],
        "openbmb/MiniCPM-V-2_6": [(1, 37 * 28), (2, 26 * 39)],
        "allenai/Molmo-7B-D-0924": [(7, 577)],
    }
    for name, lengths in expected.items():
        groups = rules[name].layout(ImageSize(width=640, height=480)).groups
        assert [(group.sequences, group.sequence_tokens) for group in groups] == lengths, name


def test_settings_may_be_absent(real_configs: Configs, rules: dict[str, Rule]) -> None:
    for name, rule in rules.items():
        config, _ = real_configs(name)
        assert read_rule(name, config, None) == rule, name


def test_every_checkpoint_of_these_families_is_read(realdata: Path, real_configs: Configs) -> None:
    def kind(config: dict[str, Any]) -> tuple[str, bool]:
        return config["model_type"].removesuffix("_moe"), config.get("vision_config", {}).get("model_type") == "pixtral"

    families = {kind(real_configs(name)[0]): name for name in READERS}
    read = 0
    for path in sorted((realdata / "configs").glob("*.preprocessor_config.json")):
        config, settings = real_configs(path.name.removesuffix(".preprocessor_config.json"))
        rule = read_rule(families[kind(config)], config, settings)
        assert rule.layout(ImageSize(width=640, height=480)).visual_tokens
        read += 1
    assert read >= 45


@pytest.mark.parametrize("name", READERS)
def test_spec_files_name_the_rule(name: str, rules: dict[str, Rule]) -> None:
    adapter = TypeAdapter(ImageRule)
    rule = rules[name]
    assert adapter.validate_json(adapter.dump_json(rule)) == rule
    with pytest.raises(ValidationError, match="no image rule has this name"):
        adapter.validate_python({**rule.model_dump(), "rule": "other"})


@pytest.mark.parametrize("name", READERS)
@given(width=st.integers(1, MAX_SIDE_PIXELS), height=st.integers(1, MAX_SIDE_PIXELS), images=st.integers(1, 5))
def test_a_layout_is_consistent_or_the_image_refused_in_one_line(
    name: str, rules: dict[str, Rule], width: int, height: int, images: int
) -> None:
    size = ImageSize(width=width, height=height)
    layout = _layout_or_line(rules[name], size, images)
    if isinstance(layout, str):
        assert layout.startswith(f"image {size}: ")
        assert "\n" not in layout
        return
    assert layout.visual_tokens <= max(layout.connector_tokens, layout.patches) * 2
    assert layout.connector_tokens <= layout.patches + layout.tiles
    for group in layout.groups:
        assert group.tiles == group.sequences * group.tiles_per_sequence
        assert group.sequence_tokens * group.sequences >= group.patches
    assert layout.resized_pixels >= layout.patches
    assert sum(group.patches for group in layout.groups) == layout.patches


def _layout_or_line(rule: Rule, size: ImageSize, images: int) -> ImageLayout | str:
    try:
        return rule.layout(size, images)
    except WorkloadError as error:
        return str(error)


@pytest.mark.parametrize("name", READERS)
def test_a_changed_spec_file_is_refused_or_works(name: str, rules: dict[str, Rule]) -> None:
    adapter, fields = TypeAdapter(ImageRule), rules[name].model_dump()
    refused = 0
    for key in fields:
        for value in [*BAD_VALUES, 2, 5, 17, 4096, 2**40]:
            try:
                rule = adapter.validate_python({**fields, key: value})
            except ValidationError:
                refused += 1
                continue
            for size in (ImageSize(width=300, height=200), ImageSize(width=9000, height=100)):
                _layout_or_line(rule, size, 1)
    assert refused >= 10 * len(fields)


# (smaller image, larger image) in which the larger one makes fewer visual tokens: stated in the rules' docstrings.
NOT_MONOTONE = {
    "OpenGVLab/InternVL3-8B-hf": ((480, 360), (1024, 1024)),
    "llava-hf/llava-v1.6-mistral-7b-hf": ((1024, 1024), (1680, 2240)),
    "llava-hf/llava-onevision-qwen2-7b-ov-hf": ((1024, 1024), (1680, 2240)),
    "HuggingFaceTB/SmolVLM2-500M-Video-Instruct": ((224, 224), (1680, 2240)),
    "google/gemma-4-26B-A4B": ((640, 480), (1024, 1024)),
    "mistral-community/pixtral-12b": ((1024, 1024), (1024, 2048)),
    "meta-llama/Llama-4-Scout-17B-16E-Instruct": ((1024, 1024), (1680, 2240)),
    "microsoft/Phi-4-multimodal-instruct": ((3902, 4717), (4075, 5431)),
    "moonshotai/Kimi-VL-A3B-Instruct": ((2992, 4885), (3961, 5798)),
    "openbmb/MiniCPM-V-2_6": ((3997, 2935), (4621, 3229)),
    "allenai/Molmo-7B-D-0924": ((2959, 2786), (5520, 2790)),
    "Qwen/Qwen2.5-VL-7B-Instruct": ((4704, 3444), (4736, 3855)),
    "zai-org/GLM-4.1V-9B-Thinking": ((4456, 1510), (4668, 1894)),
}


@pytest.mark.parametrize("name", NOT_MONOTONE)
def test_a_larger_image_can_be_fewer_tokens(name: str, rules: dict[str, Rule]) -> None:
    smaller, larger = (
        rules[name].layout(ImageSize(width=width, height=height)).visual_tokens for width, height in NOT_MONOTONE[name]
    )
    assert larger < smaller


def test_rules_without_a_limit_on_tiles_say_that_they_are_not_monotone(rules: dict[str, Rule]) -> None:
    for name, rule in rules.items():
        if rule.rule != "fixed":  # type: ignore[attr-defined]
            assert "monotone" in (type(rule).__doc__ or ""), name


BAD_VALUES = [None, True, -1, 0, 3, 1.5, 2**31, 10**50, "x", "", [], [1], [[]], [0, 0], {}, {"height": "x"}, math.nan]


@pytest.mark.parametrize("name", READERS)
def test_unusable_settings_are_errors_that_name_the_field(name: str, real_configs: Configs) -> None:
    config, settings = real_configs(name)
    refused = 0
    for part, path in _fields(config, settings):
        for value in BAD_VALUES:
            changed = copy.deepcopy([config, settings])
            node = changed[part]
            for key in path[:-1]:
                node = node[key]
            node[path[-1]] = value
            error = _error_of(name, *changed)
            if error is None:
                continue
            refused += 1
            possible = value is None or (type(value) is int and value > 0)  # then another field may contradict it
            assert possible or any(part in error.path for part in path if part != "vision_config"), str(error)
            assert str(error).isprintable()
            assert len(str(error)) < 300
    assert refused > 10


def _error_of(name: str, config: dict[str, Any], settings: dict[str, Any]) -> ConfigError | None:
    try:
        rule = read_rule(name, config, settings)
    except ConfigError as error:
        return error
    _layout_or_line(rule, ImageSize(width=300, height=200), 1)
    return None


def _fields(config: dict[str, Any], settings: dict[str, Any]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Part (0 config, 1 image settings) and path of every field that may matter to a rule."""
    for part, tree in enumerate((config, settings)):
        for key, value in tree.items():
            if key not in ("text_config", "vision_config"):
                yield part, (key,)
            if isinstance(value, dict) and key != "text_config":
                yield from ((part, (key, inner)) for inner in value)
