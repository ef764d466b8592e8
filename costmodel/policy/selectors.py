"""Which tokens of a reasoning are handed on: all, the last, head and tail, or those that count for most.

A selector gets the tokens as the server counted them, how many may be kept, and what the engine said about each token;
it returns the kept positions in order. Log-probabilities come from servers; the attention of the answer to each token
needs the model itself, so only an engine that holds it (local transformers) can say it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.errors import PolicyError, UnknownKeyError

__all__ = ["Evidence", "Selection", "Selector", "register", "select", "selector_names", "split_tokens"]

_PIECES = re.compile(r"\s*\S+")
_SENTENCE_END = re.compile(r"[.!?;:\u3002\uff01\uff1f]['\")\]]*\s*$|\n\s*$")


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the engine said about each token of a reasoning; ``None`` where it did not.

    Attributes
    ----------
    logprobs
        Log-probability of each token.
    attention
        Attention that the answer paid to each token, mean over layers, heads and answer tokens.
    """

    logprobs: Sequence[float] | None = None
    attention: Sequence[float] | None = None


Selector = Callable[[Sequence[str], int, Evidence], Sequence[int]]
"""From tokens, number to keep and evidence to kept positions."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What is handed on.

    Attributes
    ----------
    tokens
        Of the whole reasoning.
    kept
        Positions handed on, ascending.
    """

    text: str
    tokens: int
    kept: tuple[int, ...]


def split_tokens(text: str) -> tuple[str, ...]:
    """Words with the blanks before them: a stand-in where the server did not say its tokens.

    Examples
    --------
    >>> split_tokens("b3 right. c3")
    ('b3', ' right.', ' c3')
    """
    return tuple(_PIECES.findall(text))


def select(
    tokens: Sequence[str],
    selector: str,
    keep_fraction: float,
    *,
    logprobs: Sequence[float] | None = None,
    attention: Sequence[float] | None = None,
) -> Selection:
    """Choose what of a reasoning is handed on.

    Parameters
    ----------
    tokens
        Texts of the tokens; joined, they are the reasoning.
    keep_fraction
        Share of the tokens that may be kept; rounded up, so that something is.
    logprobs, attention
        Of each token, see :class:`Evidence`.

    Raises
    ------
    UnknownKeyError
        If there is no such selector.
    PolicyError
        If the share is not within (0, 1], or what the selector needs is missing or of another number.
    """
    if selector not in _SELECTORS:
        raise UnknownKeyError("selector", selector, _SELECTORS)
    if not 0 < keep_fraction <= 1:
        raise PolicyError(f"keep_fraction is {keep_fraction:g}, expected more than 0 and at most 1")
    for name, values in (("log-probabilities", logprobs), ("attention weights", attention)):
        if values is not None and len(values) != len(tokens):
            raise PolicyError(f"got {len(values)} {name} for {len(tokens)} tokens")
    # A share that is a ratio of two counts comes back as that count.
    count = min(math.ceil(keep_fraction * len(tokens) - 1e-9), len(tokens))
    kept = tuple(sorted(_SELECTORS[selector](tokens, count, Evidence(logprobs, attention))))
    return Selection("".join(tokens[i] for i in kept), len(tokens), kept)


def _all(tokens: Sequence[str], count: int, evidence: Evidence) -> Sequence[int]:
    """Everything, whatever the share."""
    return range(len(tokens))


def _last(tokens: Sequence[str], count: int, evidence: Evidence) -> Sequence[int]:
    """The end, where the conclusion is."""
    return range(len(tokens) - count, len(tokens))


def _head_and_tail(tokens: Sequence[str], count: int, evidence: Evidence) -> Sequence[int]:
    """Half from the start (what was seen), half from the end (what follows from it)."""
    tail = math.ceil(count / 2)
    return [*range(count - tail), *range(len(tokens) - tail, len(tokens))]


def _information(tokens: Sequence[str], count: int, evidence: Evidence) -> Sequence[int]:
    """Whole sentences in falling order of surprisal per token, as many as fit; the last one is cut."""
    logprobs = evidence.logprobs
    if logprobs is None:
        raise PolicyError("selector 'information' needs the log-probabilities of the tokens; none are recorded")
    bounds = _sentences(tokens)
    surprisal = [-float(np.mean(logprobs[start:end])) for start, end in bounds]
    kept: list[int] = []
    for index in sorted(range(len(bounds)), key=lambda i: (-surprisal[i], i)):
        start, end = bounds[index]
        kept += range(start, min(end, start + count - len(kept)))
    return kept


def _attention(tokens: Sequence[str], count: int, evidence: Evidence) -> Sequence[int]:
    """The tokens that the answer paid most attention to, one by one; of equals the later one."""
    attention = evidence.attention
    if attention is None:
        raise PolicyError("selector 'attention' needs the weights of the model; expected a local engine (local:FOLDER)")
    return sorted(range(len(tokens)), key=lambda i: (-attention[i], -i))[:count]


def _sentences(tokens: Sequence[str]) -> list[tuple[int, int]]:
    bounds, start = [], 0
    for end, token in enumerate(tokens, start=1):
        if _SENTENCE_END.search(token) or end == len(tokens):
            bounds.append((start, end))
            start = end
    return bounds


_SELECTORS: dict[str, Selector] = {
    "all": _all,
    "last": _last,
    "head-and-tail": _head_and_tail,
    "information": _information,
    "attention": _attention,
}


def selector_names() -> tuple[str, ...]:
    """Names of every selector."""
    return tuple(sorted(_SELECTORS))


def register(name: str, selector: Selector) -> None:
    """Add a selector.

    Raises
    ------
    PolicyError
        If the name is taken.
    """
    if name in _SELECTORS:
        raise PolicyError(f"selector {name!r} exists already; choose another name")
    _SELECTORS[name] = selector
