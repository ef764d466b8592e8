"""Qwen3.5, dense and mixture of experts: three layers of gated delta rule to one of gated attention.

The multi-token-prediction layer of the checkpoints is not counted: no engine needs it to answer.
"""

from __future__ import annotations

from costmodel.families.decoders import Traits, read_layer_types, read_tied, self_attention
from costmodel.families.qwen3_tower import read_mergers, read_qwen3_images, read_qwen3_tower
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.settings import check_equal
from costmodel.specs.model import (
    AnyAttention,
    AnyMlp,
    DecoderSpec,
    LayerGroup,
    LinearAttentionSpec,
    MlpSpec,
    ModelSpec,
    MoeSpec,
    grouped,
)

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("qwen3_5", "qwen3_5_moe")


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Qwen3.5 config."""
    family, vision = config.text("model_type"), config.child("vision_config")
    decoder = _decoder(config, experts=family == "qwen3_5_moe")
    check_equal(vision, "out_hidden_size", decoder.hidden_size, why="the hidden_size of the decoder")
    return ModelSpec(
        name=name,
        family=family,
        source=source,
        vision=read_qwen3_tower(vision),
        connector=read_mergers(vision),
        decoder=decoder,
        image_rule=read_qwen3_images(vision, image_settings),
    )


def _decoder(config: ConfigReader, *, experts: bool) -> DecoderSpec:
    text = config.child("text_config")
    gate = text.boolean("attn_output_gate", default=True)
    full = self_attention(text, Traits(own_head_dim=True, qk_norm="head"), output_gate=gate)
    linear = LinearAttentionSpec(
        num_key_heads=text.integer("linear_num_key_heads"),
        num_value_heads=text.integer("linear_num_value_heads"),
        key_dim=text.integer("linear_key_head_dim"),
        value_dim=text.integer("linear_value_head_dim"),
        convolution=text.integer("linear_conv_kernel_dim"),
    )
    mixers: dict[str, AnyAttention] = {"full_attention": full, "linear_attention": linear}
    mlp = _experts(text) if experts else _dense(text)
    layers = [
        LayerGroup(count=1, attention=mixers[kind], mlp=mlp, norm="rms_norm")
        for kind in read_layer_types(text, tuple(mixers))
    ]
    return DecoderSpec(
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=read_tied(text, config, default=False),
        final_norm="rms_norm",
        layers=grouped(layers),
        max_context_tokens=text.integer("max_position_embeddings"),
    )


def _dense(text: ConfigReader) -> AnyMlp:
    return MlpSpec(intermediate_size=text.integer("intermediate_size"), gated=True, bias=False)


def _experts(text: ConfigReader) -> AnyMlp:
    inner = text.integer("shared_expert_intermediate_size")
    return MoeSpec(
        num_experts=text.integer("num_experts"),
        top_k=text.integer("num_experts_per_tok"),
        intermediate_size=text.integer("moe_intermediate_size"),
        shared=MlpSpec(intermediate_size=inner, gated=True, bias=False),
        shared_gate=True,
    )
