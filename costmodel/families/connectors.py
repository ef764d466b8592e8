"""Connectors that several families share."""

from __future__ import annotations

from itertools import pairwise

from costmodel.errors import ConfigError
from costmodel.families.reader import ConfigReader
from costmodel.specs.model import LinearSpec, NormKind, ProjectionSpec

__all__ = ["feature_layers", "projection"]


def projection(
    *sizes: int, bias: bool = True, norm: NormKind = "layer_norm", norm_size: int = 0, name: str = "projector"
) -> ProjectionSpec:
    """Linear maps from each size to the next, after a normalisation over ``norm_size`` features (0: none)."""
    linears = tuple(LinearSpec(in_features=a, out_features=b, bias=bias) for a, b in pairwise(sizes))
    return ProjectionSpec(name=name, count=1, norm=norm, norm_size=norm_size, linears=linears)


def feature_layers(config: ConfigReader, depth: int, *, key: str = "vision_feature_layer") -> int:
    """Count the vision blocks whose outputs enter the connector side by side: one, or a list of them."""
    if config.has(key) and config.holds(key, list):
        layers = config.integers(key, lowest=-depth)
    else:
        layers = (config.integer(key, default=-1, lowest=-depth, highest=depth),)
    if not layers or any(layer > depth for layer in layers):
        raise ConfigError(config.path_of(key), str(list(layers))[:40], f"block indexes up to {depth}")
    return len(layers)
