"""Results in sentences, for report and page. What matters stands between pairs of asterisks."""

from __future__ import annotations

from collections.abc import Iterator

from costmodel.breakeven import BreakEven
from costmodel.plots.text import percent, probability, seconds_interval, short_names, tokens_interval
from costmodel.predict import Prediction
from costmodel.units import format_bytes

__all__ = ["bound_words", "break_even_words", "emphasised", "memory_words", "prediction_words"]

_WAITS = {
    "compute": ("arithmetic", "more FLOP/s or fewer tokens would help"),
    "memory": ("memory", "more bandwidth or smaller weights would help"),
    "host": ("the host", "fewer and larger kernels, CUDA graphs, or a larger batch would help"),
}


def emphasised(text: str) -> Iterator[tuple[str, bool]]:
    """Parts of a sentence, and whether each matters.

    Examples
    --------
    >>> list(emphasised("takes **2 s**."))
    [('takes ', False), ('2 s', True), ('.', False)]
    """
    for index, part in enumerate(text.split("**")):
        if part:
            yield part, index % 2 == 1


def prediction_words(prediction: Prediction) -> str:
    """Say how long the answer takes."""
    return (
        f"**{prediction.model}** answers with {prediction.workload.output_tokens} tokens in "
        f"**{seconds_interval(prediction.latency.total_s)}** on {prediction.hardware} with {prediction.engine}; "
        f"the first token comes after {seconds_interval(prediction.latency.ttft_s)}."
    )


def break_even_words(result: BreakEven) -> list[str]:
    """Say which model is faster, and from which length on."""
    crossing, large_tokens = result.break_even_output_tokens, result.large_output_tokens
    place = f"On {result.hardware} with {result.engine}, "
    if crossing is None:
        return [f"{place}**{result.small}** is slower even with one token than {result.large} with {large_tokens}."]
    lines = [
        f"{place}{large_tokens} output tokens of {result.large} take as long as **{tokens_interval(crossing)}** of "
        f"{result.small}: {seconds_interval(result.large_s)}.",
        f"The small model is faster while its answers stay below {max(crossing.low, 1):.0f} tokens, "
        f"the large one once they pass {crossing.high:.0f}; in between the prediction does not tell.",
    ]
    if result.small_output_tokens is not None and result.probability_large_faster is not None:
        chance = probability(result.probability_large_faster)
        lines.append(
            f"Against {result.small_output_tokens} tokens of the small model, the large one is faster with "
            f"**probability {chance}**."
        )
    return lines


def bound_words(prediction: Prediction) -> list[str]:
    """Say what each stage of a prediction waits for, the longest stage first."""
    name = short_names([prediction.model])[prediction.model]
    latency, whole = prediction.latency, prediction.latency.total_s.value
    shares = {stage: getattr(latency, f"{stage}_s").value / whole for stage in (*prediction.bound, "preprocess")}
    lines = []
    for stage, share in sorted(shares.items(), key=lambda entry: -entry[1]):
        if share == 0:
            continue
        if stage == "preprocess":
            lines.append(f"Preprocessing is {percent(share)} of the time and is work of **the host's CPU**.")
            continue
        bound = prediction.bound[stage]
        if bound in _WAITS:
            what, remedy = _WAITS[bound]
            lines.append(f"{stage.capitalize()} is {percent(share)} of the time and waits for **{what}**: {remedy}.")
    return [f"{name}: {line[0].lower()}{line[1:]}" if index == 0 else line for index, line in enumerate(lines)]


def memory_words(prediction: Prediction) -> str:
    """Say whether it fits."""
    memory = prediction.memory
    name = short_names([prediction.model])[prediction.model]
    verdict = "**fits**" if memory.fits else "**does not fit**"
    return (
        f"{name} needs {format_bytes(memory.total_bytes)} of the device's {format_bytes(memory.capacity_bytes)} and "
        f"{verdict}."
    )
