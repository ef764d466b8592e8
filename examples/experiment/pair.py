"""The pair: two Qwen3-VL models of stock transformers classes, a word tokenizer, and folders that hold them.

The small one sees half the resolution of the large one, at the same number of visual tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from task import CELLS, COLOURS, DIRECTIONS, IMAGE_PIXELS, KINDS, MARKS, MAX_STEPS
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

__all__ = ["SIZES", "TOKEN", "WORDS", "build", "image_processor", "save", "tokenizer"]

SPECIAL = ("<pad>", "<end>", "<image>", "<video>", "<vision_start>", "<vision_end>", "<think>", "</think>")
WORDS = (
    *SPECIAL,
    *("short", "reason", "hint"),
    *KINDS,
    *(str(number) for number in range(1, MAX_STEPS + 1)),
    *CELLS,
    *DIRECTIONS,
    *COLOURS,
    *MARKS,
)
TOKEN = {word: number for number, word in enumerate(WORDS)}

HEAD_DIM = 32
# Text width and layers, vision width and layers, side of a patch, side of the picture as it is seen.
SIZES: dict[str, dict[str, int]] = {
    "small": {"width": 128, "layers": 2, "vision_width": 48, "vision_layers": 1, "patch": 3, "side": IMAGE_PIXELS // 2},
    "large": {"width": 160, "layers": 6, "vision_width": 96, "vision_layers": 2, "patch": 6, "side": IMAGE_PIXELS},
}

# One message: the picture, then the words.
_TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }} {% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<vision_start> <image> <vision_end> {% else %}{{ c.text }} {% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)


def build(name: str) -> Any:
    """An untrained model of the pair."""
    size = SIZES[name]
    config = Qwen3VLConfig(
        image_token_id=TOKEN["<image>"],
        video_token_id=TOKEN["<video>"],
        vision_start_token_id=TOKEN["<vision_start>"],
        vision_end_token_id=TOKEN["<vision_end>"],
        text_config={
            "vocab_size": len(WORDS),
            "hidden_size": size["width"],
            "intermediate_size": 3 * size["width"],
            "num_hidden_layers": size["layers"],
            "num_attention_heads": size["width"] // HEAD_DIM,
            "num_key_value_heads": size["width"] // HEAD_DIM,
            "head_dim": HEAD_DIM,
            "max_position_embeddings": 512,
            "initializer_range": 0.05,
            "pad_token_id": TOKEN["<pad>"],
            "eos_token_id": TOKEN["<end>"],
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [6, 5, 5],
                "mrope_interleaved": True,
            },
        },
        vision_config={
            "depth": size["vision_layers"],
            "hidden_size": size["vision_width"],
            "intermediate_size": 4 * size["vision_width"],
            "num_heads": size["vision_width"] // 16,
            "patch_size": size["patch"],
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            "num_position_embeddings": (IMAGE_PIXELS // 6) ** 2,
            "out_hidden_size": size["width"],
            "deepstack_visual_indexes": [],
            "initializer_range": 0.05,
        },
    )
    model = Qwen3VLForConditionalGeneration(config)
    _start_positions(model.model.visual.pos_embed.weight)
    model.generation_config.eos_token_id = TOKEN["<end>"]
    model.generation_config.pad_token_id = TOKEN["<pad>"]
    return model


def _start_positions(weight: torch.Tensor) -> None:
    """Start the grid of positions from sinusoids of row and column: they are learned faster than from noise."""
    side, width = round(len(weight) ** 0.5), weight.shape[1]
    frequency = 1.0 / 100 ** (torch.arange(width // 4) / (width // 4))
    place = torch.arange(side)[:, None] * frequency
    waves = torch.cat([place.sin(), place.cos()], dim=1)
    rows = waves[:, None, :].expand(side, side, -1)
    columns = waves[None, :, :].expand(side, side, -1)
    with torch.no_grad():
        weight.copy_(0.5 * torch.cat([rows, columns], dim=2).reshape(side * side, width))


def image_processor(name: str) -> Any:
    """The stock image processor at the resolution of a model."""
    size = SIZES[name]
    pixels = size["side"] ** 2
    return Qwen2VLImageProcessorPil(
        patch_size=size["patch"],
        merge_size=2,
        size={"shortest_edge": pixels, "longest_edge": pixels},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a word."""
    words = Tokenizer(models.WordLevel(TOKEN, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL[:-2]])
    fast = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>", eos_token="<end>", unk_token="<pad>")
    fast.chat_template = _TEMPLATE
    return fast


def save(model: Any, name: str, folder: Path, *, facts: dict[str, Any]) -> None:
    """Write a model as half-precision safetensors, with everything that loading it needs.

    Parameters
    ----------
    facts
        How it was trained.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    image_processor(name).save_pretrained(folder)
    (folder / "training.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
