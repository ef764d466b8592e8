"""Whether an answer can be used as a measurement of the request that was made."""

from __future__ import annotations

from typing import Literal

from calibrate.engines.protocol import Answer, Request

__all__ = ["GOOD", "Outcome", "judge"]

Outcome = Literal["ok", "stopped_early", "overran", "wrong_usage", "no_usage", "image_ignored", "empty"]

GOOD: Outcome = "ok"


def judge(request: Request, answer: Answer, *, least_prompt_tokens: int = 1) -> tuple[Outcome, str]:
    """What became of a request, and why in words (empty for a good answer).

    Parameters
    ----------
    least_prompt_tokens
        Tokens that the prompt can't be shorter than, visual tokens included: a count below says that the server left
        something out.
    """
    if not answer.piece_s:
        return "empty", "the answer holds no text"
    if answer.output_tokens is None or answer.prompt_tokens is None:
        return "no_usage", "the server does not count tokens; expected usage at the end of the stream"
    wrong = _wrong_usage(request, answer)
    if wrong:
        return "wrong_usage", wrong
    if answer.output_tokens > request.max_output_tokens:
        return "overran", f"{answer.output_tokens} tokens, asked for at most {request.max_output_tokens}"
    if request.ignore_eos and answer.output_tokens < request.max_output_tokens:
        return (
            "stopped_early",
            f"{answer.output_tokens} of {request.max_output_tokens} tokens ({answer.finish_reason}): "
            "the server ignores ignore_eos",
        )
    if answer.prompt_tokens < least_prompt_tokens:
        return (
            "image_ignored" if request.images else "wrong_usage",
            f"{answer.prompt_tokens} prompt tokens, expected {least_prompt_tokens} or more",
        )
    return GOOD, ""


def _wrong_usage(request: Request, answer: Answer) -> str:
    """What is impossible about the server's counts."""
    output, prompt, pieces = answer.output_tokens or 0, answer.prompt_tokens or 0, len(answer.piece_s)
    if output < 1 or prompt < 1:
        return f"usage says {prompt} prompt and {output} output tokens"
    if output < pieces:
        return f"usage says {output} output tokens, {pieces} pieces of text came"
    if output > request.max_output_tokens and pieces <= request.max_output_tokens:
        return f"usage says {output} output tokens of at most {request.max_output_tokens}, {pieces} pieces came"
    if answer.finish_reason == "length" and output < request.max_output_tokens:
        return f"usage says {output} output tokens, but the answer was cut at {request.max_output_tokens}"
    return ""
