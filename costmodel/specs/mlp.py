"""Feed-forward blocks: dense, or a mixture of experts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from costmodel.specs.base import Flag, Frozen, Size

__all__ = ["AnyMlp", "MlpSpec", "MoeSpec"]


class MlpSpec(Frozen):
    """Feed-forward block: up (and gate), activation, down."""

    kind: Literal["dense"] = "dense"
    intermediate_size: Size
    gated: Flag
    bias: Flag

    @property
    def ups(self) -> int:
        """Maps to the inner width."""
        return 2 if self.gated else 1

    @property
    def active_width(self) -> int:
        """Inner values of one token."""
        return self.intermediate_size

    def parameters(self, hidden_size: int) -> int:
        """Parameters of one layer's block."""
        weights = hidden_size * self.intermediate_size * (self.ups + 1)
        return weights + (self.ups * self.intermediate_size + hidden_size) * self.bias


class MoeSpec(Frozen):
    """Mixture of gated experts behind a router; all are held, a token uses ``top_k`` of them.

    Attributes
    ----------
    shared
        Block that every token uses as well.
    shared_gate
        Whether a learned gate weighs the shared block.
    router_bias
        Whether the router adds a bias per expert.
    """

    kind: Literal["moe"] = "moe"
    num_experts: Size
    top_k: Size
    intermediate_size: Size
    shared: MlpSpec | None = None
    shared_gate: Flag = False
    router_bias: Flag = False

    @model_validator(mode="after")
    def _experts_suffice(self) -> MoeSpec:
        if self.top_k > self.num_experts:
            raise ValueError(f"top_k is {self.top_k}, expected at most num_experts {self.num_experts}")
        return self

    def expert_parameters(self, hidden_size: int) -> int:
        """Parameters of the routed experts of one layer."""
        return 3 * self.num_experts * hidden_size * self.intermediate_size

    @property
    def active_width(self) -> int:
        """Inner values of one token, over all experts that it uses."""
        return self.top_k * self.intermediate_size + (self.shared.intermediate_size if self.shared else 0)

    def parameters(self, hidden_size: int) -> int:
        """Parameters of one layer's block, all experts."""
        router = self.num_experts * (hidden_size + self.router_bias)
        shared = self.shared.parameters(hidden_size) if self.shared else 0
        return self.expert_parameters(hidden_size) + router + shared + hidden_size * self.shared_gate


AnyMlp = Annotated[MlpSpec | MoeSpec, Field(discriminator="kind")]
