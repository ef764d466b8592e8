"""Groups of equal transformer layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from pydantic import Field

from costmodel.specs.attention import AnyAttention
from costmodel.specs.base import Count, Frozen, Size
from costmodel.specs.mlp import AnyMlp

__all__ = ["LayerGroup", "NormKind", "grouped", "norm_parameters"]

NormKind = Literal["rms_norm", "layer_norm"]


def norm_parameters(kind: NormKind, width: int) -> int:
    """Parameters of one normalisation over ``width`` features: a scale, and a shift where it has one."""
    return 2 * width if kind == "layer_norm" else width


class LayerGroup(Frozen):
    """``count`` equal transformer layers.

    Attributes
    ----------
    mlp, more_mlps
        Feed-forward blocks: the one that every layer has, and others beside it.
    norms
        Normalisations of the hidden state in one layer, those of queries and keys not included.
    layer_input
        Width of the input of its own that a layer adds after a gate (0: none).
    other_parameters
        Parameters of one layer that only scale: layer scales, gates.
    """

    count: Size
    attention: AnyAttention
    mlp: AnyMlp
    norm: NormKind
    norms: Size = 2
    more_mlps: tuple[AnyMlp, ...] = Field(default=(), max_length=4)
    layer_input: Count = 0
    other_parameters: Count = 0

    @property
    def mlps(self) -> tuple[AnyMlp, ...]:
        """Every feed-forward block of one layer."""
        return (self.mlp, *self.more_mlps)

    def parameters(self, hidden_size: int) -> int:
        """Parameters of all layers of the group."""
        one = self.attention.parameters(hidden_size) + sum(mlp.parameters(hidden_size) for mlp in self.mlps)
        one += self.norms * norm_parameters(self.norm, hidden_size) + 2 * hidden_size * self.layer_input
        return self.count * (one + self.other_parameters)


def grouped(layers: Iterable[LayerGroup]) -> tuple[LayerGroup, ...]:
    """Join equal layers, wherever they stand, in the order in which their kinds first appear."""
    counts = Counter[LayerGroup]()
    for layer in layers:
        counts[layer.model_copy(update={"count": 1})] += layer.count
    return tuple(layer.model_copy(update={"count": count}) for layer, count in counts.items())
