"""A model's architecture: what must be computed, held and moved, and nothing about how fast.

A model is groups of equal transformer layers (in the vision tower and in the decoder), the projections that
join them, and the rule that turns an image into patches. Every field comes from a checkpoint's config.
"""

from __future__ import annotations

import hashlib
from typing import Literal

from pydantic import Field, model_validator

from costmodel.specs.base import Count, Flag, Frozen, Size
from costmodel.specs.images import ImageRule, ImageSize

__all__ = [
    "AttentionSpec",
    "ConnectorSpec",
    "DecoderSpec",
    "LayerGroup",
    "LinearSpec",
    "MlpSpec",
    "ModelSpec",
    "NormKind",
    "ProjectionSpec",
    "VisionSpec",
]

NormKind = Literal["rms_norm", "layer_norm"]


def norm_parameters(kind: NormKind, width: int) -> int:
    """Parameters of one normalisation over ``width`` features."""
    return width if kind == "rms_norm" else 2 * width


class AttentionSpec(Frozen):
    """Multi-head attention with grouped keys and values.

    Attributes
    ----------
    window
        Vision: side of the square attention window, in patches. Decoder: length of the sliding window, in
        tokens.
        ``None`` means that every earlier (decoder) or every (vision) position of the sequence is seen.
    """

    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    qkv_bias: Flag
    output_bias: Flag
    qk_norm: Flag = False
    window: Size | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> AttentionSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads is {self.num_heads}, expected a multiple of num_kv_heads {self.num_kv_heads}")
        return self

    @property
    def q_size(self) -> int:
        """Width of the queries."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the keys; the values are as wide."""
        return self.num_kv_heads * self.head_dim


class MlpSpec(Frozen):
    """Feed-forward block: up (and gate), activation, down."""

    intermediate_size: Size
    gated: Flag
    bias: Flag


class LayerGroup(Frozen):
    """``count`` equal transformer layers."""

    count: Size
    attention: AttentionSpec
    mlp: MlpSpec
    norm: NormKind

    def parameters(self, hidden_size: int) -> int:
        """Parameters of all layers of the group."""
        attention, mlp = self.attention, self.mlp
        qkv_size = attention.q_size + 2 * attention.kv_size
        weights = hidden_size * (qkv_size + attention.q_size)
        biases = qkv_size * attention.qkv_bias + hidden_size * attention.output_bias
        norms = 2 * norm_parameters(self.norm, hidden_size) + 2 * attention.head_dim * attention.qk_norm
        ups = mlp.intermediate_size * (2 if mlp.gated else 1)
        weights += hidden_size * (ups + mlp.intermediate_size)
        biases += (ups + hidden_size) * mlp.bias
        return self.count * (weights + biases + norms)


class VisionSpec(Frozen):
    """Vision transformer over image patches.

    Attributes
    ----------
    position_embeddings
        Entries of a learned position table (0: rotary positions only).
    """

    hidden_size: Size
    in_channels: Size
    patch_size: Size
    temporal_patch_size: Size
    patch_bias: Flag
    position_embeddings: Count
    blocks: tuple[LayerGroup, ...] = Field(min_length=1)

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
        return stem + table + sum(group.parameters(self.hidden_size) for group in self.blocks)


class LinearSpec(Frozen):
    """One linear map."""

    in_features: Size
    out_features: Size
    bias: Flag

    @property
    def parameters(self) -> int:
        """Weights and bias."""
        return self.out_features * (self.in_features + self.bias)


class ProjectionSpec(Frozen):
    """``count`` equal stacks of linear maps from merged patches to the decoder's width."""

    name: str
    count: Size
    norm: NormKind
    norm_size: Size
    linears: tuple[LinearSpec, ...] = Field(min_length=1)

    @property
    def parameters(self) -> int:
        """Parameters of all ``count`` stacks."""
        one = norm_parameters(self.norm, self.norm_size) + sum(linear.parameters for linear in self.linears)
        return self.count * one


class ConnectorSpec(Frozen):
    """What joins vision tower and decoder.

    Attributes
    ----------
    patches_per_token
        Patches merged into one visual token.
    """

    patches_per_token: Size
    projections: tuple[ProjectionSpec, ...] = Field(min_length=1)

    @property
    def parameters(self) -> int:
        """Parameters of all projections."""
        return sum(projection.parameters for projection in self.projections)


class DecoderSpec(Frozen):
    """Decoder-only language model."""

    hidden_size: Size
    vocab_size: Size
    tied_embeddings: Flag
    final_norm: NormKind
    layers: tuple[LayerGroup, ...] = Field(min_length=1)
    max_context_tokens: Size

    @property
    def num_layers(self) -> int:
        """Layers of all groups."""
        return sum(group.count for group in self.layers)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token table."""
        return self.vocab_size * self.hidden_size

    @property
    def parameters(self) -> int:
        """Parameters of the decoder; a tied head is counted once."""
        tables = self.embedding_parameters * (1 if self.tied_embeddings else 2)
        layers = sum(group.parameters(self.hidden_size) for group in self.layers)
        return tables + layers + norm_parameters(self.final_norm, self.hidden_size)


class ModelSpec(Frozen):
    """Architecture of a (vision-)language model.

    Attributes
    ----------
    name
        Hub id, or the name of the folder that the config was read from.
    family
        Name of the family file that read it.
    source
        Where the facts come from.
    """

    schema_version: Literal[1] = 1
    name: str
    family: str
    source: str
    decoder: DecoderSpec
    vision: VisionSpec | None = None
    connector: ConnectorSpec | None = None
    image_rule: ImageRule | None = None

    @model_validator(mode="after")
    def _vision_is_complete(self) -> ModelSpec:
        parts = (self.vision, self.connector, self.image_rule)
        if any(part is None for part in parts) and any(part is not None for part in parts):
            raise ValueError("vision, connector and image_rule come together or not at all")
        return self

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        vision = self.vision.parameters if self.vision else 0
        connector = self.connector.parameters if self.connector else 0
        return vision + connector + self.decoder.parameters

    def visual_tokens(self, width: int, height: int) -> int:
        """Visual tokens that an image of this size puts into the decoder (0 for a text-only model)."""
        if self.image_rule is None:
            return 0
        return self.image_rule.layout(ImageSize(width=width, height=height)).visual_tokens

    def fingerprint(self) -> str:
        """Digest of the architecture alone: equal for two checkpoints of the same shape."""
        facts = self.model_dump_json(exclude={"name", "source"})
        return hashlib.sha256(facts.encode()).hexdigest()[:16]
