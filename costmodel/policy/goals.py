"""What is wanted of a policy, which candidates reach it, and which of them is best. Plain numbers, nothing else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.errors import PolicyError
from costmodel.specs.base import Frozen

__all__ = ["Goal", "Score", "best", "feasible", "pareto"]


class Goal(Frozen):
    """What is wanted.

    With a budget, the most accurate policy within it; with a floor alone, the fastest one above it; with both, the most
    accurate within the budget, if above the floor; with neither, nothing is chosen.

    Attributes
    ----------
    budget_s
        Most latency, at ``percentile`` over items.
    min_accuracy
        Least share of correct answers.
    """

    budget_s: float | None = None
    min_accuracy: float | None = None
    percentile: float = 95.0

    def model_post_init(self, context: object) -> None:
        """Check that the goal is possible."""
        if self.budget_s is not None and not 0 < self.budget_s < math.inf:
            raise PolicyError(f"budget_s is {self.budget_s:g}, expected more than 0 seconds")
        if self.min_accuracy is not None and not 0 <= self.min_accuracy <= 1:
            raise PolicyError(f"min_accuracy is {self.min_accuracy:g}, expected a share from 0 to 1, for example 0.9")
        if not 0 < self.percentile < 100:
            raise PolicyError(f"percentile is {self.percentile:g}, expected more than 0 and less than 100")


@dataclass(frozen=True, slots=True)
class Score:
    """The two numbers that a choice is made by.

    Attributes
    ----------
    latency_s
        At the goal's percentile.
    """

    accuracy: float
    latency_s: float


def feasible(score: Score, goal: Goal) -> bool:
    """Whether a policy reaches the goal."""
    within = goal.budget_s is None or score.latency_s <= goal.budget_s
    return within and (goal.min_accuracy is None or score.accuracy >= goal.min_accuracy)


def best(scores: Sequence[Score], goal: Goal) -> int | None:
    """Index of the best policy that reaches the goal; of equal ones the first."""
    if goal.budget_s is None and goal.min_accuracy is None:
        return None
    reached = [index for index, score in enumerate(scores) if feasible(score, goal)]
    if not reached:
        return None
    if goal.budget_s is not None:
        return min(reached, key=lambda i: (-scores[i].accuracy, scores[i].latency_s))
    return min(reached, key=lambda i: (scores[i].latency_s, -scores[i].accuracy))


def pareto(scores: Sequence[Score]) -> list[int]:
    """Policies that no other one beats in both numbers, from the fastest to the most accurate."""
    order = sorted(range(len(scores)), key=lambda i: (scores[i].latency_s, -scores[i].accuracy))
    front: list[int] = []
    for index in order:
        if not front or scores[index].accuracy > scores[front[-1]].accuracy:
            front.append(index)
    return front
