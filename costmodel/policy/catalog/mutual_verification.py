"""Mutual verification with reasoning transfer (arXiv 2604.04929, section 4)."""

from __future__ import annotations

from costmodel.policy.plan import Agree, Ask, Plan, Transfer

__all__ = ["mutual_verification"]


def mutual_verification(*, parallel: bool = True, selector: str = "all", keep_fraction: float = 1.0) -> Plan:
    """Both answer at once; reasoning is spent only where they differ, and only by the small model.

    Parameters
    ----------
    parallel
        Whether both short answers are asked for together, or one after the other.
    selector, keep_fraction
        What of the small model's reasoning is handed to the large one.
    """
    return Plan(
        name="mutual-verification",
        summary="both answer; where they differ small reasons; where it still differs large answers from that",
        steps=(
            Ask(name="small-short", model="small", mode="short"),
            Ask(name="large-short", model="large", mode="short", parallel=parallel),
            Agree(name="agree", first="small-short", second="large-short", answer="large-short"),
            Ask(name="small-reason", model="small", mode="reason"),
            Agree(name="agree-after-reasoning", first="small-reason", second="large-short", answer="large-short"),
            Transfer(name="key-reasoning", source="small-reason", selector=selector, keep_fraction=keep_fraction),
            Ask(name="transferred", model="large", mode="transfer", context="key-reasoning"),
        ),
    )
