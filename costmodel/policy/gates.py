"""When a plan stops, for one item: the rule that the item-by-item interpreters share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from costmodel.errors import PolicyError
from costmodel.policy.plan import Agree, Confident, Finished, Step, Vote

__all__ = ["Reply", "stop"]


@dataclass(frozen=True, slots=True)
class Reply:
    """What came back from a model.

    Attributes
    ----------
    finished
        Whether the model stopped by itself, not by a cap.
    confidence
        Mean probability of the answer's tokens, where the engine says it.
    reasoning_tokens, reasoning_logprobs, reasoning_attention
        Texts of the reasoning's tokens, their log-probabilities and the answer's attention to them, where the engine
        says them.
    ttft_s, total_s
        As the caller measured them.
    """

    answer: str
    prompt_tokens: int
    output_tokens: int
    finished: bool = True
    confidence: float | None = None
    reasoning: str = ""
    reasoning_tokens: tuple[str, ...] = ()
    reasoning_logprobs: tuple[float, ...] | None = None
    reasoning_attention: tuple[float, ...] | None = None
    ttft_s: float | None = None
    total_s: float | None = None


def stop(step: Step, replies: Mapping[str, Reply], agree: Callable[[str, str], bool]) -> str | None:
    """Name of the ask whose answer ends the plan at this step; nothing where it goes on."""
    if isinstance(step, Agree):
        return step.answer if agree(replies[step.first].answer, replies[step.second].answer) else None
    if isinstance(step, Finished):
        return step.source if replies[step.source].finished else None
    if isinstance(step, Confident):
        confidence = replies[step.source].confidence
        if confidence is None:
            raise PolicyError(f"step {step.name!r} needs the confidence of {step.source!r}; the engine gives none")
        return step.source if confidence >= step.threshold else None
    if isinstance(step, Vote):
        votes = [sum(agree(replies[one].answer, replies[other].answer) for other in step.among) for one in step.among]
        return step.among[votes.index(max(votes))]
    return None
