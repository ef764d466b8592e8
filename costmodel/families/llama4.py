"""Llama 4: a ViT with an adapter of its own, decoder of experts with chunked attention in three layers of four."""

from __future__ import annotations

from costmodel.families.connectors import projection
from costmodel.families.decoders import Traits, layer_count, read_tied, self_attention
from costmodel.families.reader import ConfigReader
from costmodel.families.towers import plain_block
from costmodel.image_rules.internvl import read_ratio
from costmodel.image_rules.llama4 import read_llama4
from costmodel.image_rules.settings import check_equal, read_patch_size, read_side
from costmodel.specs.model import (
    AnyMlp,
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

MODEL_TYPES = ("llama4",)


def read(config: ConfigReader, image_settings: ConfigReader | None, *, name: str, source: str) -> ModelSpec:
    """Read a Llama 4 config."""
    vision, decoder = config.child("vision_config"), _decoder(config)
    return ModelSpec(
        name=name,
        family="llama4",
        source=source,
        vision=_vision(vision),
        connector=_connector(vision, decoder.hidden_size),
        decoder=decoder,
        image_rule=read_llama4(vision, image_settings),
    )


def _vision(vision: ConfigReader) -> VisionSpec:
    hidden_size = vision.integer("hidden_size")
    grid = read_side(vision, "image_size") // read_patch_size(vision)
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("num_channels", default=3),
        patch_size=read_patch_size(vision),
        temporal_patch_size=1,
        patch_bias=False,
        position_embeddings=grid**2 + 1,
        blocks=(plain_block(vision, rotary=True),),
        other_parameters=hidden_size * (1 + 2 + 2),
    )


def _connector(vision: ConfigReader, decoder_size: int) -> ConnectorSpec:
    """Pixel shuffle and two maps (the vision adapter, which transformers keeps in the tower), then one map."""
    merged = vision.integer("hidden_size") * read_ratio(vision, "pixel_shuffle_ratio") ** 2
    # The adapter's first map is declared by the width of the blocks' MLP.
    check_equal(vision, "intermediate_size", merged, why="the size of merged patches")
    outer = vision.integer("projector_output_dim")
    check_equal(vision, "projector_input_dim", outer, why="the projector_output_dim")
    check_equal(vision, "vision_output_dim", outer, why="the projector_output_dim")
    return ConnectorSpec(
        projections=(
            projection(merged, outer, outer, bias=False, name="adapter"),
            projection(outer, decoder_size, bias=False),
        )
    )


def _decoder(config: ConfigReader) -> DecoderSpec:
    """Layers with rotary positions see chunks (priced as a window of a chunk's length), every fourth sees all."""
    text = config.child("text_config")
    qk_norm = text.boolean("use_qk_norm", default=True)
    chunk = text.integer("attention_chunk_size") if text.has("attention_chunk_size") else None
    rotary = _rotary_layers(text)
    mlps = _mlps(text)
    chunked = self_attention(text, Traits(), window=chunk)
    seeing_all = chunked.model_copy(update={"window": None, "rotary": False})
    if qk_norm:
        chunked = chunked.model_copy(update={"qk_norm": "weightless"})
    layers = (
        LayerGroup(count=1, attention=chunked if rotates else seeing_all, mlp=mlp, norm="rms_norm")
        for rotates, mlp in zip(rotary, mlps, strict=True)
    )
    return DecoderSpec(
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=read_tied(text, config, default=False),
        final_norm="rms_norm",
        layers=grouped(layers),
        max_context_tokens=text.integer("max_position_embeddings"),
    )


def _rotary_layers(text: ConfigReader) -> list[bool]:
    """Whether a layer rotates: a list of ones and zeros, or all but every fourth where the list is empty."""
    count, listed = layer_count(text), text.integers("no_rope_layers") if text.has("no_rope_layers") else ()
    if len(listed) == count:
        return [bool(value) for value in listed]
    every = text.integer("no_rope_layer_interval", default=4)
    return [(index + 1) % every != 0 for index in range(count)]


def _mlps(text: ConfigReader) -> list[AnyMlp]:
    inner = text.integer("intermediate_size")
    moe = MoeSpec(
        num_experts=text.integer("num_local_experts"),
        top_k=text.integer("num_experts_per_tok"),
        intermediate_size=inner,
        shared=MlpSpec(intermediate_size=inner, gated=True, bias=False),
    )
    step = text.integer("interleave_moe_layer_step")
    sparse = [(index + 1) % step == 0 for index in range(layer_count(text))]
    if all(sparse):
        return [moe for _ in sparse]
    dense = MlpSpec(intermediate_size=text.integer("intermediate_size_mlp"), gated=True, bias=False)
    return [moe if here else dense for here in sparse]
