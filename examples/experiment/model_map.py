"""A model, not a measurement: the framework under made-up accuracies, at the costs of a request that were measured.

Answers of the two models are taken as independent, and a wrong one as any of the others with equal chance. The large
model takes a right reasoning over; a wrong one it puts right with a given chance. With answers from a space of V, two
short answers agree with probability s b + (1 - s)(1 - b) / (V - 1), s of the small and b of the large model; the first
part of it is right.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from costmodel.policy.catalog import mutual_verification
from costmodel.policy.expected import Aggregates, MeanTokens, expect
from costmodel.render import Table

__all__ = ["Chances", "framework", "model_table"]


@dataclass(frozen=True, slots=True)
class Chances:
    """Probability of a right answer.

    Attributes
    ----------
    seen
        That the large model puts a wrong reasoning right.
    answers
        Size of the answer space.
    """

    small_short: float
    small_reason: float
    large_short: float
    seen: float
    answers: int


def framework(chances: Chances) -> tuple[float, dict[str, float]]:
    """Accuracy of mutual verification, and the probability that each request is made."""
    s, r, b, v = chances.small_short, chances.small_reason, chances.large_short, chances.answers
    agree = s * b + (1 - s) * (1 - b) / (v - 1)
    # Where the short answers differ: the large one's is right or wrong, the reasoned one agrees with it or not.
    right = b * (1 - s)
    wrong = (1 - b) * (1 - (1 - s) / (v - 1))
    again_right, again_wrong = right * r, wrong * (1 - r) / (v - 1)
    left = right + wrong - again_right - again_wrong
    # A reasoning that is right here differs from a wrong short answer; one that is wrong may be seen to be.
    handed_right = wrong * r
    transferred = (handed_right + (left - handed_right) * chances.seen) / left if left > 0 else 0.0
    gate = 1 - agree
    plan = mutual_verification()
    aggregates = Aggregates(
        asks={ask.name: MeanTokens(prompt_tokens=0, output_tokens=0) for ask in plan.asks},
        stops={"agree": agree, "agree-after-reasoning": (again_right + again_wrong) / gate if gate > 0 else 0.0},
        correct={
            "agree": s * b / agree if agree > 0 else 0.0,
            "agree-after-reasoning": again_right / (again_right + again_wrong) if again_right + again_wrong else 0.0,
            "transferred": transferred,
        },
    )
    means = expect(plan, aggregates)
    return means.accuracy or 0.0, means.asked


def model_table(seconds: dict[str, float]) -> Table:
    """Accuracy and latency of the framework and of the small model's reasoning over a grid of chances."""
    cost = {
        "small-short": seconds["small-short"],
        "large-short": seconds["large-short"],
        "small-reason": seconds["small-reason"],
        "transferred": seconds["always-transfer"] - seconds["small-reason"],
    }
    rows = []
    for small_reason, large_short, seen, answers in product((0.95, 0.7, 0.4), (0.85, 0.6), (0.9, 0.3), (2, 16)):
        chances = Chances(min(small_reason, 0.55), small_reason, large_short, seen, answers)
        accuracy, asked = framework(chances)
        latency_s = sum(share * cost[name] for name, share in asked.items())
        beaten = (accuracy <= small_reason and latency_s >= cost["small-reason"]) or (
            accuracy <= large_short and latency_s >= cost["large-short"]
        )
        rows.append(
            (
                *(f"{100 * each:.0f} %" for each in (chances.small_short, small_reason, large_short, seen)),
                str(answers),
                f"{100 * accuracy:.1f} %",
                f"{1000 * latency_s:.0f} ms",
                "loses"
                if beaten
                else "faster than large-reason"
                if latency_s < seconds["large-reason"]
                else "slower than large-reason",
            )
        )
    return Table(
        title="model, not measurement: mutual verification under made-up accuracies",
        columns=("small short", "small reason", "large short", "seen", "answers", "accuracy", "latency", "verdict"),
        rows=tuple(rows),
        footer=(
            "seen: chance that the large model puts a wrong reasoning right; answers: size of the answer space",
            "loses: one model alone is as accurate and not slower. Costs of a request are those of the first table",
        ),
    )
