"""From the metadata of a GGUF file to a spec, through the same decoders that read a ``config.json``."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from costmodel.checkpoints.gguf import GgufHeader, read_gguf
from costmodel.checkpoints.tensors import stored_weights
from costmodel.errors import CheckpointError, ConfigError, UnsupportedArchitectureError
from costmodel.families.decoders import read_decoder
from costmodel.families.reader import ConfigReader
from costmodel.ops import DTYPES
from costmodel.specs.model import ModelSpec

__all__ = ["DECODERS", "load_gguf"]

# general.architecture → the decoder that reads it. Mistral models are written as llama.
DECODERS = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "llama": "llama",
    "mistral3": "mistral",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2vl": "qwen2_vl_text",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "qwen3vl": "qwen3_vl_text",
    "qwen3vlmoe": "qwen3_vl_moe_text",
}
# llama.cpp runs windows of these alone.
_WINDOWED = ("gemma2", "gemma3")

# Parameters that tensors and metadata may differ by: biases and norms that one side leaves out.
_TOLERANCE = 0.005


def load_gguf(path: Path) -> ModelSpec:
    """Read a language model from a ``.gguf`` file; a vision tower is in a file of its own, which is not read.

    Raises
    ------
    CheckpointError
        If the header can't be used, or its tensors are not those of its metadata.
    UnsupportedArchitectureError
        If no decoder covers the architecture.
    ConfigError
        If a key is missing or unusable; the message names it.
    """
    header = read_gguf(path)
    reader = ConfigReader(header.metadata)
    architecture = reader.text("general.architecture")
    if architecture not in DECODERS:
        known = ", ".join(sorted(DECODERS))
        raise UnsupportedArchitectureError("general.architecture", repr(architecture)[:60], f"one of {known}")
    kind = DECODERS[architecture]
    decoder = read_decoder(ConfigReader(_config(header, reader, architecture)), kind=kind)
    stored = stored_weights(tensor.stored for tensor in header.tensors.values())
    held = sum(tensor.stored.elements for name, tensor in header.tensors.items() if not name.startswith("rope_"))
    if abs(held - decoder.parameters) > _TOLERANCE * decoder.parameters:
        raise CheckpointError(
            f"{path.name}: its tensors hold {held} parameters, expected {decoder.parameters} by its metadata"
        )
    return ModelSpec(
        name=path.stem,
        family=kind,
        source=path.name,
        decoder=decoder,
        quantization=_quantization(header),
        stored=stored,
    )


def _config(header: GgufHeader, reader: ConfigReader, architecture: str) -> dict[str, Any]:
    """The fields of a ``config.json`` that the metadata and the tensors tell."""

    def key(name: str) -> str:
        return f"{architecture}.{name}"

    if architecture == "llama" and reader.has(key("expert_count")) and reader.integer(key("expert_count"), lowest=0):
        raise UnsupportedArchitectureError(key("expert_count"), "experts", "a dense model, or qwen3moe")
    heads = _integer(reader, key("attention.head_count"))
    width = _integer(reader, key("embedding_length"))
    config: dict[str, Any] = {
        "hidden_size": width,
        "num_hidden_layers": _integer(reader, key("block_count"), highest=4096),
        "num_attention_heads": heads,
        "num_key_value_heads": _integer(reader, key("attention.head_count_kv"), default=heads),
        "max_position_embeddings": _integer(reader, key("context_length")),
        "vocab_size": _vocabulary(header),
        "tie_word_embeddings": "output.weight" not in header.tensors,
        "attention_bias": "blk.0.attn_q.bias" in header.tensors,
        "mlp_bias": "blk.0.ffn_up.bias" in header.tensors,
    }
    lengths = [_integer(reader, key(f"attention.{name}_length"), default=0) for name in ("key", "value")]
    if lengths[0] != lengths[1]:
        raise ConfigError(key("attention.value_length"), str(lengths[1]), f"{lengths[0]}, the key_length")
    if not lengths[0] and width % heads:
        raise ConfigError(key("embedding_length"), str(width), f"a multiple of attention.head_count {heads}")
    config["head_dim"] = lengths[0] or width // heads
    if reader.has(key("expert_count")) and reader.integer(key("expert_count"), lowest=0):
        config["num_experts"] = _integer(reader, key("expert_count"))
        config["num_experts_per_tok"] = _integer(reader, key("expert_used_count"))
        config["moe_intermediate_size"] = _integer(reader, key("expert_feed_forward_length"))
    else:
        config["intermediate_size"] = _integer(reader, key("feed_forward_length"))
    if architecture in _WINDOWED:
        config["sliding_window"] = _integer(reader, key("attention.sliding_window"))
    return config


def _integer(reader: ConfigReader, key: str, *, default: int | None = None, highest: int = 2**31) -> int:
    """A size; where a file has one for every layer, they must be equal."""
    if reader.holds(key, list):
        values = reader.integers(key, lowest=1)
        if len(set(values)) != 1:
            raise ConfigError(key, f"{len(set(values))} different sizes", "the same in every layer")
        return values[0]
    lowest = 0 if default == 0 else 1
    return reader.integer(key, default=default, lowest=lowest, highest=highest)


def _vocabulary(header: GgufHeader) -> int:
    table = header.tensors.get("token_embd.weight")
    if table is None or len(table.shape) != 2:
        got = "nothing" if table is None else f"{len(table.shape)} dimensions"
        raise ConfigError("token_embd.weight", got, "a matrix of the token table")
    return table.shape[1]


def _quantization(header: GgufHeader) -> str:
    """The type of most weights of the layers."""
    weights = Counter[str]()
    for name, tensor in header.tensors.items():
        if name.startswith("blk."):
            weights[tensor.stored.format] += tensor.stored.elements
    kind = max(weights, key=lambda name: (weights[name], name), default="nothing")
    if f"gguf-{kind}" not in DTYPES:
        raise ConfigError("blk", kind, "layers of weights in one of llama.cpp's types")
    return f"gguf-{kind}"
