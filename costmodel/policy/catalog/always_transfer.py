"""The small model reasons, the large one answers from it (arXiv 2604.04929, without the verification)."""

from __future__ import annotations

from costmodel.policy.plan import Ask, Plan, Transfer

__all__ = ["always_transfer"]


def always_transfer(*, selector: str = "all", keep_fraction: float = 1.0) -> Plan:
    """Hand the small model's reasoning on for every item."""
    return Plan(
        name="always-transfer",
        summary="small reasons, large answers from that reasoning",
        steps=(
            Ask(name="small-reason", model="small", mode="reason"),
            Transfer(name="key-reasoning", source="small-reason", selector=selector, keep_fraction=keep_fraction),
            Ask(name="transferred", model="large", mode="transfer", context="key-reasoning"),
        ),
    )
