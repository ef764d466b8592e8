"""Several reasoned answers of one model and a vote (self-consistency: arXiv 2203.11171)."""

from __future__ import annotations

from costmodel.policy.plan import Ask, Plan, Role, Vote

__all__ = ["self_consistency"]


def self_consistency(model: Role = "small", *, samples: int = 3) -> Plan:
    """Sample ``samples`` reasoned answers in parallel, and take the most frequent one."""
    asks = tuple(
        Ask(name=f"{model}-reason-{i}", model=model, mode="reason", sample=i, parallel=i > 0) for i in range(samples)
    )
    return Plan(
        name="self-consistency",
        summary=f"{model} reasons {samples} times, the most frequent answer counts",
        steps=(*asks, Vote(name="vote", among=tuple(ask.name for ask in asks))),
    )
