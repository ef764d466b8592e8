"""Reasoning within a budget of tokens (budget forcing: arXiv 2501.19393, section 3)."""

from __future__ import annotations

from costmodel.policy.plan import Ask, Finished, Plan, Role

__all__ = ["budget_forcing"]


def budget_forcing(model: Role, *, max_output_tokens: int = 256) -> Plan:
    """Let one model reason up to a cap; what is not finished by then gets the model's short answer.

    What a model would answer from half a chain of thought is in no ordinary log, so it is not guessed: the short answer
    stands in, and its time is counted.
    """
    return Plan(
        name=f"{model}-budget",
        summary=f"{model} reasons for at most {max_output_tokens} tokens, else gives its short answer",
        steps=(
            Ask(name=f"{model}-reason", model=model, mode="reason", max_output_tokens=max_output_tokens),
            Finished(name="within-budget", source=f"{model}-reason"),
            Ask(name=f"{model}-short", model=model, mode="short"),
        ),
    )
