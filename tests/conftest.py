"""Fixtures shared by all tests. Heavy libraries are imported only by the tests that ask for them."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import settings

# Before numpy or torch start their threads: a test run shares its machine with timings.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

# The same examples on every machine, and no limit on their time: the machine may be busy.
settings.register_profile("repo", deadline=None, derandomize=True, database=None)
settings.load_profile("repo")

REPO = Path(__file__).resolve().parent.parent
REALDATA = REPO.parent / "shared" / "realdata"
PACKAGES = ("costmodel", "calibrate")

TINY_VISION_SIZES = ((24, 40), (72, 48), (56, 104), (8, 8), (24, 40))
"""Image sizes (width, height) that the tiny models read; windows of 8 patches end raggedly on most."""

_TINY_QWEN3 = {
    "model_type": "qwen3_vl",
    "image_token_id": 150,
    "video_token_id": 151,
    "vision_start_token_id": 152,
    "vision_end_token_id": 153,
    "tie_word_embeddings": False,
    "text_config": {
        "attention_bias": False,
        "head_dim": 24,
        "hidden_size": 64,
        "intermediate_size": 112,
        "max_position_embeddings": 4096,
        "num_attention_heads": 6,
        "num_hidden_layers": 3,
        "num_key_value_heads": 2,
        "vocab_size": 160,
        "rope_parameters": {"rope_type": "default", "mrope_section": [4, 4, 4], "mrope_interleaved": True},
        "pad_token_id": None,
    },
    "vision_config": {
        "deepstack_visual_indexes": [0, 2],
        "depth": 4,
        "hidden_size": 48,
        "in_channels": 3,
        "intermediate_size": 80,
        "num_heads": 3,
        "num_position_embeddings": 64,
        "out_hidden_size": 64,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    },
}

_TINY_QWEN2_5 = {
    "model_type": "qwen2_5_vl",
    "image_token_id": 150,
    "video_token_id": 151,
    "vision_start_token_id": 152,
    "vision_end_token_id": 153,
    "hidden_size": 96,
    "intermediate_size": 112,
    "max_position_embeddings": 4096,
    "max_window_layers": 3,
    "num_attention_heads": 6,
    "num_hidden_layers": 3,
    "num_key_value_heads": 2,
    "vocab_size": 160,
    "tie_word_embeddings": True,
    "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    "sliding_window": None,
    "use_sliding_window": False,
    "bos_token_id": None,
    "eos_token_id": None,
    "vision_config": {
        "depth": 5,
        "fullatt_block_indexes": [1, 4],
        "hidden_size": 48,
        "in_chans": 3,
        "intermediate_size": 80,
        "num_heads": 3,
        "out_hidden_size": 96,
        "patch_size": 4,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 32,
    },
}

WRITABLE_FAMILIES = ("qwen2_5_vl", "qwen3_vl")
"""Families whose transformers config can be written from a spec: those that slices measure."""

TINY_CONFIGS: dict[str, dict[str, Any]] = {"qwen3_vl": _TINY_QWEN3, "qwen2_5_vl": _TINY_QWEN2_5}
TINY_IMAGE_SETTINGS = {"patch_size": 4, "merge_size": 2, "min_pixels": 64, "max_pixels": 16384}


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of published measurements and configs, which is not part of the repository."""
    if not REALDATA.is_dir():
        pytest.skip("the folder of published data is absent (../shared/realdata beside the repository)")
    return REALDATA


@pytest.fixture(scope="session")
def real_configs(realdata: Path) -> Callable[[str], tuple[dict[str, Any], dict[str, Any] | None]]:
    """``config.json`` and, where there is one, ``preprocessor_config.json`` of a checkpoint, by its hub id."""

    def read(name: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        stem = realdata / "configs" / name.replace("/", "--")
        config, settings = Path(f"{stem}.json"), Path(f"{stem}.preprocessor_config.json")
        return json.loads(config.read_text()), json.loads(settings.read_text()) if settings.is_file() else None

    return read


@pytest.fixture(scope="session")
def torch() -> ModuleType:
    """Torch on one thread."""
    module = pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
    module.set_num_threads(1)
    return module


@pytest.fixture(scope="session")
def transformers(torch: ModuleType) -> ModuleType:
    """Import transformers, with torch on one thread."""
    return pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")


@pytest.fixture(scope="session")
def hf_class(transformers: ModuleType) -> Callable[[str], Any]:
    """Model class of a family."""
    from transformers.models.auto import modeling_auto as auto

    names = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES | auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    return lambda family: getattr(transformers, names[family])


@pytest.fixture(scope="session")
def tiny_model(transformers: ModuleType, torch: ModuleType, hf_class: Callable[[str], Any]) -> Callable[[str], Any]:
    """Build a small real model of a family on the CPU, from :data:`TINY_CONFIGS`, by transformers itself."""
    built: dict[str, Any] = {}

    def build(family: str) -> Any:
        if family not in built:
            torch.manual_seed(0)
            cls = hf_class(family)
            config = cls.config_class(**copy.deepcopy(TINY_CONFIGS[family]))
            built[family] = cls._from_config(config, attn_implementation="eager").eval()
        return built[family]

    return build
