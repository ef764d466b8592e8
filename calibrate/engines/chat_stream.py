"""A streamed chat completion, put together event by event."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from calibrate.engines.protocol import Answer, ServerTimes
from costmodel.errors import EndpointServerError, EndpointStreamError
from costmodel.units import MILLI

__all__ = ["ChatStream", "error_text", "server_times"]

# Where servers put text, in the order in which a model writes it.
_TEXT_FIELDS = ("reasoning_content", "reasoning", "content")
_MOST_TOKENS = 2**40


@dataclass
class ChatStream:
    """What has come of one answer.

    Parameters
    ----------
    max_pieces
        More pieces of text than this say that the server ignores the length asked for.
    """

    max_pieces: int
    texts: list[str] = field(default_factory=list)
    piece_s: list[float] = field(default_factory=list)
    finish_reason: str = ""
    finished_s: float = 0.0
    usage: Mapping[str, Any] = field(default_factory=dict)
    server: ServerTimes = field(default_factory=ServerTimes)
    reasoning: list[str] = field(default_factory=list)
    token_logprobs: list[tuple[str, float]] = field(default_factory=list)

    def add(self, event: Mapping[str, Any], now_s: float) -> bool:
        """Take one event that came at ``now_s``; says whether it held text.

        Raises
        ------
        EndpointServerError
            If the event reports a failure.
        EndpointStreamError
            If it has another form than that of a chat completion, or the answer has no end.
        """
        if event.get("error"):
            raise EndpointServerError(f"the stream reports an error: {error_text(event)}")
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
        self.server = server_times(event) or self.server
        choices = event.get("choices") or ()
        if not isinstance(choices, list | tuple) or not all(isinstance(choice, dict) for choice in choices):
            raise EndpointStreamError("an event of the stream has no list of choices; expected a chat completion")
        if not choices:
            return False
        if isinstance(choices[0].get("finish_reason"), str):
            self.finish_reason, self.finished_s = choices[0]["finish_reason"], now_s
        self.token_logprobs += _logprobs(choices[0].get("logprobs"))
        text = _text(choices[0].get("delta"))
        self.reasoning.append(_text(choices[0].get("delta"), _TEXT_FIELDS[:-1]))
        if text:
            self._add_text(text, now_s)
        return bool(text)

    def _add_text(self, text: str, now_s: float) -> None:
        self.texts.append(text)
        self.piece_s.append(now_s)
        if len(self.piece_s) > self.max_pieces:
            raise EndpointStreamError(
                f"the answer goes on beyond {self.max_pieces} pieces; the length asked for is ignored"
            )

    def answer(self) -> Answer:
        """The finished answer.

        Raises
        ------
        EndpointStreamError
            If the stream ended before the answer did.
        """
        if not self.finish_reason:
            raise EndpointStreamError(f"the stream broke off after {len(self.piece_s)} piece(s) of text")
        details = self.usage.get("prompt_tokens_details")
        return Answer(
            text="".join(self.texts),
            finish_reason=self.finish_reason,
            piece_s=tuple(self.piece_s),
            total_s=max([self.finished_s, *self.piece_s[-1:]]),
            prompt_tokens=_count(self.usage.get("prompt_tokens")),
            output_tokens=_count(self.usage.get("completion_tokens")),
            cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else None,
            server=self.server,
            reasoning="".join(self.reasoning),
            token_logprobs=tuple(self.token_logprobs),
        )


def _text(delta: object, fields: tuple[str, ...] = _TEXT_FIELDS) -> str:
    if not isinstance(delta, dict):
        return ""
    return "".join(delta[name] for name in fields if isinstance(delta.get(name), str))


def _logprobs(given: object) -> list[tuple[str, float]]:
    """Tokens of one event with their log-probabilities; anything else than that is none."""
    content = given.get("content") if isinstance(given, dict) else None
    found = []
    for entry in content if isinstance(content, list) else ():
        token, logprob = (entry.get("token"), entry.get("logprob")) if isinstance(entry, dict) else (None, None)
        usable = isinstance(logprob, int | float) and not isinstance(logprob, bool) and logprob <= 0
        if isinstance(token, str) and usable and logprob is not None:
            found.append((token, float(logprob)))
    return found


def _count(value: object) -> int | None:
    """A count of tokens; what can't be one is none."""
    plausible = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST_TOKENS
    return value if plausible and isinstance(value, int) else None


def error_text(body: Mapping[str, Any]) -> str:
    """The message of an error body, in one short line."""
    error: object = body.get("error", body.get("detail", body.get("message", "")))
    if isinstance(error, dict):
        error = error.get("message") or error.get("type") or ""
    return " ".join(str(error).split())[:200]


def server_times(event: Mapping[str, Any]) -> ServerTimes | None:
    """The server's own times, in the fields of llama.cpp (``timings``), vLLM (``metrics``), SGLang (``meta_info``)."""
    timings, metrics, meta = event.get("timings"), event.get("metrics"), event.get("meta_info")
    if isinstance(timings, dict):
        return ServerTimes(
            prefill_s=_seconds(timings, "prompt_ms", MILLI), decode_s=_seconds(timings, "predicted_ms", MILLI)
        )
    if isinstance(metrics, dict):
        return _vllm_times(metrics)
    if isinstance(meta, dict):
        return ServerTimes(total_s=_seconds(meta, "e2e_latency", 1.0))
    return None


def _vllm_times(metrics: Mapping[str, Any]) -> ServerTimes:
    """Differences of the time stamps of a request's life."""

    def between(start: str, end: str) -> float | None:
        first, last = _seconds(metrics, start, 1.0), _seconds(metrics, end, 1.0)
        return last - first if first is not None and last is not None and last >= first else None

    return ServerTimes(
        prefill_s=between("first_scheduled_time", "first_token_time"),
        decode_s=between("first_token_time", "last_token_time"),
        total_s=between("arrival_time", "last_token_time"),
    )


def _seconds(values: Mapping[str, Any], name: str, unit_s: float) -> float | None:
    value = values.get(name)
    usable = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
    return float(value) * unit_s if usable and value is not None else None
