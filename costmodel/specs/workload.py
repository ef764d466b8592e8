"""What is asked of a model: images, token counts, batch."""

from __future__ import annotations

from pydantic import model_validator

from costmodel.errors import WorkloadError
from costmodel.specs.base import Frozen
from costmodel.specs.images import ImageSize, VideoSize
from costmodel.units import MEGA

__all__ = ["Workload"]

_LOWEST = {"prompt_tokens": 0, "output_tokens": 1, "batch": 1, "cached_prefix_tokens": 0}


class Workload(Frozen):
    """One request, or ``batch`` equal requests served together.

    Attributes
    ----------
    images, videos
        Sizes before processing.
    prompt_tokens
        Text tokens of the prompt, without visual tokens and the tokens a template puts around them.
    output_tokens
        Tokens generated, the first one included.
    batch
        Equal requests in one static batch.
    cached_prefix_tokens
        Leading tokens whose keys and values are already in the cache.
    """

    images: tuple[ImageSize, ...] = ()
    videos: tuple[VideoSize, ...] = ()
    prompt_tokens: int
    output_tokens: int
    batch: int = 1
    cached_prefix_tokens: int = 0

    @model_validator(mode="after")
    def _counts_are_possible(self) -> Workload:
        for name, lowest in _LOWEST.items():
            got = getattr(self, name)
            if got < lowest:
                raise WorkloadError(f"{name} is {got}, expected {lowest} or more")
        if not self.images and not self.videos and self.prompt_tokens == 0:
            raise WorkloadError("prompt_tokens is 0 and there is no image: the request is empty")
        return self

    @property
    def megapixels(self) -> float:
        """Pixels of all images and frames before processing, in 10⁶."""
        pixels = sum(image.pixels for image in self.images) + sum(video.pixels for video in self.videos)
        return pixels / MEGA
