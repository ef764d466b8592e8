"""GLM-4.1V and GLM-4.5V (mixture of experts): ViT, downsampling, a gated merger, GLM-4 decoder (arXiv 2507.01006)."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import Traits, layer_count, read_tied, self_attention
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.glm4v import read_glm4v
from costmodel.image_rules.settings import check_equal
from costmodel.image_rules.smart_resize import read_merge_size
from costmodel.specs.model import (
    AnyMlp,
    AttentionSpec,
    ConnectorSpec,
    DecoderSpec,
    LayerGroup,
    MlpSpec,
    ModelSpec,
    MoeSpec,
    VisionSpec,
    grouped,
)

__all__ = ["MODEL_TYPES", "read"]

MODEL_TYPES = ("glm4v", "glm4v_moe")


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a GLM-4V config: decoder fields at the top (older) or under ``text_config`` (newer files)."""
    family, vision = config.text("model_type"), config.child("vision_config")
    decoder = _decoder(config, experts=family == "glm4v_moe")
    check_equal(vision, "out_hidden_size", decoder.hidden_size, why="the hidden_size of the decoder")
    return ModelSpec(
        name=name,
        family=family,
        source=source,
        vision=_vision(vision),
        connector=_connector(vision),
        decoder=decoder,
        image_rule=read_glm4v(vision, image_settings),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    """The blocks' MLP is as wide as the output; ``intermediate_size`` is the merger's."""
    hidden_size, heads = vision.integer("hidden_size"), vision.integer("num_heads")
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=vision.quotient("hidden_size", "num_heads"),
        qkv_bias=vision.boolean("attention_bias", default=False),
        output_bias=False,
    )
    patch_size = vision.integer("patch_size")
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("in_channels", default=3),
        patch_size=patch_size,
        temporal_patch_size=vision.integer("temporal_patch_size", default=2),
        patch_bias=True,
        position_embeddings=(vision.integer("image_size") // patch_size) ** 2,
        blocks=(
            LayerGroup(
                count=layer_count(vision, "depth"),
                attention=attention,
                mlp=MlpSpec(intermediate_size=vision.integer("out_hidden_size"), gated=True, bias=False),
                norm="rms_norm",
            ),
        ),
        other_parameters=2 * hidden_size,
    )


def _connector(vision: ConfigReader) -> ConnectorSpec:
    """A convolution that merges patches, a linear map with its norm, a gated MLP."""
    width, inner = vision.integer("out_hidden_size"), vision.integer("intermediate_size")
    merged = vision.integer("hidden_size") * read_merge_size(vision) ** 2
    gated = projection(2 * inner, width, bias=False, name="merger")
    up = projection(width, 2 * inner, bias=False).linears
    down = projection(inner, width, bias=False).linears
    return ConnectorSpec(
        projections=(
            projection(merged, width, name="downsample"),
            projection(width, width, bias=False, norm_size=width, name="merger_map"),
            gated.model_copy(update={"linears": up + down}),
        )
    )


def _decoder(config: ConfigReader, *, experts: bool) -> DecoderSpec:
    text = config.child_or_self("text_config")
    qk_norm = text.boolean("use_qk_norm", default=False)
    attention = self_attention(text, Traits(output_bias=False, qk_norm="head" if qk_norm else "none"))
    dense: AnyMlp = MlpSpec(intermediate_size=text.integer("intermediate_size"), gated=True, bias=False)
    count, norms = layer_count(text), 2 if experts else 4
    mlps = [dense] * count
    if experts:
        first = min(text.integer("first_k_dense_replace", lowest=0), count)
        mlps = [dense] * first + [_experts(text)] * (count - first)
    layers = (LayerGroup(count=1, attention=attention, mlp=mlp, norm="rms_norm", norms=norms) for mlp in mlps)
    return DecoderSpec(
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=read_tied(text, config, default=False),
        final_norm="rms_norm",
        layers=grouped(layers),
        max_context_tokens=text.integer("max_position_embeddings"),
    )


def _experts(text: ConfigReader) -> AnyMlp:
    """Read the experts; the router's bias is kept beside the parameters and not counted."""
    inner = text.integer("moe_intermediate_size")
    shared = inner * text.integer("n_shared_experts")
    return MoeSpec(
        num_experts=text.integer("n_routed_experts"),
        top_k=text.integer("num_experts_per_tok"),
        intermediate_size=inner,
        shared=MlpSpec(intermediate_size=shared, gated=True, bias=False),
    )
