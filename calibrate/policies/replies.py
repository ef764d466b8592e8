"""From what a model wrote to a reply: where the reasoning ends, which tokens are whose, how sure the answer was."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from calibrate.engines.protocol import Answer
from costmodel.policy.gates import Reply
from costmodel.policy.plan import Mode

__all__ = ["reply_of", "split_reasoning"]

_THINKING = re.compile(r"^\s*(?:<think>)?(?P<reasoning>.*?)</think>", re.DOTALL)
_UNFINISHED = re.compile(r"^\s*<think>(?P<reasoning>.*)$", re.DOTALL)
# The last announcement of an answer, by a word and a colon or by "answer is".
_ANNOUNCED = re.compile(r"(?:final answer|answer)\s*(?:is\s*:?|:)\s*", re.IGNORECASE)

Span = tuple[int, int]


def split_reasoning(text: str, mode: Mode) -> tuple[Span, Span]:
    """Where reasoning and answer are.

    Tags decide where there are any; else, of a text that was asked to reason, the last "answer:", or the last line. A
    reasoning that was cut off has no answer.
    """
    closed = _THINKING.search(text)
    if closed is not None:
        return closed.span("reasoning"), (closed.end(), len(text))
    cut = _UNFINISHED.search(text)
    if cut is not None:
        return cut.span("reasoning"), (len(text), len(text))
    if mode != "reason":
        return (0, 0), (0, len(text))
    announced = list(_ANNOUNCED.finditer(text))
    if announced:
        return (0, announced[-1].start()), (announced[-1].end(), len(text))
    line = text.rstrip().rfind("\n") + 1
    return (0, line), (line, len(text))


def reply_of(answer: Answer, mode: Mode, *, image_tokens: int = 0, attention: Sequence[float] | None = None) -> Reply:
    """Read an answer.

    Parameters
    ----------
    image_tokens
        Of the prompt: visual tokens and those around them; traces count text tokens alone.
    attention
        Of the answer to each of the answer's tokens, where the engine says it.
    """
    text = answer.text
    if answer.reasoning:
        reasoned, answered = (0, len(answer.reasoning)), (len(answer.reasoning), len(text))
    else:
        reasoned, answered = split_reasoning(text, mode)
    reasoned, answered = _stripped(text, reasoned), _stripped(text, answered)
    spans = _spans(text, [token for token, _ in answer.token_logprobs])
    inside = [i for i, span in enumerate(spans) if _overlap(span, reasoned)]
    sure = [answer.token_logprobs[i][1] for i, span in enumerate(spans) if _overlap(span, answered)]
    return Reply(
        answer=text[slice(*answered)],
        prompt_tokens=max((answer.prompt_tokens or 0) - image_tokens, 1),
        output_tokens=max(answer.tokens, 1),
        finished=answer.finish_reason != "length",
        confidence=sum(math.exp(logprob) for logprob in sure) / len(sure) if sure else None,
        reasoning=text[slice(*reasoned)],
        reasoning_tokens=tuple(answer.token_logprobs[i][0] for i in inside),
        reasoning_logprobs=tuple(answer.token_logprobs[i][1] for i in inside) if spans else None,
        reasoning_attention=tuple(attention[i] for i in inside) if attention is not None and spans else None,
        ttft_s=answer.ttft_s,
        total_s=answer.total_s,
    )


def _spans(text: str, tokens: Sequence[str]) -> list[Span]:
    """Place of each token in the text.

    The text may be stripped, and the token that ends an answer be spelled out; where a character was split between
    tokens, places are off by as many characters as it has bytes.
    """
    spans, at = [], -max("".join(tokens).find(text), 0)
    for token in tokens:
        spans.append((at, at + len(token)))
        at += len(token)
    return spans


def _stripped(text: str, span: Span) -> Span:
    """Without the blanks at both ends, which may be part of a tag's token."""
    inner = text[slice(*span)]
    start = span[0] + len(inner) - len(inner.lstrip())
    return start, max(start, span[1] - len(inner) + len(inner.rstrip()))


def _overlap(one: Span, other: Span) -> bool:
    return max(one[0], other[0]) < min(one[1], other[1])
