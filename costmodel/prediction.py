"""What a prediction says, as printed and stored."""

from __future__ import annotations

from costmodel.memory import Memory
from costmodel.pricing import Bound
from costmodel.quantity import Quantity
from costmodel.specs.base import Frozen, Shown
from costmodel.specs.workload import Workload

__all__ = ["Latency", "Prediction"]


class Latency(Frozen):
    """Stage times of a request, in seconds; without an interval, low and high equal the value.

    Attributes
    ----------
    preprocess_s, encode_s, prefill_s, decode_s
        The four stages; decode is all steps after the first token.
    ttft_s
        Time to the first token: preprocess, encode and prefill.
    tpot_s
        Mean time of an output token after the first.
    total_s
        The whole request.
    """

    preprocess_s: Quantity
    encode_s: Quantity
    prefill_s: Quantity
    decode_s: Quantity
    ttft_s: Quantity
    tpot_s: Quantity
    total_s: Quantity


class Prediction(Shown):
    """What ``costmodel predict --format json`` prints.

    Attributes
    ----------
    interval
        Probability that each quantity of ``latency`` holds.
    visual_tokens
        Of each image, in the decoder.
    prompt_tokens_total
        Text, visual tokens and what a template puts around them.
    bound
        What each stage on the device waits for: compute, memory or host.
    sources
        Tier of calibration behind each group of coefficients.
    warnings
        What makes the prediction less sure than it looks, or the request impossible.
    """

    schema_version: int = 1
    model: str
    hardware: str
    engine: str
    dtype: str
    quantization: str = "none"
    num_devices: int = 1
    interval: float | None
    workload: Workload
    visual_tokens: tuple[int, ...]
    prompt_tokens_total: int
    latency: Latency
    memory: Memory
    bound: dict[str, Bound]
    sources: dict[str, str]
    warnings: tuple[str, ...]
