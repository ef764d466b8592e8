"""What ``costmodel policy --format json`` prints."""

from __future__ import annotations

from typing import Literal

from costmodel.policy.goals import Goal
from costmodel.policy.latency import Deployment
from costmodel.quantity import Quantity
from costmodel.specs.base import Frozen

__all__ = [
    "Candidate",
    "Comparison",
    "MeasuredLatency",
    "PolicyChoice",
    "PolicyLatency",
    "Route",
    "Sensitivity",
    "SkippedPlan",
]


class Route(Frozen):
    """One way through a plan.

    Attributes
    ----------
    accuracy, mean_s
        ``None`` where no item went this way.
    """

    share: float
    accuracy: float | None
    mean_s: float | None


class PolicyLatency(Frozen):
    """Predicted latency over items.

    Attributes
    ----------
    percentile_s
        At the goal's percentile.
    """

    mean_s: Quantity
    p50_s: Quantity
    p95_s: Quantity
    percentile_s: Quantity


class MeasuredLatency(Frozen):
    """Latency over items as the answers were timed when they were recorded."""

    mean_s: float
    p50_s: float
    p95_s: float


class Candidate(Frozen):
    """One policy on the recorded items.

    Attributes
    ----------
    output_tokens
        Mean over items, by model.
    transferred_tokens
        Mean growth of the prompt where reasoning is handed over; ``None`` where it never is.
    measured
        ``None`` where not every answer that the policy needs was timed.
    device_s
        Mean device time of an answer, over both models.
    cost
        Of an answer, in the currency of the price per hour; ``None`` without a price.
    energy_at_most_j
        Device time times the board's rated power; ``None`` where that is not known.
    """

    name: str
    summary: str
    accuracy: Quantity
    latency: PolicyLatency
    feasible: bool
    reason: str
    routes: dict[str, Route]
    output_tokens: dict[str, float]
    transferred_tokens: float | None
    measured: MeasuredLatency | None
    device_s: float
    cost: float | None
    energy_at_most_j: float | None


class SkippedPlan(Frozen):
    """A policy that the traces can't say anything about."""

    name: str
    reason: str


class Comparison(Frozen):
    """The chosen policy against another one.

    Attributes
    ----------
    accuracy, latency_s
        Chosen minus other, the latency at the goal's percentile.
    separated
        Whether the interval of the difference that decides leaves out zero.
    """

    other: str
    accuracy: Quantity
    latency_s: Quantity
    decided_by: Literal["accuracy", "latency"]
    separated: bool


class Sensitivity(Frozen):
    """How far one thing must move before another policy is chosen.

    Attributes
    ----------
    below, above
        Nearest factor (or change, for an accuracy) at which the choice flips, either way; ``None`` where it doesn't.
    becomes_below, becomes_above
        What is chosen there; ``None`` where nothing reaches the goal any more.
    """

    what: str
    unit: Literal["factor", "points"]
    below: float | None
    becomes_below: str | None
    above: float | None
    becomes_above: str | None


class PolicyChoice(Frozen):
    """The choice, and what it was made from.

    Attributes
    ----------
    chosen
        ``None`` where nothing was asked for, or nothing reaches it.
    pareto
        From the fastest to the most accurate.
    skipped
        Plans that the traces do not cover.
    """

    schema_version: int = 1
    small: str
    large: str
    hardware: str
    engine: str
    dtype: str
    quantization: str = "none"
    interval: float
    items: int
    goal: Goal
    deployment: Deployment
    chosen: str | None
    candidates: tuple[Candidate, ...]
    pareto: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    sensitivity: tuple[Sensitivity, ...]
    skipped: tuple[SkippedPlan, ...]
    warnings: tuple[str, ...]
