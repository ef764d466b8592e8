"""What an engine is asked, what it answers, and the one method between them.

Times are what the client sees, from just before the request is sent; the server's own account, where it gives one, is
kept beside them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from costmodel.errors import WorkloadError

__all__ = ["Answer", "Engine", "Request", "ServerTimes"]


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a model.

    Attributes
    ----------
    images
        Encoded files (PNG, JPEG, …), see :func:`calibrate.engines.pictures.load_picture`.
    max_output_tokens
        The answer is cut after so many tokens.
    ignore_eos
        Go on to ``max_output_tokens`` whatever the model says, where the server knows how.
    reuse_prefix
        Whether the server may use what it remembers of earlier prompts; measurements want it not to.
    temperature, seed
        Of sampling; 0 is greedy.
    logprobs
        Ask for the log-probability of every token, where the server knows how.
    stop
        Texts before which the answer ends.
    """

    prompt: str
    max_output_tokens: int
    images: tuple[bytes, ...] = ()
    ignore_eos: bool = False
    reuse_prefix: bool = True
    temperature: float = 0.0
    seed: int | None = None
    logprobs: bool = False
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.max_output_tokens < 1:
            raise WorkloadError(f"max_output_tokens is {self.max_output_tokens}, expected 1 or more")
        if not self.prompt and not self.images:
            raise WorkloadError("the prompt is empty and there is no image: the request is empty")


@dataclass(frozen=True, slots=True)
class ServerTimes:
    """What the server says about a request; ``None`` where it does not say.

    Attributes
    ----------
    prefill_s
        Until the first token; image encoding included.
    decode_s
        From the first token to the last.
    total_s
        Of the whole request, queueing included.
    """

    prefill_s: float | None = None
    decode_s: float | None = None
    total_s: float | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One finished answer.

    Attributes
    ----------
    text
        What the model wrote; a separate reasoning channel comes first.
    finish_reason
        ``stop``, ``length``, or the server's own word.
    piece_s
        When each piece of text came, from the start of the request. A piece is one token for most servers.
    total_s
        When the answer ended: its last tokens may have no text.
    prompt_tokens, output_tokens, cached_tokens
        As the server counts them; ``None`` where it does not.
    attempts
        How often it was asked before it answered.
    reasoning
        What of the text came through a separate reasoning channel.
    token_logprobs
        Text and log-probability of every token, where they were asked for and the server gave them.
    """

    text: str
    finish_reason: str
    piece_s: tuple[float, ...]
    total_s: float
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    attempts: int = 1
    server: ServerTimes = ServerTimes()
    reasoning: str = ""
    token_logprobs: tuple[tuple[str, float], ...] = ()

    @property
    def ttft_s(self) -> float:
        """Time to the first piece of text."""
        return self.piece_s[0] if self.piece_s else self.total_s

    @property
    def decode_s(self) -> float:
        """From the first piece of text to the end."""
        return self.total_s - self.ttft_s

    @property
    def tokens(self) -> int:
        """Output tokens by the server's count; the pieces where it has none."""
        return len(self.piece_s) if self.output_tokens is None else self.output_tokens

    @property
    def tpot_s(self) -> float | None:
        """Mean time of a token after the first; ``None`` for a single token."""
        return self.decode_s / (self.tokens - 1) if self.tokens > 1 else None


class Engine(Protocol):
    """Anything that answers requests: a server, or a model in this process."""

    @property
    def name(self) -> str:
        """What it is called in files and messages; holds no secret."""

    async def ask(self, request: Request) -> Answer:
        """Answer one request.

        Raises
        ------
        EndpointError
            If there is no usable answer; its class says why.
        """

    async def close(self) -> None:
        """Give back connections and memory."""
