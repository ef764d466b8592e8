"""A model's architecture: what must be computed, held and moved, and nothing about how fast.

A model is groups of equal transformer layers (in the vision tower and in the decoder), the projections that
join them, and the rule that turns an image into patches. Every field comes from a checkpoint's config.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from costmodel.specs.attention import (
    AnyAttention,
    AttentionSpec,
    CrossAttentionSpec,
    LatentAttentionSpec,
    LinearAttentionSpec,
)
from costmodel.specs.base import Count, Flag, Frozen, Shown, Size
from costmodel.specs.images import ImageRule, ImageSize
from costmodel.specs.layers import LayerGroup, NormKind, grouped, norm_parameters
from costmodel.specs.mlp import AnyMlp, MlpSpec, MoeSpec
from costmodel.specs.stored import StoredWeights
from costmodel.specs.vision import ConnectorSpec, LinearSpec, PoolingSpec, ProjectionSpec, VisionSpec

__all__ = [
    "AnyAttention",
    "AnyMlp",
    "AttentionSpec",
    "ConnectorSpec",
    "CrossAttentionSpec",
    "DecoderSpec",
    "LatentAttentionSpec",
    "LayerGroup",
    "LinearAttentionSpec",
    "LinearSpec",
    "MlpSpec",
    "ModelSpec",
    "MoeSpec",
    "NormKind",
    "PoolingSpec",
    "ProjectionSpec",
    "VisionSpec",
    "grouped",
]


class DecoderSpec(Frozen):
    """Decoder-only language model.

    Attributes
    ----------
    layer_input_vocab
        Entries of the table that holds an input of its own for every layer and token (0: there is none).
    other_parameters
        Parameters that multiply nothing: entries of the token table beyond the vocabulary, norms.
    """

    hidden_size: Size
    vocab_size: Size
    tied_embeddings: Flag
    final_norm: NormKind
    layers: tuple[LayerGroup, ...] = Field(min_length=1)
    max_context_tokens: Size
    layer_input_vocab: Count = 0
    other_parameters: Count = 0

    @property
    def num_layers(self) -> int:
        """Layers of all groups."""
        return sum(group.count for group in self.layers)

    @property
    def layer_input_size(self) -> int:
        """Width of the inputs of all layers together."""
        return sum(group.count * group.layer_input for group in self.layers)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token table and of the table of layer inputs."""
        return self.vocab_size * self.hidden_size + self.layer_input_vocab * self.layer_input_size

    @property
    def head_parameters(self) -> int:
        """Parameters of the map to the vocabulary that are its own: none where it is the token table."""
        return 0 if self.tied_embeddings else self.vocab_size * self.hidden_size

    @property
    def expert_parameters(self) -> int:
        """Parameters of the routed experts of all layers."""
        blocks = [(group.count, mlp) for group in self.layers for mlp in group.mlps if isinstance(mlp, MoeSpec)]
        return sum(count * mlp.expert_parameters(self.hidden_size) for count, mlp in blocks)

    @property
    def layer_parameters(self) -> int:
        """Parameters of all layers."""
        return sum(group.parameters(self.hidden_size) for group in self.layers)

    @property
    def parameters(self) -> int:
        """Parameters of the decoder; a tied head is counted once."""
        around = norm_parameters(self.final_norm, self.hidden_size) + self.hidden_size * self.layer_input_size
        tables = self.embedding_parameters + self.head_parameters
        return tables + self.layer_parameters + around + self.other_parameters


class ModelSpec(Shown):
    """Architecture of a (vision-)language model.

    Attributes
    ----------
    name
        Hub id, or the name of the folder that the config was read from.
    family
        Name of the family file that read it.
    source
        Where the facts come from.
    unused_parameters
        Parameters that are held and that no request of images and text runs: an audio tower.
    quantization
        Scheme that the checkpoint's weights are in, see :data:`costmodel.program.QUANTIZATIONS`.
    stored
        True bytes of the checkpoint's tensors, where its files were at hand.
    """

    schema_version: Literal[1] = 1
    name: str
    family: str
    source: str
    decoder: DecoderSpec
    vision: VisionSpec | None = None
    connector: ConnectorSpec | None = None
    image_rule: ImageRule | None = None
    unused_parameters: Count = 0
    quantization: str = "none"
    stored: StoredWeights | None = None

    @model_validator(mode="after")
    def _vision_is_complete(self) -> ModelSpec:
        parts = (self.vision, self.connector, self.image_rule)
        if any(part is None for part in parts) and any(part is not None for part in parts):
            raise ValueError("vision, connector and image_rule come together or not at all")
        return self

    @property
    def vision_parameters(self) -> int:
        """Parameters of vision tower and connector (0 for a text-only model)."""
        if self.vision is None or self.connector is None:
            return 0
        return self.vision.parameters + self.connector.parameters

    @property
    def parameters(self) -> int:
        """Parameters of the whole model."""
        return self.vision_parameters + self.decoder.parameters + self.unused_parameters

    def visual_tokens(self, width: int, height: int) -> int:
        """Visual tokens that an image of this size puts into the decoder (0 for a text-only model)."""
        if self.image_rule is None:
            return 0
        return self.image_rule.layout(ImageSize(width=width, height=height)).visual_tokens

    def fingerprint(self) -> str:
        """Digest of the architecture alone: equal for two checkpoints of the same shape."""
        import hashlib

        facts = self.model_dump_json(exclude={"name", "source", "quantization", "stored"}, exclude_defaults=True)
        return hashlib.sha256(facts.encode()).hexdigest()[:16]
