"""What mixes the tokens of a layer: attention in its kinds, each with its parameters and what it keeps per request."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from costmodel.ops.formats import Num
from costmodel.specs.base import Flag, Frozen, Size

__all__ = ["AnyAttention", "AttentionSpec", "CrossAttentionSpec", "LatentAttentionSpec", "LinearAttentionSpec"]

_STATE_BYTES = 4
"""The state of linear attention is kept in fp32."""


class AttentionSpec(Frozen):
    """Multi-head attention with grouped keys and values.

    Attributes
    ----------
    qk_norm
        Normalisation of queries and keys: over each ``head``, over the ``whole`` width, or without ``weights`` of
        its own.
    rotary
        Whether queries and keys are rotated by their positions.
    output_gate
        Whether a gate as wide as the queries multiplies the output.
    kv
        Where keys and values come from: maps of its ``own``, one map for both (``keys_as_values``), or the cache
        of an ``earlier_layer``, which this layer reads and does not extend.
    window
        Vision: side of the square attention window, in patches. Decoder: length of the sliding window, in
        tokens.
        ``None`` means that every earlier (decoder) or every (vision) position of the sequence is seen.
    """

    kind: Literal["self"] = "self"
    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    qkv_bias: Flag
    output_bias: Flag
    qk_norm: Literal["none", "head", "whole", "weightless"] = "none"
    rotary: Flag = True
    output_gate: Flag = False
    kv: Literal["own", "keys_as_values", "earlier_layer"] = "own"
    window: Size | None = None

    @model_validator(mode="after")
    def _heads_divide(self) -> AttentionSpec:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads is {self.num_heads}, expected a multiple of num_kv_heads {self.num_kv_heads}")
        return self

    @property
    def query_heads(self) -> int:
        """Heads that devices share."""
        return self.num_heads

    @property
    def q_size(self) -> int:
        """Width of the queries."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the keys; the values are as wide."""
        return self.num_kv_heads * self.head_dim

    @property
    def kv_maps(self) -> int:
        """Maps that make keys and values."""
        return {"own": 2, "keys_as_values": 1, "earlier_layer": 0}[self.kv]

    def parameters(self, hidden_size: int) -> int:
        """Parameters of one layer's attention."""
        projected = self.q_size * (2 if self.output_gate else 1) + self.kv_maps * self.kv_size
        weights = hidden_size * (projected + self.q_size)
        norms = {"head": 2 * self.head_dim, "whole": self.q_size + self.kv_size}.get(self.qk_norm, 0)
        if self.kv == "earlier_layer":
            norms = {"head": self.head_dim, "whole": self.q_size}.get(self.qk_norm, 0)
        return weights + projected * self.qkv_bias + hidden_size * self.output_bias + norms

    def cache_bytes(self, context_tokens: Num, *, cross_tokens: Num, element_bytes: float, devices: int) -> Num:
        """Bytes that one layer keeps on one device for one request.

        Parameters
        ----------
        context_tokens, cross_tokens
            Tokens of the request, and vision states beside them.
        element_bytes
            Of a value in the KV cache.
        devices
            Of tensor parallelism: KV heads are shared out, and repeated where there are fewer than devices.
        """
        if self.kv == "earlier_layer":
            return 0.0
        kept = context_tokens if self.window is None else np.minimum(context_tokens, self.window)
        return 2.0 * element_bytes * kept * -(-self.num_kv_heads // devices) * self.head_dim


class CrossAttentionSpec(Frozen):
    """Queries of the text over keys and values of the vision states, made once at prefill; skipped without image.

    ``qk_norm`` says whether queries and keys are normalised over each head.
    """

    kind: Literal["cross"] = "cross"
    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    qk_norm: Flag

    @property
    def query_heads(self) -> int:
        """Heads that devices share."""
        return self.num_heads

    @property
    def q_size(self) -> int:
        """Width of the queries."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the keys; the values are as wide."""
        return self.num_kv_heads * self.head_dim

    def parameters(self, hidden_size: int) -> int:
        """Parameters of one layer's attention; the vision states are as wide as the text's."""
        return 2 * hidden_size * (self.q_size + self.kv_size) + 2 * self.head_dim * self.qk_norm

    def cache_bytes(self, context_tokens: Num, *, cross_tokens: Num, element_bytes: float, devices: int) -> Num:
        """Bytes kept for the vision states, see :meth:`AttentionSpec.cache_bytes`."""
        return 2.0 * element_bytes * cross_tokens * -(-self.num_kv_heads // devices) * self.head_dim


class LatentAttentionSpec(Frozen):
    """Multi-head latent attention: keys and values are made from one narrow latent (arXiv 2405.04434, section 2.1).

    Attributes
    ----------
    latent_dim
        Width of the latent that is cached.
    rotary_dim
        Width of the rotated key that all heads share, cached beside it.
    nope_dim, value_dim
        Widths of a head's key without rotation and of its value.
    query_latent_dim
        Width of the queries' own latent (``None``: queries come from the hidden state).
    """

    kind: Literal["latent"] = "latent"
    num_heads: Size
    latent_dim: Size
    rotary_dim: Size
    nope_dim: Size
    value_dim: Size
    query_latent_dim: Size | None = None

    @property
    def query_heads(self) -> int:
        """Heads that devices share."""
        return self.num_heads

    @property
    def key_dim(self) -> int:
        """Width of a head's key and query."""
        return self.nope_dim + self.rotary_dim

    @property
    def cached_per_token(self) -> int:
        """Values cached for a token: the latent and the rotated key."""
        return self.latent_dim + self.rotary_dim

    def parameters(self, hidden_size: int) -> int:
        """Parameters of one layer's attention."""
        queries = hidden_size * self.num_heads * self.key_dim
        if self.query_latent_dim is not None:
            wide = self.num_heads * self.key_dim
            queries = self.query_latent_dim * (hidden_size + 1 + wide)
        down = hidden_size * self.cached_per_token + self.latent_dim
        up = self.latent_dim * self.num_heads * (self.nope_dim + self.value_dim)
        return queries + down + up + hidden_size * self.num_heads * self.value_dim

    def cache_bytes(self, context_tokens: Num, *, cross_tokens: Num, element_bytes: float, devices: int) -> Num:
        """Bytes of the latents, which every device needs whole; see :meth:`AttentionSpec.cache_bytes`."""
        return element_bytes * context_tokens * self.cached_per_token


class LinearAttentionSpec(Frozen):
    """Gated delta rule with a short convolution before it (arXiv 2412.06464): a state instead of a cache.

    Attributes
    ----------
    num_key_heads, num_value_heads
        Heads of queries and keys, and of values; the state has one matrix for each of the latter.
    convolution
        Tokens that the convolution sees.
    """

    kind: Literal["linear"] = "linear"
    num_key_heads: Size
    num_value_heads: Size
    key_dim: Size
    value_dim: Size
    convolution: Size

    @model_validator(mode="after")
    def _heads_divide(self) -> LinearAttentionSpec:
        if self.num_value_heads % self.num_key_heads:
            raise ValueError(
                f"num_value_heads is {self.num_value_heads}, expected a multiple of num_key_heads {self.num_key_heads}"
            )
        return self

    @property
    def query_heads(self) -> int:
        """Heads that devices share."""
        return self.num_value_heads

    @property
    def mixed_size(self) -> int:
        """Width of queries, keys and values together, which the convolution reads."""
        return 2 * self.num_key_heads * self.key_dim + self.value_size

    @property
    def value_size(self) -> int:
        """Width of the values, and of the gate."""
        return self.num_value_heads * self.value_dim

    def parameters(self, hidden_size: int) -> int:
        """Parameters of one layer's attention: maps, convolution, decay and time step per head, norm per head."""
        maps = hidden_size * (self.mixed_size + 2 * self.value_size + 2 * self.num_value_heads)
        return maps + self.mixed_size * self.convolution + 2 * self.num_value_heads + self.value_dim

    def cache_bytes(self, context_tokens: Num, *, cross_tokens: Num, element_bytes: float, devices: int) -> Num:
        """Bytes of the state and of the convolution's past; the same for every length."""
        state = _STATE_BYTES * self.num_value_heads * self.key_dim * self.value_dim
        return (state + element_bytes * self.mixed_size * self.convolution) / devices


AnyAttention = Annotated[
    AttentionSpec | CrossAttentionSpec | LatentAttentionSpec | LinearAttentionSpec, Field(discriminator="kind")
]
