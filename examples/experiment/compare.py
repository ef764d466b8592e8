"""Predicted against measured policies: latency item by item, and whether the choice is the measured best."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.policy.bootstrap import PairedAccuracy
from costmodel.policy.catalog import plan_named
from costmodel.policy.catalog.always_transfer import always_transfer
from costmodel.policy.choose import policy_clock
from costmodel.policy.latency import PolicyClock
from costmodel.policy.replay import Replay, replay
from costmodel.policy.results import Candidate, PolicyChoice
from costmodel.policy.serving import Served
from costmodel.policy.traces import TraceSet
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.model import ModelSpec

__all__ = ["checks", "mean_seconds", "policy_rows", "selector_rows", "write_figures"]

LIMIT, NOISE_FACTOR, NEAR_BEST = 0.10, 1.5, 0.03
Row = dict[str, Any]
Models = tuple[ModelSpec, ModelSpec]


def policy_rows(
    choice: PolicyChoice,
    recorded: TraceSet,
    runs: Sequence[Row],
    models: Models,
    profile: HardwareProfile,
    engine: EngineProfile,
) -> list[Row]:
    """Every policy that was run: accuracy on all items, latency on the timed ones, measured and predicted."""
    clock = _clock(recorded, models, profile, engine)
    measured: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        measured[run["policy"], run["item_id"]].append(run["total_s"])
    by_name = {candidate.name: candidate for candidate in choice.candidates}
    rows = []
    for name in dict.fromkeys(run["policy"] for run in runs):
        result = replay(plan_named(name), recorded)
        predicted = dict(zip(recorded.items, np.asarray(clock.times(result).latency.value_s).tolist(), strict=True))
        timed = {item: float(np.mean(times)) for (policy, item), times in measured.items() if policy == name}
        ratios = [predicted[item] / seconds for item, seconds in timed.items()]
        rows.append(
            {
                **_said(by_name[name]),
                "measured_s": float(np.median(list(timed.values()))),
                "measured_mean_s": float(np.mean(list(timed.values()))),
                "predicted_s": float(np.median([predicted[item] for item in timed])),
                "predicted_mean_s": float(np.mean([predicted[item] for item in timed])),
                "error": float(np.median(ratios) - 1),
                "median_error": float(np.median(np.abs(np.array(ratios) - 1))),
                "differs": _differing(result, recorded, [run for run in runs if run["policy"] == name]),
            }
        )
    return sorted(rows, key=lambda row: float(row["measured_mean_s"]))


def _clock(recorded: TraceSet, models: Models, profile: HardwareProfile, engine: EngineProfile) -> PolicyClock:
    served = {"small": Served(models[0], profile, engine), "large": Served(models[1], profile, engine)}
    return policy_clock(served, recorded, dtype="fp32")  # type: ignore[arg-type]


def mean_seconds(
    result: Replay, recorded: TraceSet, *, models: Models, profile: HardwareProfile, engine: EngineProfile
) -> float:
    """Predicted latency of a policy, mean over the items."""
    return float(np.mean(_clock(recorded, models, profile, engine).times(result).latency.value_s))


def _said(candidate: Candidate) -> Row:
    return {
        "policy": candidate.name,
        "accuracy": candidate.accuracy.value,
        "low": candidate.accuracy.low,
        "high": candidate.accuracy.high,
        "small_tokens": candidate.output_tokens.get("small", 0.0),
        "large_tokens": candidate.output_tokens.get("large", 0.0),
        "routes": {name: {"share": r.share, "accuracy": r.accuracy} for name, r in candidate.routes.items()},
    }


def _differing(result: Replay, recorded: TraceSet, runs: Sequence[Row]) -> int:
    """Runs whose route or tokens are not those of the replay."""
    place = {item: index for index, item in enumerate(recorded.items)}
    small, large = result.output_tokens("small"), result.output_tokens("large")
    wrong = 0
    for run in runs:
        index = place[run["item_id"]]
        expected = (result.plan.routes[result.route[index]], int(small[index]), int(large[index]))
        wrong += expected != (run["route"], run["small_tokens"], run["large_tokens"])
    return wrong


def selector_rows(recorded: TraceSet, choice: PolicyChoice) -> list[Row]:
    """Always-transfer with every selector that was recorded, against handing over everything."""
    keys = [key for key in recorded.columns if key.mode == "transfer"]
    results = [
        replay(always_transfer(selector=key.selector, keep_fraction=key.keep_fraction), recorded) for key in keys
    ]
    accuracies = PairedAccuracy.of(np.stack([result.correct for result in results]))
    everything = next(i for i, key in enumerate(keys) if key.selector == "all")
    seconds = {candidate.name: candidate.device_s for candidate in choice.candidates}
    rows = []
    for index, key in enumerate(keys):
        accuracy = accuracies.accuracy(index, choice.interval)
        gap = accuracies.difference(index, everything, choice.interval)
        prompt = results[index].used[-1].prompt_tokens - results[index].used[0].prompt_tokens
        suffix = "" if key.selector == "all" else f"-{key.selector}-{key.keep_fraction * 100:.0f}"
        rows.append(
            {
                "selector": key.selector,
                "keep_fraction": key.keep_fraction,
                "accuracy": accuracy.value,
                "low": accuracy.low,
                "high": accuracy.high,
                "difference": gap.value,
                "difference_low": gap.low,
                "difference_high": gap.high,
                "transferred_tokens": float(prompt.mean()),
                "prefill_s": seconds[f"always-transfer{suffix}"] - seconds["small-reason"],
            }
        )
    return rows


def noise_floor(runs: Sequence[Row]) -> float:
    """Median over items and policies of how far one run is from the mean of its repeats."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for run in runs:
        times[run["policy"], run["item_id"]].append(run["total_s"])
    off = [abs(t / float(np.mean(each)) - 1) for each in times.values() if len(each) > 1 for t in each]
    return float(np.median(off)) if off else 0.0


def checks(rows: Sequence[Row], runs: Sequence[Row]) -> Row:
    """Error of the latency against its limit; for every accuracy floor and budget, the choice against the best."""
    noise = noise_floor(runs)
    limit = max(LIMIT, NOISE_FACTOR * noise)
    worst = max(rows, key=lambda row: abs(row["error"]))
    within = [row["policy"] for row in rows if abs(row["error"]) <= limit]
    losses = _floor_losses(rows)
    behind = max(losses.values(), default=0.0)
    differing = sum(row["differs"] for row in rows if row["policy"] != "self-consistency")
    lines = [
        f"predicted latency: median error within {100 * limit:.0f} % for {len(within)} of {len(rows)} policies, worst "
        f"{100 * worst['error']:+.1f} % ({worst['policy']}); noise floor {100 * noise:.1f} %",
        f"choice: for {len(losses)} accuracy floors the policy predicted fastest is at most {100 * behind:.1f} % "
        "slower than the one measured fastest",
        f"routes and tokens: {differing} of {len(runs)} runs differ from the replay of the traces",
    ]
    return {
        "noise_floor": noise,
        "limit": limit,
        "worst_error": worst["error"],
        "within": len(within),
        "slower_than_best": behind,
        "differing": differing,
        "passed": len(within) == len(rows) and behind <= NEAR_BEST,
        "lines": lines,
    }


def _floor_losses(rows: Sequence[Row]) -> dict[float, float]:
    """For each accuracy that a policy reaches: how much slower the choice is than the best, both measured."""
    losses = {}
    for floor in sorted({row["accuracy"] for row in rows}):
        reached = [row for row in rows if row["accuracy"] >= floor]
        chosen = min(reached, key=lambda row: float(row["predicted_mean_s"]))
        best = min(reached, key=lambda row: float(row["measured_mean_s"]))
        losses[floor] = chosen["measured_mean_s"] / best["measured_mean_s"] - 1
    return losses


def write_figures(found: dict[str, list[Row]], folder: Path) -> None:
    """Accuracy against measured latency, with the predicted one, for both kinds of questions."""
    from figure import experiment_figure

    folder.mkdir(parents=True, exist_ok=True)
    figure = experiment_figure(found)
    figure.write_image(folder / "experiment.png", width=980, height=520, scale=1.5)
