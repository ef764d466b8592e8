"""Which policy to deploy: every candidate replayed on recorded answers, timed by predictions, and compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from costmodel.errors import PolicyError
from costmodel.estimate import Estimate
from costmodel.policy import summary
from costmodel.policy.bootstrap import PairedAccuracy
from costmodel.policy.catalog import catalog
from costmodel.policy.catalog.always_transfer import always_transfer
from costmodel.policy.catalog.mutual_verification import mutual_verification
from costmodel.policy.goals import Goal, Score, best, feasible, pareto
from costmodel.policy.latency import Deployment, ModelClock, PolicyClock, PolicyTimes
from costmodel.policy.measured import measured_seconds
from costmodel.policy.plan import Plan, Role
from costmodel.policy.replay import Replay, missing_traces, replay
from costmodel.policy.results import (
    Candidate,
    Comparison,
    MeasuredLatency,
    PolicyChoice,
    PolicyLatency,
    Route,
    SkippedPlan,
)
from costmodel.policy.sensitivity import sensitivity
from costmodel.policy.serving import (
    Served,
    Serving,
    check_sharing,
    cost_of,
    device_seconds,
    energy_at_most_j,
    said_of,
    serve,
)
from costmodel.policy.traces import Trace, TraceSet
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.quantity import Quantity, normal_quantile
from costmodel.specs.model import ModelSpec
from costmodel.units import format_seconds

__all__ = ["choose_policy", "default_plans", "policy_clock"]


@dataclass(frozen=True)
class _Evaluated:
    """One candidate with everything that is said of it."""

    plan: Plan
    result: Replay
    times: PolicyTimes
    measured_s: NDArray[np.float64] | None
    percentile: float

    @cached_property
    def at_percentile(self) -> Estimate:
        return summary.at_percentile(self.times.latency, self.percentile)

    @cached_property
    def score(self) -> Score:
        return Score(float(self.result.correct.mean()), float(self.at_percentile.value_s))


def choose_policy(
    small: ModelSpec,
    large: ModelSpec,
    traces: TraceSet | Sequence[Trace],
    hardware: HardwareProfile,
    engine: EngineProfile,
    *,
    goal: Goal | None = None,
    plans: Sequence[Plan] | None = None,
    deployment: Deployment | None = None,
    serving: Mapping[Role, Serving] | None = None,
    clock: PolicyClock | None = None,
    dtype: str = "bf16",
    interval: float = 0.9,
    price_per_hour: float | None = None,
    with_sensitivity: bool = True,
    seed: int = 0,
) -> PolicyChoice:
    """Choose between policies of two models.

    Parameters
    ----------
    traces
        Recorded answers of both models on the same items; a plain sequence must name them as the specs do.
    goal
        What is wanted; without one, only the Pareto front is given.
    plans
        Candidates; all of the catalogue that the traces cover where not given.
    deployment
        One device or two, and whether a prefix is reused; one device without reuse where not given.
    serving
        What a model has of its own: device, engine, quantisation, price; ``hardware`` and ``engine`` are common.
    clock
        Predictions made before by :func:`policy_clock` for these models and items; they fix deployment and dtype.
    price_per_hour
        Of one device, for the cost of an answer.
    with_sensitivity
        Whether to look for what makes the choice flip.
    seed
        Of the bootstrap.

    Raises
    ------
    PolicyError
        If a plan that was asked for, or every plan of the catalogue, needs answers that are not recorded; if a
        price is below 0; or if models on unlike devices are said to share one.
    TraceError
        If the traces do not fit together.
    """
    normal_quantile(interval)
    common = Serving(hardware=hardware, engine=engine, price_per_hour=price_per_hour)
    served = serve({"small": small, "large": large}, common, serving or {})
    check_sharing(served, (deployment or Deployment()).devices)
    recorded = traces if isinstance(traces, TraceSet) else TraceSet.of(traces, small=small.name, large=large.name)
    wanted = goal or Goal()
    replays, skipped = _replays(plans, recorded)
    clock = clock or policy_clock(served, recorded, deployment=deployment, dtype=dtype)
    found = [
        _Evaluated(each.plan, each, clock.times(each), measured_seconds(each, recorded, clock.deployment), at)
        for each, at in ((each, wanted.percentile) for each in replays)
    ]
    accuracies = PairedAccuracy.of(np.stack([each.result.correct for each in found]), seed=seed)
    scores = [each.score for each in found]
    chosen = best(scores, wanted)
    candidates = tuple(
        _candidate(each, accuracies.accuracy(i, interval), wanted, interval, served) for i, each in enumerate(found)
    )
    comparisons = () if chosen is None else _comparisons(found, accuracies, chosen, wanted, interval)
    return PolicyChoice(
        small=small.name,
        large=large.name,
        hardware=said_of(served, "hardware"),
        engine=said_of(served, "engine"),
        dtype=dtype,
        quantization=said_of(served, "quantization"),
        interval=interval,
        items=len(recorded),
        goal=wanted,
        deployment=clock.deployment,
        chosen=None if chosen is None else found[chosen].plan.name,
        candidates=candidates,
        pareto=tuple(found[i].plan.name for i in pareto(scores)),
        comparisons=comparisons,
        sensitivity=sensitivity(replays, clock, wanted, scores) if with_sensitivity and chosen is not None else (),
        skipped=skipped,
        warnings=(*_doubts(candidates, comparisons, chosen, wanted, recorded), *clock.warnings),
    )


def default_plans(traces: TraceSet) -> tuple[Plan, ...]:
    """The catalogue, and its transferring policies once more for every selector that was recorded."""
    plans = list(catalog())
    for key in sorted(traces.columns, key=str):
        if key.mode != "transfer" or (key.selector, key.keep_fraction) == ("all", 1.0):
            continue
        for make in (mutual_verification, always_transfer):
            plan = make(selector=key.selector, keep_fraction=key.keep_fraction)
            name = f"{plan.name}-{key.selector}-{key.keep_fraction * 100:.0f}"
            plans.append(plan.model_copy(update={"name": name}))
    return tuple(plans)


def policy_clock(
    served: Mapping[Role, Served],
    traces: TraceSet,
    *,
    deployment: Deployment | None = None,
    dtype: str = "bf16",
) -> PolicyClock:
    """Predictions for both models over the items of recorded traces."""
    clocks: dict[Role, ModelClock] = {}
    for role, each in served.items():
        columns = [column for key, column in traces.columns.items() if key.role == role]
        longest = max(int((column.prompt_tokens + column.output_tokens).max()) for column in columns)
        clocks[role] = ModelClock(each, traces.images, longest_context=longest, dtype=dtype)
    noise = {role: each.hardware.run_log_sd for role, each in served.items()}
    return PolicyClock(clocks, deployment=deployment, run_log_sd=noise)


def _replays(plans: Sequence[Plan] | None, traces: TraceSet) -> tuple[list[Replay], tuple[SkippedPlan, ...]]:
    """Every plan that the traces cover; one that was asked for by name must be covered."""
    candidates = default_plans(traces) if plans is None else plans
    names = [plan.name for plan in candidates]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise PolicyError(f"two candidates are named {twice!r}; give each its own name")
    found, skipped = [], []
    for plan in candidates:
        reason = missing_traces(plan, traces)
        if reason is None:
            found.append(replay(plan, traces))
        elif plans is not None:
            raise PolicyError(f"plan {plan.name}: {reason}")
        else:
            skipped.append(SkippedPlan(name=plan.name, reason=reason))
    if not found:
        raise PolicyError(
            f"no policy can be replayed: {skipped[0].name}: {skipped[0].reason}" if skipped else "no plans"
        )
    return found, tuple(skipped)


def _candidate(
    each: _Evaluated,
    accuracy: Quantity,
    goal: Goal,
    interval: float,
    served: Mapping[Role, Served],
) -> Candidate:
    latency = each.times.latency
    busy_s = each.times.busy_s
    at_percentile = summary.quantity(each.at_percentile, interval)
    return Candidate(
        name=each.plan.name,
        summary=each.plan.summary,
        accuracy=accuracy,
        latency=PolicyLatency(
            mean_s=summary.quantity(summary.mean(latency), interval),
            p50_s=summary.quantity(summary.at_percentile(latency, 50), interval),
            p95_s=summary.quantity(summary.at_percentile(latency, 95), interval),
            percentile_s=at_percentile,
        ),
        feasible=feasible(each.score, goal),
        reason=_reason(accuracy, at_percentile, goal),
        routes=_routes(each),
        output_tokens={role: float(each.result.output_tokens(role).mean()) for role in each.times.busy_s},
        transferred_tokens=_transferred(each.result),
        measured=_measured(each.measured_s),
        device_s=device_seconds(busy_s, served),
        cost=cost_of(busy_s, served),
        energy_at_most_j=energy_at_most_j(busy_s, served),
    )


def _routes(each: _Evaluated) -> dict[str, Route]:
    seconds = np.asarray(each.times.latency.value_s)
    routes = {}
    for index, (name, share) in enumerate(each.result.route_shares().items()):
        here = each.result.route == index
        routes[name] = Route(
            share=share,
            accuracy=float(each.result.correct[here].mean()) if share else None,
            mean_s=float(seconds[here].mean()) if share else None,
        )
    return routes


def _measured(seconds: NDArray[np.float64] | None) -> MeasuredLatency | None:
    if seconds is None:
        return None
    p50_s, p95_s = np.percentile(seconds, [50, 95])
    return MeasuredLatency(mean_s=float(seconds.mean()), p50_s=float(p50_s), p95_s=float(p95_s))


def _transferred(result: Replay) -> float | None:
    """Prompt tokens of the ask that is handed reasoning, beyond those of the ask that wrote it."""
    by_name = {used.ask.name: used for used in result.used}
    for used in result.used:
        transfer = result.plan.transfer_of(used.ask)
        if transfer is not None and used.asked.any():
            grown = used.prompt_tokens - by_name[transfer.source].prompt_tokens
            return float(grown[used.asked].mean())
    return None


def _reason(accuracy: Quantity, latency: Quantity, goal: Goal) -> str:
    """Why a candidate is feasible or not, and whether the intervals leave that open."""
    parts = []
    if goal.budget_s is not None:
        verdict = "within" if latency.value <= goal.budget_s else "above"
        text = f"p{goal.percentile:g} {format_seconds(latency.value)} {verdict} {format_seconds(goal.budget_s)}"
        parts.append(text + (" (open)" if latency.low <= goal.budget_s < latency.high else ""))
    if goal.min_accuracy is not None:
        verdict = "reaches" if accuracy.value >= goal.min_accuracy else "below"
        text = f"accuracy {accuracy.value:.1%} {verdict} {goal.min_accuracy:.1%}"
        parts.append(text + (" (open)" if accuracy.low < goal.min_accuracy <= accuracy.high else ""))
    return ", ".join(parts) or "no goal"


def _comparisons(
    found: Sequence[_Evaluated], accuracies: PairedAccuracy, chosen: int, goal: Goal, interval: float
) -> tuple[Comparison, ...]:
    decided_by = "accuracy" if goal.budget_s is not None else "latency"
    comparisons = []
    for index, each in enumerate(found):
        if index == chosen:
            continue
        accuracy = accuracies.difference(chosen, index, interval)
        latency = summary.difference(found[chosen].at_percentile, each.at_percentile, interval)
        deciding = accuracy if decided_by == "accuracy" else latency
        comparisons.append(
            Comparison(
                other=each.plan.name,
                accuracy=accuracy,
                latency_s=latency,
                decided_by=decided_by,
                separated=not deciding.low <= 0 <= deciding.high,
            )
        )
    return tuple(comparisons)


def _doubts(
    candidates: Sequence[Candidate],
    comparisons: Sequence[Comparison],
    chosen: int | None,
    goal: Goal,
    traces: TraceSet,
) -> list[str]:
    """What the data leave open."""
    doubts = []
    if traces.dropped:
        doubts.append(f"{traces.dropped} items without an answer to every request were left out")
    for key, column in traces.columns.items():
        if not column.correct.any():
            doubts.append(f"no answer of {key} is correct")
    if chosen is None:
        return doubts
    rivals = {candidate.name for candidate in candidates if candidate.feasible}
    for each in comparisons:
        if each.other in rivals and not each.separated:
            gap = each.accuracy if each.decided_by == "accuracy" else each.latency_s
            doubts.append(
                f"the data can't separate {candidates[chosen].name} from {each.other} in {each.decided_by}: "
                f"difference {_signed(gap, each.decided_by)}"
            )
    doubts += [
        f"{candidate.name} may or may not reach the goal: {candidate.reason}"
        for candidate in candidates
        if "(open)" in candidate.reason
    ]
    return doubts


def _signed(gap: Quantity, unit: str) -> str:
    if unit == "accuracy":
        return f"{gap.value * 100:+.1f} points [{gap.low * 100:+.1f}, {gap.high * 100:+.1f}]"
    return f"{format_seconds(gap.value)} [{format_seconds(gap.low)}, {format_seconds(gap.high)}]"
