"""Kimi-VL: MoonViT, two linear maps, decoder of DeepSeek-V3 form with latent attention (arXiv 2504.07491)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import layer_count, read_tied
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import plain_block
from costmodel.image_rules.kimi_vl import read_kimi_vl
from costmodel.image_rules.settings import read_patch_size
from costmodel.specs.model import (
    AnyMlp,
    ConnectorSpec,
    DecoderSpec,
    LatentAttentionSpec,
    LayerGroup,
    MlpSpec,
    ModelSpec,
    MoeSpec,
    VisionSpec,
    grouped,
)

__all__ = ["MODEL_TYPES", "read", "read_deepseek"]

MODEL_TYPES = ("kimi_vl",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Kimi-VL config."""
    vision = config.child("vision_config")
    tower, decoder = _vision(vision), read_deepseek(config.child("text_config"), config)
    rule = read_kimi_vl(vision, image_settings)
    merged = tower.hidden_size * rule.merge_size**2
    projector = projection(merged, merged, decoder.hidden_size, norm_size=tower.hidden_size)
    return ModelSpec(
        name=name,
        family="kimi_vl",
        source=source,
        vision=tower,
        connector=ConnectorSpec(projections=(projector,)),
        decoder=decoder,
        image_rule=rule,
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    """MoonViT: an interpolated position table and rotary positions."""
    hidden_size = vision.integer("hidden_size")
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("num_channels", default=3),
        patch_size=read_patch_size(vision),
        temporal_patch_size=1,
        patch_bias=True,
        position_embeddings=vision.integer("init_pos_emb_height") * vision.integer("init_pos_emb_width"),
        blocks=(plain_block(vision, rotary=True),),
        other_parameters=2 * hidden_size,
    )


def read_deepseek(text: ConfigReader, whole: ConfigReader) -> DecoderSpec:
    """Decoder of DeepSeek-V3 form: latent attention, the first layers dense, the others with experts."""
    text.one_of("model_type", ("deepseek_v3",))
    attention = LatentAttentionSpec(
        num_heads=text.integer("num_attention_heads"),
        latent_dim=text.integer("kv_lora_rank"),
        rotary_dim=text.integer("qk_rope_head_dim"),
        nope_dim=text.integer("qk_nope_head_dim"),
        value_dim=text.integer("v_head_dim"),
        query_latent_dim=text.integer("q_lora_rank") if text.has("q_lora_rank") else None,
    )
    inner, count = text.integer("moe_intermediate_size"), layer_count(text)
    shared = inner * text.integer("n_shared_experts")
    moe: AnyMlp = MoeSpec(
        num_experts=text.integer("n_routed_experts"),
        top_k=text.integer("num_experts_per_tok"),
        intermediate_size=inner,
        shared=MlpSpec(intermediate_size=shared, gated=True, bias=False),
        router_bias=True,
    )
    dense: AnyMlp = MlpSpec(intermediate_size=text.integer("intermediate_size"), gated=True, bias=False)
    first = min(text.integer("first_k_dense_replace", lowest=0), count)
    mlps = [dense] * first + [moe] * (count - first)
    return DecoderSpec(
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=read_tied(text, whole, default=False),
        final_norm="rms_norm",
        layers=grouped(LayerGroup(count=1, attention=attention, mlp=mlp, norm="rms_norm") for mlp in mlps),
        max_context_tokens=text.integer("max_position_embeddings"),
    )
