"""The large model reasons where both short answers differ: mutual verification without a transfer."""

from __future__ import annotations

from costmodel.policy.plan import Agree, Ask, Plan

__all__ = ["escalate"]


def escalate(*, parallel: bool = True) -> Plan:
    """Ask both for a short answer; where they differ, let the large model reason for itself."""
    return Plan(
        name="escalate",
        summary="both answer; where they differ large reasons",
        steps=(
            Ask(name="small-short", model="small", mode="short"),
            Ask(name="large-short", model="large", mode="short", parallel=parallel),
            Agree(name="agree", first="small-short", second="large-short", answer="large-short"),
            Ask(name="large-reason", model="large", mode="reason"),
        ),
    )
