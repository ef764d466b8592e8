"""Vision tower, and what joins it to the decoder."""

from __future__ import annotations

from pydantic import Field, model_validator

from costmodel.specs.base import Count, Flag, Frozen, Size
from costmodel.specs.layers import LayerGroup, NormKind, norm_parameters

__all__ = ["ConnectorSpec", "LinearSpec", "PoolingSpec", "ProjectionSpec", "VisionSpec"]


class VisionSpec(Frozen):
    """Vision transformer over image patches.

    Attributes
    ----------
    position_embeddings
        Entries of a learned position table (0: rotary positions only).
    other_parameters
        Parameters that multiply nothing: class tokens, tile embeddings, norms outside of the blocks.
    unused_parameters
        Parameters that are held and never run: layers of a published tower that no image passes.
    """

    hidden_size: Size
    in_channels: Size
    patch_size: Size
    temporal_patch_size: Size
    patch_bias: Flag
    position_embeddings: Count
    blocks: tuple[LayerGroup, ...] = Field(min_length=1)
    other_parameters: Count = 0
    unused_parameters: Count = 0

    @model_validator(mode="after")
    def _patches_see_each_other(self) -> VisionSpec:
        for group in self.blocks:
            if group.attention.kind != "self":
                raise ValueError(f"blocks have attention of kind {group.attention.kind}, expected self")
        return self

    @property
    def patch_features(self) -> int:
        """Values in one patch."""
        return self.in_channels * self.temporal_patch_size * self.patch_size**2

    @property
    def num_layers(self) -> int:
        """Blocks in the tower."""
        return sum(group.count for group in self.blocks)

    @property
    def parameters(self) -> int:
        """Parameters of the tower, connector not included."""
        stem = self.patch_features * self.hidden_size + self.hidden_size * self.patch_bias
        table = self.position_embeddings * self.hidden_size
        blocks = sum(group.parameters(self.hidden_size) for group in self.blocks)
        return stem + table + blocks + self.other_parameters + self.unused_parameters


class LinearSpec(Frozen):
    """One linear map; a gated pair of maps is one of twice the width."""

    in_features: Size
    out_features: Size
    bias: Flag

    @property
    def parameters(self) -> int:
        """Weights and bias."""
        return self.out_features * (self.in_features + self.bias)


class ProjectionSpec(Frozen):
    """``count`` equal stacks of linear maps from merged patches to the decoder's width.

    ``norm`` is the kind of the normalisation over ``norm_size`` features (0: there is none).
    """

    name: str
    count: Size
    norm: NormKind
    norm_size: Count
    linears: tuple[LinearSpec, ...] = Field(min_length=1)

    @property
    def parameters(self) -> int:
        """Parameters of all ``count`` stacks."""
        one = norm_parameters(self.norm, self.norm_size) + sum(linear.parameters for linear in self.linears)
        return self.count * one


class PoolingSpec(Frozen):
    """Cross-attention from few queries to the patches of a tile.

    Attributes
    ----------
    hidden_size
        Width of queries, keys and values.
    query_size, key_size
        Widths of what queries, and keys and values, are made from.
    queries
        Learned queries of a tile, each of which sees all its patches (0: a query for each token that comes out,
        which sees its share of the patches).
    key_map
        Map that the patches take first.
    """

    hidden_size: Size
    num_heads: Size
    query_size: Size
    key_size: Size
    queries: Count
    bias: Flag
    key_map: LinearSpec | None = None
    other_parameters: Count = 0

    @property
    def parameters(self) -> int:
        """Parameters of the four maps, of the map before them and of the rest."""
        inputs = self.query_size + 2 * self.key_size + self.hidden_size
        before = self.key_map.parameters if self.key_map else 0
        return self.hidden_size * (inputs + 4 * self.bias) + before + self.other_parameters


class ConnectorSpec(Frozen):
    """What joins vision tower and decoder; the image rule says how many rows it puts out.

    Attributes
    ----------
    pooling
        Attention that gathers patches before the projections.
    other_parameters
        Parameters that multiply nothing: separators between rows of an image, norms.
    """

    projections: tuple[ProjectionSpec, ...] = Field(min_length=1)
    pooling: PoolingSpec | None = None
    other_parameters: Count = 0

    @property
    def parameters(self) -> int:
        """Parameters of pooling and projections."""
        pooling = self.pooling.parameters if self.pooling else 0
        return pooling + sum(projection.parameters for projection in self.projections) + self.other_parameters
