"""Text decoders that several families share, each by the ``model_type`` of its text config.

A decoder is what :class:`Traits` says: how its attention differs from that of Llama, where it has windows, and which
layers are mixtures of experts. Adding one is adding an entry to :data:`TRAITS`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from costmodel.errors import ConfigError, UnsupportedArchitectureError
from costmodel.families.reader import ConfigReader
from costmodel.specs.model import (
    AnyAttention,
    AnyMlp,
    AttentionSpec,
    DecoderSpec,
    LayerGroup,
    MlpSpec,
    MoeSpec,
    grouped,
)

__all__ = ["TRAITS", "Traits", "layer_count", "read_decoder", "self_attention"]

_MOST_LAYERS = 4096
"""More layers than any published model has: a config beyond it is corrupt."""

_FULL, _SLIDING = "full_attention", "sliding_attention"


def layer_count(text: ConfigReader, key: str = "num_hidden_layers") -> int:
    """Number of layers."""
    return text.integer(key, highest=_MOST_LAYERS)


def _no_windows(text: ConfigReader) -> list[int | None]:
    return [None] * layer_count(text)


def _every_layer(text: ConfigReader) -> list[int | None]:
    """Windows of Mistral and Phi: all layers or none."""
    window = text.integer("sliding_window") if text.has("sliding_window") else None
    return [window] * layer_count(text)


def _upper_layers(text: ConfigReader) -> list[int | None]:
    """Windows of Qwen: from ``max_window_layers`` up, where ``use_sliding_window`` says so."""
    layers = layer_count(text)
    if not text.boolean("use_sliding_window", default=False) or not text.has("sliding_window"):
        return [None] * layers
    full = min(text.integer("max_window_layers", lowest=0), layers)
    return [None] * full + [text.integer("sliding_window")] * (layers - full)


def _alternating(pattern: int) -> Callable[[ConfigReader], list[int | None]]:
    """Windows of Gemma: all layers but every ``pattern``-th, or as ``layer_types`` names them."""

    def windows(text: ConfigReader) -> list[int | None]:
        window, layers = text.integer("sliding_window"), layer_count(text)
        if not text.has("layer_types"):
            every = text.integer("sliding_window_pattern", default=pattern)
            return [None if (index + 1) % every == 0 else window for index in range(layers)]
        types = read_layer_types(text, (_FULL, _SLIDING))
        return [window if kind == _SLIDING else None for kind in types]

    return windows


def read_layer_types(text: ConfigReader, kinds: tuple[str, ...]) -> tuple[str, ...]:
    """Read the kind of every layer.

    Raises
    ------
    ConfigError
        If there are more or fewer of them than layers, or one of another kind.
    """
    types, layers = text.texts("layer_types"), layer_count(text)
    if len(types) != layers:
        raise ConfigError(text.path_of("layer_types"), f"{len(types)} entries", f"num_hidden_layers {layers}")
    for index, kind in enumerate(types):
        if kind not in kinds:
            path = text.path_of(f"layer_types.{index}")
            raise ConfigError(path, repr(kind)[:40], f"one of {', '.join(kinds)}")
    return types


@dataclass(frozen=True, slots=True)
class Traits:
    """How a decoder differs from Llama's.

    Attributes
    ----------
    qkv_bias
        Whether queries, keys and values have a bias (``None``: the field ``attention_bias`` says so).
    output_bias
        Whether the output has one too where ``attention_bias`` is set.
    windows
        Sliding window of every layer.
    own_head_dim
        Whether a config must say how wide a head is: the hidden size shared out over the heads is something else.
    multi_head
        Whether a config without ``num_key_value_heads`` means as many as query heads.
    experts
        Reader of the experts, and of whether a layer has them, by its index.
    defaults
        Values of the published config class for fields that real configs leave out.
    """

    qkv_bias: bool | None = None
    output_bias: bool = True
    qk_norm: Literal["none", "head"] = "none"
    norms: int = 2
    tied: bool = False
    mlp_bias: bool = False
    multi_head: bool = False
    own_head_dim: bool = False
    windows: Callable[[ConfigReader], list[int | None]] = _no_windows
    experts: Callable[[ConfigReader], tuple[MoeSpec, Callable[[int], bool]]] | None = None
    defaults: Mapping[str, Any] = field(default_factory=dict)


def self_attention(
    text: ConfigReader, traits: Traits, *, window: int | None = None, output_gate: bool = False
) -> AttentionSpec:
    """Grouped-query attention; ``head_dim`` where there is none is the hidden size shared out."""
    heads = text.integer("num_attention_heads")
    if text.has("num_key_value_heads"):
        text.quotient("num_attention_heads", "num_key_value_heads")
    bias = traits.qkv_bias
    if bias is None:
        bias = text.boolean("attention_bias", default=False)
    shared_out = not traits.own_head_dim and not text.has("head_dim")
    return AttentionSpec(
        num_heads=heads,
        num_kv_heads=text.integer("num_key_value_heads", default=heads if traits.multi_head else None),
        head_dim=text.quotient("hidden_size", "num_attention_heads") if shared_out else text.integer("head_dim"),
        qkv_bias=bias,
        output_bias=bias and traits.output_bias,
        qk_norm=traits.qk_norm,
        output_gate=output_gate,
        window=window,
    )


def _qwen_experts(text: ConfigReader) -> tuple[MoeSpec, Callable[[int], bool]]:
    step = text.integer("decoder_sparse_step", default=1)
    dense = set(text.integers("mlp_only_layers")) if text.has("mlp_only_layers") else set()
    moe = MoeSpec(
        num_experts=text.integer(text.first_of("num_experts", "num_local_experts")),
        top_k=text.integer("num_experts_per_tok"),
        intermediate_size=text.integer("moe_intermediate_size"),
    )
    return moe, lambda index: index not in dense and (index + 1) % step == 0


def _dense_mlp(text: ConfigReader, traits: Traits) -> MlpSpec:
    bias = text.boolean("mlp_bias", default=False) if traits.mlp_bias else False
    return MlpSpec(intermediate_size=text.integer("intermediate_size"), gated=True, bias=bias)


def _mlps(text: ConfigReader, traits: Traits) -> list[AnyMlp]:
    layers = layer_count(text)
    if traits.experts is None:
        return [_dense_mlp(text, traits)] * layers
    moe, has_experts = traits.experts(text)
    sparse = [has_experts(index) for index in range(layers)]
    dense: AnyMlp = moe if all(sparse) else _dense_mlp(text, traits)
    return [moe if here else dense for here in sparse]


def read_decoder(
    text: ConfigReader, *, kind: str | None = None, whole: ConfigReader | None = None, tied: bool | None = None
) -> DecoderSpec:
    """Read a text config.

    Parameters
    ----------
    text
        The text config.
    kind
        Key of :data:`TRAITS` (``None``: the text's ``model_type``).
    whole
        The config of the whole model, whose ``tie_word_embeddings`` goes before the text's.
    tied
        Whether embeddings are tied where neither says so (``None``: as the text's class has it).

    Raises
    ------
    UnsupportedArchitectureError
        If no decoder here has this ``model_type``.
    """
    if kind is None:
        kind = text.text("model_type")
    if kind not in TRAITS:
        path, known = text.path_of("model_type"), ", ".join(sorted(TRAITS))
        raise UnsupportedArchitectureError(path, repr(kind)[:60], f"one of {known}")
    traits = TRAITS[kind]
    text = text.filled(traits.defaults)
    attention: list[AnyAttention] = [self_attention(text, traits, window=w) for w in traits.windows(text)]
    layers = [
        LayerGroup(count=1, attention=mixer, mlp=mlp, norm="rms_norm", norms=traits.norms)
        for mixer, mlp in zip(attention, _mlps(text, traits), strict=True)
    ]
    return DecoderSpec(
        hidden_size=text.integer("hidden_size"),
        vocab_size=text.integer("vocab_size"),
        tied_embeddings=read_tied(text, whole, default=traits.tied if tied is None else tied),
        final_norm="rms_norm",
        layers=grouped(layers),
        max_context_tokens=text.integer("max_position_embeddings"),
    )


def read_tied(text: ConfigReader, whole: ConfigReader | None, *, default: bool) -> bool:
    """Whether the map to the vocabulary is the token table: the whole model's field, else the text's."""
    key = "tie_word_embeddings"
    if whole is not None and whole.has(key):
        return whole.boolean(key)
    return text.boolean(key, default=default)


_LLAMA = {
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
}
_MISTRAL = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
_GEMMA_2 = {"head_dim": 256, "max_position_embeddings": 8192}
_GEMMA_3 = {
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "vocab_size": 262_208,
    "max_position_embeddings": 131_072,
}

TRAITS: dict[str, Traits] = {
    "llama": Traits(mlp_bias=True, multi_head=True, defaults=_LLAMA),
    "mistral": Traits(qkv_bias=False, windows=_every_layer, defaults=_MISTRAL),
    "qwen2": Traits(qkv_bias=True, output_bias=False, windows=_upper_layers),
    "qwen3": Traits(own_head_dim=True, qk_norm="head", windows=_upper_layers, defaults={"head_dim": 128}),
    "qwen3_moe": Traits(own_head_dim=True, qk_norm="head", windows=_upper_layers, experts=_qwen_experts),
    "gemma": Traits(own_head_dim=True, tied=True, defaults={"head_dim": 256}),
    "gemma2": Traits(own_head_dim=True, norms=4, tied=True, windows=_alternating(2), defaults=_GEMMA_2),
    "gemma3_text": Traits(
        own_head_dim=True, norms=4, qk_norm="head", tied=True, windows=_alternating(6), defaults=_GEMMA_3
    ),
    "qwen2_vl_text": Traits(qkv_bias=True, output_bias=False, windows=_upper_layers),
    "qwen3_vl_text": Traits(own_head_dim=True, qk_norm="head"),
    "qwen3_vl_moe_text": Traits(own_head_dim=True, qk_norm="head", experts=_qwen_experts),
    "phi3": Traits(qkv_bias=False, multi_head=True, windows=_every_layer),
}
