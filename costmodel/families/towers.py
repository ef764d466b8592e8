"""Vision towers that several families share, each by the ``model_type`` of its vision config."""

from __future__ import annotations

from collections.abc import Callable

from costmodel.errors import UnsupportedArchitectureError
from costmodel.families.decoders import layer_count
from costmodel.families.reader import ConfigReader
from costmodel.image_rules.settings import read_patch_size, read_side
from costmodel.specs.model import AttentionSpec, LayerGroup, MlpSpec, VisionSpec

__all__ = ["plain_block", "read_clip", "read_pixtral", "read_siglip", "read_tower", "siglip_tower"]


def plain_block(vision: ConfigReader, *, depth: str = "num_hidden_layers", rotary: bool = False) -> LayerGroup:
    """Blocks as in the first vision transformers: two layer norms, biases everywhere, MLP of two maps."""
    heads = vision.integer("num_attention_heads")
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=vision.quotient("hidden_size", "num_attention_heads"),
        qkv_bias=True,
        output_bias=True,
        rotary=rotary,
    )
    mlp = MlpSpec(intermediate_size=vision.integer("intermediate_size"), gated=False, bias=True)
    return LayerGroup(count=layer_count(vision, depth), attention=attention, mlp=mlp, norm="layer_norm")


def _grid(vision: ConfigReader) -> int:
    """Patches of a tile."""
    return (read_side(vision, "image_size") // read_patch_size(vision)) ** 2


def read_clip(vision: ConfigReader) -> VisionSpec:
    """CLIP: a class token, layer norms before and after. All blocks run, whichever of them the features come from."""
    hidden_size = vision.integer("hidden_size")
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("num_channels", default=3),
        patch_size=read_patch_size(vision),
        temporal_patch_size=1,
        patch_bias=False,
        position_embeddings=_grid(vision) + 1,
        blocks=(plain_block(vision),),
        other_parameters=hidden_size * (1 + 2 + 2),
    )


def read_siglip(vision: ConfigReader) -> VisionSpec:
    """SigLIP: no class token; its pooling head, where the checkpoint has it, is held and not used."""
    unused = 0
    if vision.boolean("vision_use_head", default=True):
        unused = _siglip_head_parameters(vision)
    return siglip_tower(vision, position_embeddings=_grid(vision), unused_parameters=unused)


def siglip_tower(vision: ConfigReader, *, position_embeddings: int, unused_parameters: int = 0) -> VisionSpec:
    """SigLIP's blocks over a position table of any size, with its last layer norm."""
    hidden_size = vision.integer("hidden_size")
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("num_channels", default=3),
        patch_size=read_patch_size(vision),
        temporal_patch_size=1,
        patch_bias=True,
        position_embeddings=position_embeddings,
        blocks=(plain_block(vision),),
        other_parameters=2 * hidden_size,
        unused_parameters=unused_parameters,
    )


def _siglip_head_parameters(vision: ConfigReader) -> int:
    """Probe, attention, layer norm and MLP of the pooling head."""
    hidden, inner = vision.integer("hidden_size"), vision.integer("intermediate_size")
    return hidden + 4 * hidden * (hidden + 1) + 2 * hidden + 2 * hidden * inner + hidden + inner


def read_pixtral(vision: ConfigReader) -> VisionSpec:
    """Pixtral: rotary positions in two dimensions, RMS norms, gated MLP, no bias anywhere."""
    hidden_size, heads = vision.integer("hidden_size"), vision.integer("num_attention_heads")
    attention = AttentionSpec(
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=vision.quotient("hidden_size", "num_attention_heads"),
        qkv_bias=False,
        output_bias=False,
    )
    mlp = MlpSpec(intermediate_size=vision.integer("intermediate_size"), gated=True, bias=False)
    return VisionSpec(
        hidden_size=hidden_size,
        in_channels=vision.integer("num_channels", default=3),
        patch_size=read_patch_size(vision),
        temporal_patch_size=1,
        patch_bias=False,
        position_embeddings=0,
        blocks=(LayerGroup(count=layer_count(vision), attention=attention, mlp=mlp, norm="rms_norm"),),
        other_parameters=hidden_size,
    )


_TOWERS: dict[str, Callable[[ConfigReader], VisionSpec]] = {
    "clip_vision_model": read_clip,
    "pixtral": read_pixtral,
    "siglip_vision_model": read_siglip,
}


def read_tower(vision: ConfigReader) -> VisionSpec:
    """Read a vision config by its ``model_type``.

    Raises
    ------
    UnsupportedArchitectureError
        If no tower here has it.
    """
    kind = vision.text("model_type")
    if kind not in _TOWERS:
        known = ", ".join(sorted(_TOWERS))
        raise UnsupportedArchitectureError(vision.path_of("model_type"), repr(kind)[:60], f"one of {known}")
    return _TOWERS[kind](vision)
