"""What makes the choice flip: factors on output lengths and times, and changes of an accuracy."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from costmodel.policy.goals import Goal, Score, best
from costmodel.policy.latency import PolicyClock, Scale
from costmodel.policy.plan import Role
from costmodel.policy.replay import Replay
from costmodel.policy.results import Sensitivity
from costmodel.policy.what_if import WhatIf

__all__ = ["sensitivity"]

# Factors looked at, from a quarter to four times; between two neighbours the flip is found by halving.
_FARTHEST = 4.0
_STEPS = 6
_HALVINGS = 5

Choose = Callable[[float], int | None]


def sensitivity(
    replays: Sequence[Replay], clock: PolicyClock, goal: Goal, scores: Sequence[Score]
) -> tuple[Sensitivity, ...]:
    """Nearest change of each quantity, one at a time, at which another policy is chosen."""
    names = [result.plan.name for result in replays]
    chosen = best(scores, goal)
    if chosen is None:
        return ()

    what_if = WhatIf(clock)

    def scaled(scale: Scale) -> int | None:
        found = []
        for result, score in zip(replays, scores, strict=True):
            found.append(Score(score.accuracy, what_if.percentile_s(result, scale, goal.percentile)))
        return best(found, goal)

    rows = []
    roles: tuple[Role, ...] = ("small", "large")
    for role in roles:
        rows.append(_factor(f"output tokens of the {role} model", names, chosen, _of_tokens(scaled, role)))
        rows.append(_factor(f"predicted time of the {role} model", names, chosen, _of_time(scaled, role)))
    return (*rows, _of_accuracy(names, chosen, scores, goal))


def _of_tokens(scaled: Callable[[Scale], int | None], role: Role) -> Choose:
    return lambda factor: scaled(Scale(output_tokens={role: factor}))


def _of_time(scaled: Callable[[Scale], int | None], role: Role) -> Choose:
    return lambda factor: scaled(Scale(time={role: factor}))


def _factor(what: str, names: Sequence[str], chosen: int, choose: Choose) -> Sensitivity:
    below, becomes_below = _flip(choose, chosen, -math.log(_FARTHEST))
    above, becomes_above = _flip(choose, chosen, math.log(_FARTHEST))
    return Sensitivity(
        what=what,
        unit="factor",
        below=below,
        becomes_below=None if becomes_below is None else names[becomes_below],
        above=above,
        becomes_above=None if becomes_above is None else names[becomes_above],
    )


def _flip(choose: Choose, chosen: int, farthest: float) -> tuple[float | None, int | None]:
    """Nearest factor on one side at which the choice is another one, and which that is."""
    same = 0.0
    for step in range(1, _STEPS + 1):
        other = farthest * step / _STEPS
        becomes = choose(math.exp(other))
        if becomes != chosen:
            return _halve(choose, chosen, (same, other), becomes)
        same = other
    return None, None


def _halve(choose: Choose, chosen: int, between: tuple[float, float], becomes: int | None) -> tuple[float, int | None]:
    same, other = between
    for _ in range(_HALVINGS):
        middle = (same + other) / 2
        found = choose(math.exp(middle))
        if found == chosen:
            same = middle
        else:
            other, becomes = middle, found
    return math.exp(other), becomes


def _of_accuracy(names: Sequence[str], chosen: int, scores: Sequence[Score], goal: Goal) -> Sensitivity:
    """How far the chosen policy's accuracy may fall; a rise changes nothing."""
    accuracy = scores[chosen].accuracy
    limits = [scores[i].accuracy for i in range(len(scores)) if i != chosen and _rival(scores, i, goal)]
    if goal.min_accuracy is not None:
        limits.append(goal.min_accuracy)
    reached = [limit for limit in limits if limit <= accuracy]
    if not reached:
        return Sensitivity(
            what=f"accuracy of {names[chosen]}",
            unit="points",
            below=None,
            becomes_below=None,
            above=None,
            becomes_above=None,
        )
    fall = accuracy - max(reached)
    lowered = list(scores)
    lowered[chosen] = Score(np.nextafter(max(reached), -1.0), scores[chosen].latency_s)
    becomes = best(lowered, goal)
    return Sensitivity(
        what=f"accuracy of {names[chosen]}",
        unit="points",
        below=-fall,
        becomes_below=None if becomes is None else names[becomes],
        above=None,
        becomes_above=None,
    )


def _rival(scores: Sequence[Score], index: int, goal: Goal) -> bool:
    """Whether a policy would win if it were the most accurate one."""
    return goal.budget_s is not None and best([scores[index]], goal) is not None
