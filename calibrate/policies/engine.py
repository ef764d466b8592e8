"""The engine that a plan is run on: two models, each behind anything that answers requests."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from calibrate.engines.pictures import load_picture
from calibrate.engines.protocol import Answer, Engine, Request
from calibrate.policies.prompts import Prompts
from calibrate.policies.replies import reply_of
from costmodel import program
from costmodel.errors import EndpointRequestError
from costmodel.policy.gates import Reply
from costmodel.policy.plan import Role
from costmodel.policy.run import Question
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec

__all__ = ["Attend", "Pair", "Side"]

Attend = Callable[[Request, Answer], tuple[float, ...]]
"""Attention of an answer to each of its tokens."""


@dataclass
class Side:
    """One of the two models.

    Attributes
    ----------
    model
        Name in the traces.
    spec
        Architecture, for the visual tokens of a prompt; needed where items have images.
    attend
        Says the attention to each token; local models only.
    """

    engine: Engine
    model: str
    spec: ModelSpec | None = None
    attend: Attend | None = None
    logprobs: bool = True

    def image_tokens(self, images: tuple[ImageSize, ...]) -> int:
        """Tokens of a prompt that are there for its images."""
        if not images or self.spec is None:
            return 0
        return sum(x.visual_tokens + x.extra_text_tokens for x in program.image_layouts(self.spec, images))

    async def ask(self, request: Request) -> Answer:
        """Ask; a server that refuses log-probabilities is asked without from then on."""
        try:
            return await self.engine.ask(request)
        except EndpointRequestError as error:
            if not (self.logprobs and "logprob" in str(error).lower()):
                raise
        self.logprobs = False
        return await self.engine.ask(_without_logprobs(request))


class Pair:
    """A small and a large model, as :class:`costmodel.policy.run.Engine` wants them."""

    def __init__(self, sides: Mapping[Role, Side], prompts: Prompts) -> None:
        self.sides, self.prompts = sides, prompts

    async def ask(self, question: Question) -> Reply:
        """Ask the model that the question names."""
        side = self.sides[question.ask.model]
        images = tuple(_picture(path) for path in question.item.image_paths)
        request = self.prompts.request(question, images, logprobs=side.logprobs)
        answer = await side.ask(request)
        wanted = side.attend is not None and question.ask.mode == "reason"
        attention = side.attend(request, answer) if wanted and side.attend is not None else None
        count = side.image_tokens(question.item.images)
        return reply_of(answer, question.ask.mode, image_tokens=count, attention=attention)

    async def close(self) -> None:
        """Close both engines."""
        for side in self.sides.values():
            await side.engine.close()


@functools.lru_cache(maxsize=64)
def _picture(path: str) -> bytes:
    return load_picture(Path(path))


def _without_logprobs(request: Request) -> Request:
    from dataclasses import replace

    return replace(request, logprobs=False)
