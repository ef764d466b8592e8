"""The scheme that a checkpoint's weights are in, from the ``quantization_config`` of its config."""

from __future__ import annotations

from collections.abc import Callable

from costmodel.errors import ConfigError
from costmodel.families.reader import ConfigReader

__all__ = ["read_quantization"]

_KEYS = ("quantization_config", "compression_config")


def read_quantization(config: ConfigReader) -> str:
    """Scheme, ``none`` where the weights are not quantised.

    Raises
    ------
    ConfigError
        If the method or its widths are not among the known ones: they are never taken for 16 bits.
    """
    key = next((key for key in _KEYS if config.has(key)), None)
    if key is None:
        return "none"
    quantization = config.child(key)
    method = quantization.one_of("quant_method", tuple(sorted(_METHODS)))
    return _METHODS[method](quantization)


def _fp8(_: ConfigReader) -> str:
    return "w8a8-fp8"


def _weights_only(key: str) -> Callable[[ConfigReader], str]:
    """Integers of 4 or 8 bits that are unpacked to 16 before they are multiplied."""

    def read(quantization: ConfigReader) -> str:
        bits = quantization.integer(key)
        if bits not in (4, 8):
            raise ConfigError(quantization.path_of(key), str(bits), "4 or 8")
        return f"w{bits}a16"

    return read


def _bitsandbytes(quantization: ConfigReader) -> str:
    if quantization.boolean("load_in_4bit", default=False):
        return "w4a16"
    if not quantization.boolean("load_in_8bit", default=False):
        raise ConfigError(quantization.path_of("load_in_8bit"), "false, and load_in_4bit too", "one of them to be true")
    return "w8a8-int8"


def _modelopt(quantization: ConfigReader) -> str:
    inner = quantization.child("quantization") if quantization.has("quantization") else quantization
    return {"FP8": "w8a8-fp8", "NVFP4": "w4a4-nvfp4"}[inner.one_of("quant_algo", ("FP8", "NVFP4"))]


def _compressed_tensors(quantization: ConfigReader) -> str:
    """Schemes of llm-compressor; all groups must have one."""
    groups = quantization.child("config_groups")
    schemes = {_group_scheme(groups.child(name)) for name in groups.names()}
    if len(schemes) != 1:
        got = ", ".join(sorted(schemes)) or "no groups"
        raise ConfigError(quantization.path_of("config_groups"), got, "groups of one scheme")
    return schemes.pop()


def _group_scheme(group: ConfigReader) -> str:
    weights = group.child("weights")
    kind, bits = weights.one_of("type", ("float", "int")), weights.integer("num_bits")
    wide = not group.has("input_activations")
    scheme = _COMPRESSED.get((kind, bits, wide))
    if scheme is None:
        got = f"{kind} of {bits} bits, activations {'in 16 bits' if wide else 'quantised'}"
        raise ConfigError(weights.path, got, f"one of {', '.join(sorted(set(_COMPRESSED.values())))}")
    return scheme


# (kind, bits, activations in 16 bits) → scheme.
_COMPRESSED = {
    ("float", 8, False): "w8a8-fp8",
    ("int", 8, False): "w8a8-int8",
    ("float", 4, False): "w4a4-nvfp4",
    ("int", 8, True): "w8a16",
    ("float", 8, True): "w8a16",
    ("int", 4, True): "w4a16",
    ("float", 4, True): "w4a16",
}

_METHODS: dict[str, Callable[[ConfigReader], str]] = {
    "awq": _weights_only("bits"),
    "bitsandbytes": _bitsandbytes,
    "compressed-tensors": _compressed_tensors,
    "fbgemm_fp8": _fp8,
    "fp8": _fp8,
    "gptq": _weights_only("bits"),
    "modelopt": _modelopt,
}
