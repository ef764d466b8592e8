"""Every request that the catalogue makes, whatever the answers: to record traces once and choose later."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.policy.plan import Ask, Plan, Step, Transfer

__all__ = ["record"]


def record(*, transfers: Sequence[tuple[str, float]] = (("all", 1.0),), samples: int = 1) -> Plan:
    """Ask both models in every mode.

    Parameters
    ----------
    transfers
        Selectors and shares of the reasoning to hand over, one request to the large model each.
    samples
        Reasoned answers of the small model, for self-consistency.
    """
    steps: list[Step] = [
        Ask(name="small-short", model="small", mode="short"),
        Ask(name="large-short", model="large", mode="short"),
        Ask(name="small-reason", model="small", mode="reason"),
        *(Ask(name=f"small-reason-{i}", model="small", mode="reason", sample=i) for i in range(1, samples)),
    ]
    for number, (selector, keep) in enumerate(transfers):
        name = f"key-reasoning-{number}"
        steps += [
            Transfer(name=name, source="small-reason", selector=selector, keep_fraction=keep),
            Ask(name=f"transferred-{number}", model="large", mode="transfer", context=name),
        ]
    steps.append(Ask(name="large-reason", model="large", mode="reason"))
    return Plan(name="record", summary="both models in every mode, for traces", steps=tuple(steps))
