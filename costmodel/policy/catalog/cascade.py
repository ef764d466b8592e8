"""The large model only where the small one is unsure (model cascades: arXiv 2305.05176, FrugalGPT)."""

from __future__ import annotations

from costmodel.policy.plan import Ask, Confident, Plan

__all__ = ["cascade"]


def cascade(*, threshold: float = 0.8) -> Plan:
    """Ask the small model; where its confidence is below ``threshold``, ask the large one."""
    return Plan(
        name="cascade",
        summary=f"small answers; below a confidence of {threshold:g}, large answers",
        steps=(
            Ask(name="small-short", model="small", mode="short"),
            Confident(name="small-sure", source="small-short", threshold=threshold),
            Ask(name="large-short", model="large", mode="short"),
        ),
    )
