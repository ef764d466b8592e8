"""A small and a large model sized for the machine at hand, for the demonstration.

On a GPU they are published models. A CPU gets the same architecture in a smaller size: Qwen3-VL configs whose large
member answers a short request in about a second.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from calibrate.measure.device import Device, torch_threads
from costmodel.files import write_atomic

__all__ = ["write_demo_pair"]

# Text width of the small model; the large one is twice as wide. A step up costs about 1.8 times as much.
_WIDTHS = (256, 384, 512, 768)
# Seconds that the GEMM and the stream below took on the machine that the width 384 was chosen on.
_REFERENCE_S = 0.021
_COST_PER_STEP = 1.8
_PUBLISHED = ("Qwen/Qwen3-VL-2B-Instruct", "Qwen/Qwen3-VL-8B-Instruct")


def write_demo_pair(folder: Path, device: Device) -> tuple[str, str]:
    """Write the configs of the pair, where it is not a published one.

    Returns
    -------
    tuple of str
        What to give as ``--model``: small, large.
    """
    if device.kind == "cuda":
        return _PUBLISHED
    width = _width(device)
    pair = (
        ("small", _config(width, text_layers=8, vision_width=256, vision_layers=6)),
        ("large", _config(2 * width, text_layers=12, vision_width=384, vision_layers=8)),
    )
    for name, config in pair:
        write_atomic(folder / name / "config.json", json.dumps(config, indent=1) + "\n")
    return str(folder / "small"), str(folder / "large")


def _width(device: Device) -> int:
    """The width whose cost, by one GEMM and one stream through memory, is nearest to the reference."""
    with torch_threads(device):
        matrix, stream = torch.ones(1024, 1024), torch.ones(25 * 1024 * 1024)
        times = []
        for _ in range(9):
            start = time.perf_counter()
            matrix @ matrix
            stream.sum()
            times.append(time.perf_counter() - start)
    relative = _REFERENCE_S / min(times)
    reference = _WIDTHS.index(384)
    return min(_WIDTHS, key=lambda width: abs(_COST_PER_STEP ** (_WIDTHS.index(width) - reference) / relative - 1))


def _config(width: int, *, text_layers: int, vision_width: int, vision_layers: int) -> dict[str, Any]:
    head_dim = 64
    heads = width // head_dim
    return {
        "architectures": ["Qwen3VLForConditionalGeneration"],
        "model_type": "qwen3_vl",
        "tie_word_embeddings": False,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": heads,
            "num_key_value_heads": max(heads // 3, 1) if heads % 3 == 0 else max(heads // 4, 1),
            "head_dim": head_dim,
            "vocab_size": 16_384,
            "max_position_embeddings": 8192,
            "attention_bias": False,
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": vision_layers,
            "hidden_size": vision_width,
            "intermediate_size": 4 * vision_width,
            "num_heads": vision_width // head_dim,
            "in_channels": 3,
            "num_position_embeddings": 2304,
            "out_hidden_size": width,
            "patch_size": 16,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "deepstack_visual_indexes": [vision_layers * i // 4 for i in (1, 2, 3)],
        },
    }
