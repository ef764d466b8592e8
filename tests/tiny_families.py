"""Small models of every family that transformers builds: a config, one image for its tower, and its layout."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tiny_parts as parts

from costmodel.specs.images import ImageLayout, TileGroup


@dataclass(frozen=True)
class Tiny:
    """A small model.

    Attributes
    ----------
    encode
        Calls the tower and the connector of the real model on random pixels.
    layout
        What the call gives them to do.
    encode_more
        FLOPs of the real call that a stage leaves out on purpose.
    every_expert
        Whether transformers multiplies every token with every expert.
    """

    config: dict[str, Any]
    encode: Callable[[Any, Any], Any] | None = None
    layout: ImageLayout | None = None
    encode_more: int = 0
    every_expert: bool = False


def layout(
    tiles: int, height: int, width: int, tokens: int, *, classes: int = 0, padding: int = 0, together: int = 1
) -> ImageLayout:
    """Tiles of ``height`` by ``width`` patches, ``tokens`` rows out of the connector."""
    group = TileGroup(
        tiles=tiles,
        grid_height=height,
        grid_width=width,
        class_tokens=classes,
        padding_tokens=padding,
        tiles_per_sequence=together,
    )
    return ImageLayout(
        groups=(group,), visual_tokens=tokens, connector_tokens=tokens, extra_text_tokens=0, resized_pixels=1
    )


def _grid(torch: Any, model: Any) -> Any:
    """Patches of 6 by 8 of one image, as the Qwen and GLM families take them."""
    return model.get_image_features(torch.randn(48, 96), torch.tensor([[1, 6, 8]]))


def _tiles(count: int) -> Callable[[Any, Any], Any]:
    return lambda torch, model: model.get_image_features(torch.randn(count, 3, 24, 24))


def _anyres(torch: Any, model: Any) -> Any:
    """Two tiles side by side and the whole image, as the LLaVA families take them."""
    return model.get_image_features(torch.randn(1, 3, 3, 24, 24), torch.tensor([[24, 48]]))


def _pixtral(torch: Any, model: Any) -> Any:
    return model.get_image_features(torch.randn(1, 3, 16, 24), image_sizes=torch.tensor([[16, 24]]))


def _idefics(torch: Any, model: Any) -> Any:
    return model.get_image_features(torch.randn(1, 3, 3, 24, 24), torch.ones(1, 3, 24, 24, dtype=torch.bool))


def _llama4(torch: Any, model: Any) -> Any:
    features = model.get_image_features(torch.randn(3, 3, 24, 24), vision_feature_select_strategy="default")
    states = features.pooler_output if hasattr(features, "pooler_output") else features
    states = states if states is not None else features.last_hidden_state
    return model.multi_modal_projector(states.reshape(-1, states.shape[-1]))


def _mllama(torch: Any, model: Any) -> Any:
    pixels = torch.randn(1, 1, 4, 3, 24, 24)
    states = model.model.vision_model(
        pixel_values=pixels,
        aspect_ratio_ids=torch.tensor([[1]]),
        aspect_ratio_mask=torch.ones(1, 1, 4, dtype=torch.long),
    ).last_hidden_state
    return model.model.multi_modal_projector(states)


def _phi(torch: Any, model: Any) -> Any:
    image = model.model.embed_tokens_extend.image_embed
    features = image.get_img_features(torch.randn(3, 3, 24, 24), attention_mask=torch.ones(3, 6, 6, dtype=torch.bool))
    return image.img_projection_down(image.img_projection_up(features))


def _gemma4(torch: Any, model: Any) -> Any:
    rows, columns = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    positions = torch.stack([columns.flatten(), rows.flatten()], dim=-1)[None]
    return model.get_image_features(torch.rand(1, 36, 48), positions)


def _vision(text: dict[str, Any], vision: dict[str, Any], **top: Any) -> dict[str, Any]:
    return {
        "text_config": text,
        "vision_config": vision,
        "image_token_id": parts.IMAGE_TOKEN,
        "tie_word_embeddings": False,
    } | top


# SigLIP's pooling head, which transformers runs for Phi-4 and whose result nobody reads: keys and values of all
# patches, query and output of one probe, its attention, its MLP; for each of three tiles.
_PHI_HEAD = 3 * (2 * 2 * 36 * 48 * 48 + 2 * 2 * 48 * 48 + 4 * 36 * 48 + 2 * 2 * 48 * 80)

TINY: dict[str, Tiny] = {
    "gemma": Tiny({**parts.TEXT, "model_type": "gemma"}),
    "gemma2": Tiny({**parts.TEXT, "model_type": "gemma2", "sliding_window": 16}),
    "gemma3_text": Tiny({**parts.TEXT, "model_type": "gemma3_text", "sliding_window": 16, "num_hidden_layers": 7}),
    "llama": Tiny(parts.LLAMA),
    "mistral": Tiny({**parts.TEXT, "model_type": "mistral", "sliding_window": None}),
    "phi3": Tiny({**parts.TEXT, "model_type": "phi3"}),
    "qwen2": Tiny(parts.QWEN_2),
    "qwen3": Tiny({**parts.TEXT, "model_type": "qwen3"}),
    "qwen3_moe": Tiny({**parts.TEXT, **parts.EXPERTS, "model_type": "qwen3_moe", "mlp_only_layers": [1]}),
    "deepseek_v3": Tiny(parts.DEEPSEEK),
    "qwen2_vl": Tiny(
        _vision(
            {**parts.TEXT, **parts.MROPE},
            {**parts.GRID, "embed_dim": 48, "hidden_size": parts.WIDTH, "mlp_ratio": 2, "model_type": "qwen2_vl"},
            model_type="qwen2_vl",
        ),
        _grid,
        layout(1, 6, 8, 12),
    ),
    "qwen3_vl_moe": Tiny(
        _vision({**parts.TEXT, **parts.EXPERTS, **parts.MROPE}, parts.QWEN3_GRID, model_type="qwen3_vl_moe"),
        _grid,
        layout(1, 6, 8, 12),
    ),
    "qwen3_5": Tiny(
        _vision({**parts.TEXT, **parts.LINEAR}, parts.QWEN35_GRID, model_type="qwen3_5"), _grid, layout(1, 6, 8, 12)
    ),
    "qwen3_5_moe": Tiny(
        _vision({**parts.TEXT, **parts.LINEAR, **parts.SHARED}, parts.QWEN35_GRID, model_type="qwen3_5_moe"),
        _grid,
        layout(1, 6, 8, 12),
    ),
    "glm4v": Tiny(_vision(parts.GLM_TEXT, parts.GLM_GRID, model_type="glm4v"), _grid, layout(1, 6, 8, 12)),
    "glm4v_moe": Tiny(
        _vision({**parts.GLM_TEXT, **parts.GLM_EXPERTS, **parts.GLM_ROPE}, parts.GLM_GRID, model_type="glm4v_moe"),
        _grid,
        layout(1, 6, 8, 12),
    ),
    "internvl": Tiny(
        _vision(
            parts.QWEN_2,
            {**parts.SQUARE, "image_size": [24, 24], "patch_size": [4, 4], "attention_bias": True, "use_qk_norm": True},
            model_type="internvl",
            downsample_ratio=0.5,
            image_seq_length=9,
        ),
        _tiles(3),
        layout(3, 6, 6, 27, classes=1),
    ),
    "llava": Tiny(
        _vision(parts.LLAMA, parts.CLIP, model_type="llava", vision_feature_layer=-2),
        _tiles(2),
        layout(2, 6, 6, 72, classes=1),
    ),
    "vipllava": Tiny(
        _vision(parts.LLAMA, parts.CLIP, model_type="vipllava", vision_feature_layers=[-2, -1, 1]),
        _tiles(2),
        layout(2, 6, 6, 72, classes=1),
    ),
    "llava with pixtral": Tiny(
        _vision(
            {**parts.TEXT, "model_type": "mistral", "sliding_window": None},
            parts.PIXTRAL,
            model_type="llava",
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
        ),
        _pixtral,
        layout(1, 4, 6, 24),
    ),
    "llava_next": Tiny(
        _vision(
            parts.LLAMA,
            parts.CLIP,
            model_type="llava_next",
            vision_feature_layer=-2,
            image_grid_pinpoints=[[24, 48], [48, 24], [48, 48]],
        ),
        _anyres,
        layout(3, 6, 6, 108, classes=1),
    ),
    "llava_onevision": Tiny(
        _vision(
            parts.QWEN_2,
            parts.SIGLIP,
            model_type="llava_onevision",
            vision_feature_layer=-1,
            vision_feature_select_strategy="full",
            image_grid_pinpoints=[[24, 48], [48, 24], [48, 48]],
        ),
        _anyres,
        layout(3, 6, 6, 108),
    ),
    "idefics3": Tiny(
        _vision(parts.LLAMA, {**parts.SQUARE, "model_type": "idefics3_vision"}, model_type="idefics3", scale_factor=2),
        _idefics,
        layout(3, 6, 6, 27),
    ),
    "smolvlm": Tiny(
        _vision(parts.LLAMA, {**parts.SQUARE, "model_type": "smolvlm_vision"}, model_type="smolvlm", scale_factor=3),
        _idefics,
        layout(3, 6, 6, 12),
    ),
    "gemma3": Tiny(
        _vision(
            {**parts.TEXT, "model_type": "gemma3_text", "sliding_window": 16, "num_hidden_layers": 7},
            parts.SIGLIP,
            model_type="gemma3",
            mm_tokens_per_image=9,
            tie_word_embeddings=True,
        ),
        _tiles(2),
        layout(2, 6, 6, 18),
    ),
    "paligemma": Tiny(
        _vision(
            {**parts.TEXT, "model_type": "gemma2", "sliding_window": 16},
            {**parts.SIGLIP, "projection_dim": parts.WIDTH},
            model_type="paligemma",
            projection_dim=parts.WIDTH,
            tie_word_embeddings=True,
        ),
        _tiles(2),
        layout(2, 6, 6, 72),
    ),
    "mistral3": Tiny(
        _vision(
            {**parts.TEXT, "model_type": "mistral", "sliding_window": None},
            parts.PIXTRAL,
            model_type="mistral3",
            spatial_merge_size=2,
            vision_feature_layer=-1,
        ),
        _pixtral,
        layout(1, 4, 6, 6),
    ),
    "llama4": Tiny(
        _vision(parts.LLAMA4_TEXT, parts.LLAMA4_VISION, model_type="llama4"),
        _llama4,
        layout(3, 6, 6, 27, classes=1),
        every_expert=True,
    ),
    "mllama": Tiny(
        _vision(
            {**parts.TEXT, "model_type": "mllama_text_model", "cross_attention_layers": [1]},
            parts.MLLAMA_VISION,
            model_type="mllama",
        ),
        _mllama,
        # 36 patches and a class token fill 40 positions; the connector gets them without the filling.
        layout(4, 6, 6, 148, classes=1, padding=3, together=4),
    ),
    "phi4_multimodal": Tiny(
        {
            **{key: value for key, value in parts.TEXT.items() if key != "head_dim"},
            "model_type": "phi4_multimodal",
            "tie_word_embeddings": True,
            "vision_config": {**parts.SQUARE, "model_type": "phi4_multimodal_vision", "crop_size": 24},
            "audio_config": {"hidden_size": 32, "intermediate_size": 32, "num_blocks": 1, "num_attention_heads": 2},
        },
        _phi,
        layout(3, 6, 6, 27),
        encode_more=_PHI_HEAD,
    ),
    "gemma4": Tiny(
        _vision(
            {**parts.GEMMA4_TEXT}, parts.GEMMA4_VISION, model_type="gemma4", audio_config=None, tie_word_embeddings=True
        ),
        _gemma4,
        layout(1, 6, 6, 4),
    ),
    "gemma4 with experts": Tiny(
        _vision(
            {
                **parts.GEMMA4_TEXT,
                "enable_moe_block": True,
                "num_experts": 8,
                "top_k_experts": 3,
                "moe_intermediate_size": 40,
                "attention_k_eq_v": True,
                "num_global_key_value_heads": 1,
            },
            parts.GEMMA4_VISION,
            model_type="gemma4",
            audio_config=None,
            tie_word_embeddings=True,
        ),
        _gemma4,
        layout(1, 6, 6, 4),
    ),
    "gemma4 with layer inputs": Tiny(
        _vision(
            {
                **parts.GEMMA4_TEXT,
                "hidden_size_per_layer_input": 12,
                "num_kv_shared_layers": 2,
                "use_double_wide_mlp": True,
            },
            parts.GEMMA4_VISION,
            model_type="gemma4",
            audio_config=None,
            tie_word_embeddings=True,
        ),
        _gemma4,
        layout(1, 6, 6, 4),
    ),
}
