"""One model, asked once: the baselines."""

from __future__ import annotations

from costmodel.policy.plan import Ask, Mode, Plan, Role

__all__ = ["single"]


def single(model: Role, mode: Mode) -> Plan:
    """Ask one model, to answer at once or to reason first."""
    how = "answers at once" if mode == "short" else "reasons, then answers"
    return Plan(
        name=f"{model}-{mode}",
        summary=f"the {model} model {how}",
        steps=(Ask(name=f"{model}-{mode}", model=model, mode=mode),),
    )
