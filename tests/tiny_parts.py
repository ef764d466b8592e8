"""Pieces of the configs of small models: text decoders, vision towers."""

from __future__ import annotations

from typing import Any

VOCAB, WIDTH = 160, 64
IMAGE_TOKEN = 150

TEXT: dict[str, Any] = {
    "hidden_size": WIDTH,
    "intermediate_size": 112,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": VOCAB,
    "max_position_embeddings": 4096,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "rms_norm_eps": 1e-6,
}
EXPERTS = {"num_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 40}
SQUARE: dict[str, Any] = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 24,
    "patch_size": 4,
    "num_channels": 3,
}
GRID: dict[str, Any] = {
    "depth": 3,
    "hidden_size": 48,
    "in_channels": 3,
    "intermediate_size": 80,
    "num_heads": 3,
    "out_hidden_size": WIDTH,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
PIXTRAL = {**SQUARE, "model_type": "pixtral", "head_dim": 16, "image_size": 64}
SIGLIP = {**SQUARE, "model_type": "siglip_vision_model", "vision_use_head": False}
CLIP = {**SQUARE, "model_type": "clip_vision_model"}
LLAMA = {**TEXT, "model_type": "llama"}
QWEN_2 = {**TEXT, "model_type": "qwen2"}
MROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}}


LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 24,
    "linear_conv_kernel_dim": 4,
    "layer_types": ["linear_attention", "linear_attention", "full_attention"],
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e4,
        "partial_rotary_factor": 0.5,
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
    },
}
QWEN3_GRID = {**GRID, "num_position_embeddings": 64, "deepstack_visual_indexes": [0, 2]}
QWEN35_GRID = {**GRID, "num_position_embeddings": 64, "deepstack_visual_indexes": []}
SHARED = {**EXPERTS, "shared_expert_intermediate_size": 56}
GLM_GRID = {**GRID, "image_size": 32, "attention_bias": False, "intermediate_size": 80}
GLM_TEXT = {**TEXT, **MROPE, "attention_bias": True}
GLM_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 2]}}
GLM_EXPERTS = {
    "n_routed_experts": 8,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 40,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
GEMMA4_TEXT = {
    **TEXT,
    "model_type": "gemma4_text",
    "num_hidden_layers": 4,
    "global_head_dim": 32,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
    "sliding_window": 16,
    "tie_word_embeddings": True,
    "use_bidirectional_attention": None,
    "hidden_size_per_layer_input": 0,
    "vocab_size_per_layer_input": VOCAB,
    "num_kv_shared_layers": 0,
}
GEMMA4_VISION = {
    **SQUARE,
    "model_type": "gemma4_vision",
    "num_key_value_heads": 3,
    "head_dim": 16,
    "global_head_dim": 16,
    "pooling_kernel_size": 3,
    "position_embedding_size": 64,
    "default_output_length": 4,
}
LLAMA4_TEXT = {
    **TEXT,
    "model_type": "llama4_text",
    "num_hidden_layers": 4,
    "intermediate_size_mlp": 72,
    "interleave_moe_layer_step": 2,
    "num_local_experts": 4,
    "num_experts_per_tok": 1,
    "attention_chunk_size": 64,
    "no_rope_layers": [],
    "use_qk_norm": True,
}
LLAMA4_VISION = {
    **SQUARE,
    "intermediate_size": 192,
    "model_type": "llama4_vision_model",
    "pixel_shuffle_ratio": 0.5,
    "projector_input_dim": 88,
    "projector_output_dim": 88,
    "vision_output_dim": 88,
}
MLLAMA_VISION = {
    **{key: value for key, value in SQUARE.items() if key != "num_attention_heads"},
    "attention_heads": 3,
    "intermediate_layers_indices": [0, 1],
    "max_num_tiles": 4,
    "num_global_layers": 1,
    "supported_aspect_ratios": [[1, 1], [1, 2], [2, 2]],
    "vision_output_dim": 144,
    "model_type": "mllama_vision_model",
}
DEEPSEEK = {
    **TEXT,
    "model_type": "deepseek_v3",
    "num_key_value_heads": 4,
    "kv_lora_rank": 24,
    "q_lora_rank": 40,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 16,
    "v_head_dim": 20,
    **GLM_EXPERTS,
}
del DEEPSEEK["head_dim"]
