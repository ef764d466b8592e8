"""How a question is put to a model, mode by mode: templates that a user replaces by a JSON file of the same fields."""

from __future__ import annotations

import string
from typing import Literal

from pydantic import NonNegativeFloat, model_validator

from calibrate.engines.protocol import Request
from costmodel.errors import PolicyError
from costmodel.policy.plan import Mode
from costmodel.policy.run import Question
from costmodel.specs.base import Frozen, Size

__all__ = ["Prompts"]

_FIELDS: dict[Mode, set[str]] = {"short": {"question"}, "reason": {"question"}, "transfer": {"question", "reasoning"}}


class Prompts(Frozen):
    """Templates and caps.

    Attributes
    ----------
    short, reason, transfer
        Text with ``{question}``, and ``{reasoning}`` in the last.
    short_tokens, reason_tokens
        Most output tokens; a plan's own cap is kept where it is lower.
    stop
        Texts before which an answer ends, for models that go on.
    temperature
        Of the second and further samples of one request; the first is greedy.
    """

    schema_version: Literal[1] = 1
    short: str = "{question}\nAnswer with the final answer only."
    reason: str = "{question}\nThink step by step, then write 'Answer:' and the final answer."
    transfer: str = (
        "{question}\nNotes of an assistant, which may be wrong:\n{reasoning}\nAnswer with the final answer only."
    )
    short_tokens: Size = 32
    reason_tokens: Size = 1024
    stop: tuple[str, ...] = ()
    temperature: NonNegativeFloat = 0.7

    @model_validator(mode="after")
    def _fields_fit(self) -> Prompts:
        for mode, wanted in _FIELDS.items():
            try:
                found = {name for _, name, _, _ in string.Formatter().parse(getattr(self, mode)) if name is not None}
            except ValueError:
                raise PolicyError(f"prompt {mode!r}: a brace is open; write {{{{ for a brace of its own") from None
            if found != wanted:
                names = ", ".join(f"{{{name}}}" for name in sorted(wanted))
                raise PolicyError(f"prompt {mode!r}: expected the fields {names}, got {sorted(found) or 'none'}")
        return self

    def request(self, question: Question, images: tuple[bytes, ...], *, logprobs: bool) -> Request:
        """What an engine is asked."""
        ask = question.ask
        cap = self.reason_tokens if ask.mode == "reason" else self.short_tokens
        text = str(getattr(self, ask.mode))
        return Request(
            prompt=text.format(question=question.item.question, reasoning=question.reasoning or ""),
            max_output_tokens=cap if ask.max_output_tokens is None else min(cap, ask.max_output_tokens),
            images=images,
            temperature=self.temperature if ask.sample else 0.0,
            seed=ask.sample if ask.sample else None,
            logprobs=logprobs,
            stop=self.stop,
        )
