"""Molmo-7B-D: CLIP over overlapping crops, attention pooling, gated projector, Qwen2 decoder (arXiv 2409.17146)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import layer_count
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.molmo import read_molmo
from costmodel.specs.model import (
    AttentionSpec,
    ConnectorSpec,
    DecoderSpec,
    LayerGroup,
    LinearSpec,
    MlpSpec,
    ModelSpec,
    PoolingSpec,
    VisionSpec,
)

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("molmo",)

# CLIP ViT-L/14 at 336 pixels, which the published code fixes and the config does not mention. The last of its 24
# blocks is not stored; features are the outputs of two blocks side by side.
_WIDTH, _HEADS, _INNER, _BLOCKS, _PATCH, _POSITIONS, _FEATURE_BLOCKS = 1024, 16, 4096, 23, 14, 577, 2

# New tokens in a table of their own: image tokens and the like.
_EXTRA_TOKENS = 128


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Molmo config."""
    decoder = _decoder(config)
    return ModelSpec(
        name=name,
        family="molmo",
        source=source,
        vision=_vision(),
        connector=_connector(config, decoder.hidden_size),
        decoder=decoder,
        image_rule=read_molmo(image_settings),
    )


def _vision() -> VisionSpec:
    attention = AttentionSpec(
        num_heads=_HEADS,
        num_kv_heads=_HEADS,
        head_dim=_WIDTH // _HEADS,
        qkv_bias=True,
        output_bias=True,
        rotary=False,
    )
    mlp = MlpSpec(intermediate_size=_INNER, gated=False, bias=True)
    return VisionSpec(
        hidden_size=_WIDTH,
        in_channels=3,
        patch_size=_PATCH,
        temporal_patch_size=1,
        patch_bias=False,
        position_embeddings=_POSITIONS,
        blocks=(LayerGroup(count=_BLOCKS, attention=attention, mlp=mlp, norm="layer_norm"),),
        other_parameters=_WIDTH * (1 + 2),
    )


def _connector(config: ConfigReader, decoder_size: int) -> ConnectorSpec:
    """One query for four patches, then a gated projector as wide inside as the decoder's MLP."""
    features, inner = _FEATURE_BLOCKS * _WIDTH, _inner_size(config)
    maps = (
        LinearSpec(in_features=_WIDTH, out_features=2 * inner, bias=False),
        LinearSpec(in_features=inner, out_features=decoder_size, bias=False),
    )
    return ConnectorSpec(
        projections=(projection(inner, decoder_size).model_copy(update={"linears": maps}),),
        pooling=PoolingSpec(
            hidden_size=_WIDTH, num_heads=_HEADS, query_size=features, key_size=features, queries=0, bias=True
        ),
        # Two embeddings of padding.
        other_parameters=2 * features,
    )


def _inner_size(config: ConfigReader) -> int:
    """Width inside the MLP; the config's ``intermediate_size`` is that of gate and up together."""
    return config.filled({"two": 2}).quotient("intermediate_size", "two")


def _decoder(config: ConfigReader) -> DecoderSpec:
    config.one_of("layer_norm_type", ("rms",))
    heads = config.integer("num_attention_heads")
    config.quotient("num_attention_heads", "num_key_value_heads")
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=config.integer("num_key_value_heads"),
        head_dim=config.quotient("hidden_size", "num_attention_heads"),
        qkv_bias=config.boolean("qkv_bias"),
        output_bias=False,
    )
    layer = LayerGroup(
        count=layer_count(config),
        attention=attention,
        mlp=MlpSpec(intermediate_size=_inner_size(config), gated=True, bias=False),
        norm="rms_norm",
    )
    hidden_size = config.integer("hidden_size")
    return DecoderSpec(
        hidden_size=hidden_size,
        vocab_size=config.integer("embedding_size" if config.has("embedding_size") else "vocab_size"),
        tied_embeddings=config.boolean("weight_tying", default=False),
        final_norm="rms_norm",
        layers=(layer,),
        max_context_tokens=config.integer("max_position_embeddings"),
        other_parameters=_EXTRA_TOKENS * hidden_size,
    )
