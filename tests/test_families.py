"""Model specs against the real models: parameters on torch's meta device, configs of real checkpoints."""

from __future__ import annotations

import copy
import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_CONFIGS, WRITABLE_FAMILIES

from costmodel.errors import ConfigError, UnknownKeyError, UnsupportedArchitectureError
from costmodel.families import read_config, supported_model_types
from costmodel.families.sources import load_model, preset_names
from costmodel.memory import weight_bytes
from costmodel.program import Options
from costmodel.specs.model import ModelSpec

Configs = Callable[[str], tuple[dict[str, Any], dict[str, Any] | None]]


WRITABLE = [name for name in preset_names() if load_model(name).family in (*WRITABLE_FAMILIES, "qwen2_vl")]

# Modules of the real models by the parts that a spec has; the first pattern that a parameter's name holds decides.
PARTS = (
    ("unused", r"audio"),
    ("connector", r"merger|multi_modal_projector|connector|embed_vision|image_newline|vision_adapter|downsample"),
    ("connector", r"img_projection|feature_extensor"),
    ("vision", r"visual|vision_tower|vision_model|img_processor"),
    ("decoder", r""),
)

# Families that transformers does not build: their code is beside the checkpoint.
REMOTE_CODE = ("kimi_vl", "minicpmv", "molmo")


def _parts(model: Any) -> dict[str, int]:
    """Parameters of a real model by the parts that a spec has."""
    parts = Counter[str]()
    for name, parameter in model.named_parameters():
        part = next(part for part, pattern in PARTS if re.search(pattern, name))
        parts[part] += parameter.numel()
    return dict(parts)


def _spec_parts(spec: ModelSpec) -> dict[str, int]:
    parts = {
        "vision": spec.vision.parameters if spec.vision else 0,
        "connector": spec.connector.parameters if spec.connector else 0,
        "decoder": spec.decoder.parameters,
        "unused": spec.unused_parameters,
    }
    assert sum(parts.values()) == spec.parameters
    return {part: count for part, count in parts.items() if count}


@pytest.mark.parametrize("name", WRITABLE)
def test_preset_has_the_parameters_of_the_real_model(name: str, torch: Any, hf_class: Any) -> None:
    from calibrate.measure.hf_config import hf_config

    spec = load_model(name)
    with torch.device("meta"):
        model = hf_class(spec.family)(hf_config(spec))
    assert _parts(model) == _spec_parts(spec)


def _built(config: dict[str, Any], torch: Any, hf_class: Any) -> Any:
    """The real model on the meta device."""
    cls = hf_class(config["model_type"])
    # Its published config does not say that the head has weights of its own, and the class takes it as tied.
    extra = {"tie_word_embeddings": False} if config["model_type"] == "mistral3" else {}
    with torch.device("meta"):
        return cls(cls.config_class(**config, **extra))


@pytest.mark.parametrize("name", [n for n in preset_names() if load_model(n).family not in REMOTE_CODE])
def test_preset_has_the_parameters_that_the_published_config_builds(
    name: str, torch: Any, hf_class: Any, real_configs: Configs
) -> None:
    config, _ = real_configs(name)
    model = _built(config, torch, hf_class)
    spec = load_model(name)
    assert _parts(model) == _spec_parts(spec)
    options = Options("bf16", "bf16", fused=True)
    held = sum(2 * parameter.numel() for parameter in model.parameters())
    assert weight_bytes(spec, options) == held


@pytest.mark.parametrize("family", sorted(TINY_CONFIGS))
def test_tiny_model_has_the_parameters_of_its_spec(family: str, tiny_model: Any) -> None:
    spec = read_config(TINY_CONFIGS[family], name="tiny")
    assert _parts(tiny_model(family)) == _spec_parts(spec)


@pytest.mark.parametrize("name", preset_names())
def test_reading_the_published_config_gives_the_preset(name: str, real_configs: Configs) -> None:
    config, settings = real_configs(name)
    preset = load_model(name)
    assert read_config(config, name=name, image_settings=settings, source=preset.source) == preset


# Parts that FACTS.csv counts with the tower and we count with the connector: Llama 4's adapter, Phi-4's projection.
TOWER_WITH_CONNECTOR = ("llama4", "phi4_multimodal")

# What a published total holds beside the parameters of a model.
EXPLAINED = ("MTP layer", "persistent buffers", "published split", "persisted buffers")


@pytest.mark.parametrize("name", preset_names())
def test_preset_has_the_published_number_of_parameters(name: str, realdata: Path) -> None:
    with (realdata / "configs" / "FACTS.csv").open(newline="") as file:
        facts = {row["repo_id"]: row for row in csv.DictReader(file)}
    if name not in facts:
        pytest.skip(f"{name} has no row in FACTS.csv")
    spec, row = load_model(name), facts[name]
    vision = spec.vision.parameters if spec.vision else 0
    connector = spec.connector.parameters if spec.connector else 0
    tower, projector = int(row["vision_params_meta"]), int(row["projector_params_meta"])
    if spec.family in TOWER_WITH_CONNECTOR:
        assert vision + connector == tower + projector
    else:
        assert (vision, connector) == (tower, projector)
    assert spec.decoder.parameters == int(row["text_params_meta"])
    assert spec.parameters == int(row["total_params_meta_build"].split()[0])
    explained = any(reason in row["note"] for reason in EXPLAINED)
    if row["total_params_published"].isdigit() and not explained:
        assert spec.parameters == int(row["total_params_published"])


@pytest.mark.parametrize("name", WRITABLE)
def test_writing_and_reading_a_transformers_config_is_the_identity(name: str, transformers: Any) -> None:
    from calibrate.measure.hf_config import hf_config

    spec = load_model(name)
    written = json.loads(json.dumps(hf_config(spec).to_dict()))
    assert read_config(written, name=name, source=spec.source) == spec


@pytest.mark.parametrize("family", sorted(TINY_CONFIGS))
@pytest.mark.parametrize(("layers", "blocks"), [(0, 0), (1, 0), (0, 1), (2, 3)])
def test_reduced_depth_runs_for_real(family: str, layers: int, blocks: int, torch: Any, hf_class: Any) -> None:
    from calibrate.measure.hf_config import hf_config

    spec = read_config(TINY_CONFIGS[family], name="tiny")
    config = hf_config(spec, text_layers=layers, vision_blocks=blocks)
    model = hf_class(family)._from_config(config, attn_implementation="eager").eval()
    assert len(model.model.language_model.layers) == layers
    assert len(model.model.visual.blocks) == blocks
    pixels = torch.zeros(24, spec.vision.patch_features)
    ids = torch.tensor([[1] + [config.image_token_id] * 6 + [2]])
    with torch.no_grad():
        out = model(
            input_ids=ids,
            pixel_values=pixels,
            image_grid_thw=torch.tensor([[1, 4, 6]]),
            mm_token_type_ids=(ids == config.image_token_id).int(),
        )
    assert out.logits.shape == (1, 8, spec.decoder.vocab_size)


def test_full_attention_blocks_can_be_chosen(transformers: Any) -> None:
    from calibrate.measure.hf_config import hf_config

    spec = load_model("Qwen/Qwen2.5-VL-3B-Instruct")
    whole = hf_config(spec).vision_config
    assert list(whole.fullatt_block_indexes) == [7, 15, 23, 31]
    assert whole.window_size == 112
    assert list(hf_config(spec, vision_blocks=1).vision_config.fullatt_block_indexes) == []
    one = hf_config(spec, vision_blocks=1, full_attention_blocks=1)
    assert list(one.vision_config.fullatt_block_indexes) == [0]


def test_architecture_facts_of_a_preset() -> None:
    """Facts stated on the model's page, read by a person."""
    spec = load_model("Qwen/Qwen2.5-VL-7B-Instruct")
    attention = spec.decoder.layers[0].attention
    assert (spec.decoder.num_layers, attention.num_heads, attention.num_kv_heads) == (28, 28, 4)
    assert [(group.count, group.attention.window) for group in spec.vision.blocks] == [(28, 8), (4, None)]


@pytest.mark.parametrize("family", sorted(TINY_CONFIGS))
def test_fingerprint_follows_the_architecture_alone(family: str) -> None:
    config = TINY_CONFIGS[family]
    first = read_config(config, name="a", source="here")
    second = read_config(config, name="b", source="there")
    deeper = copy.deepcopy(config)
    deeper["vision_config"]["depth"] += 1
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != read_config(deeper, name="a", source="here").fingerprint()


def test_sliding_window_layers_of_the_decoder_are_read() -> None:
    config = copy.deepcopy(TINY_CONFIGS["qwen2_5_vl"])
    config |= {"use_sliding_window": True, "sliding_window": 16, "max_window_layers": 1}
    groups = read_config(config, name="tiny").decoder.layers
    assert [(group.count, group.attention.window) for group in groups] == [(1, None), (2, 16)]


def test_unknown_preset_lists_the_nearest() -> None:
    with pytest.raises(UnknownKeyError) as caught:
        load_model("Qwen/Qwen3-VL-8B")
    text = str(caught.value)
    assert text.startswith("unknown model 'Qwen/Qwen3-VL-8B'; no preset, and ")
    assert "Qwen/Qwen3-VL-8B-Instruct" in text


@pytest.mark.parametrize("name", ["", "nonsense", "\0", "x" * 5000, "/", "no/such/folder/config.json"])
def test_a_name_that_is_no_model_is_an_unknown_key(name: str) -> None:
    with pytest.raises(UnknownKeyError):
        load_model(name)


def test_unsupported_architecture_names_the_supported_ones() -> None:
    with pytest.raises(UnsupportedArchitectureError) as caught:
        read_config({"model_type": "mamba"}, name="x")
    assert all(model_type in str(caught.value) for model_type in supported_model_types())


def test_settings_that_contradict_the_model_are_an_error() -> None:
    with pytest.raises(ConfigError, match=r"preprocessor_config\.patch_size"):
        read_config(TINY_CONFIGS["qwen3_vl"], name="tiny", image_settings={"patch_size": 14})


def test_an_architecture_beyond_the_transformers_class_is_refused(transformers: Any) -> None:
    from calibrate.measure.hf_config import hf_config

    windowed = TINY_CONFIGS["qwen2_5_vl"] | {
        "use_sliding_window": True,
        "sliding_window": 16,
        "max_window_layers": 1,
    }
    with pytest.raises(UnsupportedArchitectureError, match=r"decoder\.layers: got 2 kinds"):
        hf_config(read_config(windowed, name="tiny"))
    whole = read_config(TINY_CONFIGS["qwen3_vl"], name="tiny")
    text = whole.model_copy(update={"vision": None, "connector": None, "image_rule": None})
    with pytest.raises(UnsupportedArchitectureError, match="vision: got nothing"):
        hf_config(text)
    with pytest.raises(UnknownKeyError, match="unknown family 'mamba'"):
        hf_config(whole.model_copy(update={"family": "mamba"}))
