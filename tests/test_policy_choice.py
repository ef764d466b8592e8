"""The choice equals brute force; latencies are those of single predictions; doubts are said."""

from __future__ import annotations

import itertools

import numpy as np
import policy_samples as samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_profiles import LARGE, SMALL, calibrated, engine, preset, slices_of

from costmodel.errors import PolicyError, WorkloadError
from costmodel.policy.bootstrap import PairedAccuracy, wilson
from costmodel.policy.catalog import mutual_verification, plan_named
from costmodel.policy.choose import choose_policy, default_plans, policy_clock
from costmodel.policy.goals import Goal, Score, best, feasible, pareto
from costmodel.policy.latency import Deployment, ModelClock, Scale
from costmodel.policy.replay import replay
from costmodel.policy.results import PolicyChoice
from costmodel.policy.serving import Served, Serving
from costmodel.policy.traces import TraceSet, key_of
from costmodel.policy.what_if import WhatIf
from costmodel.predict import estimate
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

HARDWARE, ENGINE = calibrated(run_log_sd=0.02), engine()


def seconds(model: str, images: tuple[ImageSize, ...], prompt: int, output: int) -> float:
    workload = Workload(images=images, prompt_tokens=prompt, output_tokens=output)
    return float(estimate(preset(model), HARDWARE, ENGINE, workload).total.value_s)


def choice(recorded: TraceSet | None = None, goal: Goal | None = None, **options: object) -> PolicyChoice:
    return choose_policy(
        preset(SMALL), preset(LARGE), recorded or samples.trace_set(), HARDWARE, ENGINE, goal=goal, **options
    )


def latencies(plan_name: str, recorded: TraceSet, deployment: Deployment | None = None) -> np.ndarray:
    served = {"small": Served(preset(SMALL), HARDWARE, ENGINE), "large": Served(preset(LARGE), HARDWARE, ENGINE)}
    clock = policy_clock(served, recorded, deployment=deployment)
    return np.asarray(clock.times(replay(plan_named(plan_name), recorded)).latency.value_s)


def brute_force(found: PolicyChoice, goal: Goal) -> str | None:
    """Every candidate against every other one, by the words of the goal alone."""
    rows = [(c.accuracy.value, c.latency.percentile_s.value, c.name) for c in found.candidates]
    reached = [
        row
        for row in rows
        if (goal.budget_s is None or row[1] <= goal.budget_s)
        and (goal.min_accuracy is None or row[0] >= goal.min_accuracy)
    ]

    def beats(one: tuple[float, float, str], other: tuple[float, float, str]) -> bool:
        if goal.budget_s is not None:
            return (one[0], -one[1]) > (other[0], -other[1])
        return (-one[1], one[0]) > (-other[1], other[0])

    winners = [row for row in reached if not any(beats(other, row) for other in reached)]
    return winners[0][2] if winners else None


@settings(max_examples=25)
@given(
    seed=st.integers(0, 5),
    items=st.sampled_from([3, 17]),
    budget=st.none() | st.floats(0.1, 12),
    floor=st.none() | st.floats(0, 1),
    percentile=st.sampled_from([50.0, 95.0]),
)
def test_the_choice_is_that_of_brute_force(
    seed: int, items: int, budget: float | None, floor: float | None, percentile: float
) -> None:
    goal = Goal(budget_s=budget, min_accuracy=floor, percentile=percentile)
    found = choice(samples.trace_set(items, seed), goal, with_sensitivity=False)
    expected = None if budget is None and floor is None else brute_force(found, goal)
    assert found.chosen == expected
    for candidate in found.candidates:
        score = Score(candidate.accuracy.value, candidate.latency.percentile_s.value)
        assert candidate.feasible == feasible(score, goal)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 6)), min_size=1, max_size=8))
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, int]]) -> None:
    scores = [Score(float(accuracy), float(latency)) for accuracy, latency in points]
    front = [scores[i] for i in pareto(scores)]
    for score in scores:
        dominated = any(
            (o.accuracy >= score.accuracy and o.latency_s <= score.latency_s and o != score) for o in scores
        )
        assert (score in front) == (not dominated)


def test_latency_is_that_of_single_predictions() -> None:
    recorded = samples.trace_set(12)
    result = replay(plan_named("mutual-verification"), recorded)
    expected = np.zeros(len(recorded))
    for used, index in itertools.product(result.used, range(len(recorded))):
        if used.asked[index]:
            model = SMALL if used.ask.model == "small" else LARGE
            sizes = int(used.prompt_tokens[index]), int(used.output_tokens[index])
            expected[index] += seconds(model, recorded.images[index], *sizes)
    assert latencies("mutual-verification", recorded) == pytest.approx(expected, rel=0.01)


def test_many_image_sizes_are_interpolated() -> None:
    rng = np.random.default_rng(0)
    images = [
        tuple(ImageSize(width=int(w), height=int(h)) for w, h in rng.integers(200, 1400, size=(k % 3, 2)))
        for k in range(180)
    ]
    prompts, outputs = rng.integers(10, 200, 180), rng.integers(1, 500, 180)
    clock = ModelClock(Served(preset(SMALL), HARDWARE, ENGINE), images, longest_context=700)
    found = np.asarray(clock.ask(prompts.astype(float), outputs.astype(float)).value_s)
    expected = [seconds(SMALL, *each) for each in zip(images, prompts.tolist(), outputs.tolist(), strict=True)]
    assert found == pytest.approx(expected, rel=0.03)
    assert np.median(np.abs(found / expected - 1)) < 0.005


@pytest.mark.parametrize("items", [12, 90])
def test_a_reused_prefix_is_read_once(items: int) -> None:
    recorded = samples.trace_set(items)
    again = latencies("mutual-verification", recorded)
    reused = latencies("mutual-verification", recorded, Deployment(reuse_prefix=True))
    result = replay(mutual_verification(), recorded)
    settled = result.route == 0
    assert settled.any()
    assert not settled.all()
    assert reused[settled] == pytest.approx(again[settled], rel=1e-9)
    assert (reused[~settled] < again[~settled]).all()
    # By hand, one item that reasons: image and prompt of the second request are in the cache.
    index = int(np.flatnonzero(result.route == 1)[0])
    reason = recorded.columns[key_of(result.plan, result.plan.asks[2])]
    prompt, output = int(reason.prompt_tokens[index]), int(reason.output_tokens[index])
    whole = estimate(
        preset(SMALL),
        HARDWARE,
        ENGINE,
        Workload(images=recorded.images[index], prompt_tokens=prompt, output_tokens=output),
    )
    cached = Workload(
        prompt_tokens=whole.prompt_tokens, output_tokens=output, cached_prefix_tokens=whole.prompt_tokens - 1
    )
    expected = estimate(preset(SMALL), HARDWARE, ENGINE, cached).total.value_s - whole.total.value_s
    assert reused[index] - again[index] == pytest.approx(float(expected), rel=0.02)


def test_two_devices_answer_at_the_same_time() -> None:
    recorded = samples.trace_set(12)
    shared, own = (latencies("mutual-verification", recorded, Deployment(devices=n)) for n in (1, 2))
    small, large = (latencies(f"{role}-short", recorded) for role in ("small", "large"))
    assert shared - own == pytest.approx(np.minimum(small, large), rel=1e-9)
    serial = mutual_verification(parallel=False).model_copy(update={"name": "serial"})
    found = choice(recorded, deployment=Deployment(devices=2), plans=[mutual_verification(), serial])
    assert found.candidates[0].latency.mean_s.value < found.candidates[1].latency.mean_s.value
    with pytest.raises(PolicyError, match="devices is 3"):
        Deployment(devices=3)


def test_slices_serve_as_well_as_laws() -> None:
    sliced = calibrated(slices=[slices_of(preset(SMALL)), slices_of(preset(LARGE))])
    found = choose_policy(preset(SMALL), preset(LARGE), samples.trace_set(8), sliced, ENGINE)
    assert all(candidate.latency.mean_s.value > 0 for candidate in found.candidates)


def test_bootstrap_by_patterns_is_a_bootstrap_by_items() -> None:
    rng = np.random.default_rng(1)
    correct = rng.random((2, 300)) < [[0.7], [0.75]]
    fast = PairedAccuracy.of(correct, seed=3)
    drawn = rng.integers(300, size=(4000, 300))
    slow = correct[0][drawn].mean(axis=1) - correct[1][drawn].mean(axis=1)
    gap = fast.difference(0, 1, 0.9)
    assert gap.value == pytest.approx(correct[0].mean() - correct[1].mean())
    assert (gap.low, gap.high) == pytest.approx(tuple(np.quantile(slow, [0.05, 0.95])), abs=0.008)
    assert fast.difference(0, 0, 0.9).high == 0


def test_all_right_is_not_certainty() -> None:
    found = PairedAccuracy.of(np.ones((1, 20), dtype=bool))
    assert found.accuracy(0, 0.9).low == pytest.approx(wilson(1.0, 20, 0.9)[0])
    assert found.accuracy(0, 0.9).low < 0.9
    # Wilson's interval of 8 of 10 at 95 %, as in textbooks.
    assert wilson(0.8, 10, 0.95) == pytest.approx((0.4902, 0.9433), abs=1e-4)


def test_what_the_data_cannot_separate_is_said() -> None:
    found = choice(samples.trace_set(12), Goal(budget_s=1e4 / 3))
    assert any(text.startswith(f"the data can't separate {found.chosen} from ") for text in found.warnings)
    by_name = {each.other: each for each in found.comparisons}
    assert len(by_name) == len(found.candidates) - 1
    assert found.chosen not in by_name
    assert all(each.separated == (not each.accuracy.low <= 0 <= each.accuracy.high) for each in found.comparisons)


def test_the_flip_is_where_the_sensitivity_says() -> None:
    recorded = samples.trace_set()
    every = choice(recorded)
    times = {c.name: c.latency.percentile_s.value for c in every.candidates}
    accuracies = {c.name: c.accuracy.value for c in every.candidates}
    goal = Goal(budget_s=1.2 * times["large-short"], min_accuracy=None)
    found = choice(recorded, goal)
    rows = {row.what: row for row in found.sensitivity}
    fall = rows[f"accuracy of {found.chosen}"]
    rivals = [accuracies[name] for name, s in times.items() if s <= goal.budget_s and name != found.chosen]  # type: ignore[operator]
    assert fall.below == pytest.approx(max(rivals) - accuracies[found.chosen or ""])
    slower = rows["predicted time of the large model"]
    if found.chosen == "large-short":
        assert slower.above is not None
        assert slower.above == pytest.approx(1.2, rel=0.05)


def test_cost_energy_and_transferred_tokens() -> None:
    found = {c.name: c for c in choice(price_per_hour=3.6).candidates}
    for candidate in found.values():
        assert candidate.cost == pytest.approx(candidate.device_s / 1000)
        assert candidate.energy_at_most_j == pytest.approx(candidate.device_s * (HARDWARE.datasheet.power_w or 0))
    assert found["small-short"].transferred_tokens is None
    assert 50 <= (found["always-transfer"].transferred_tokens or 0) <= 300
    assert choice().candidates[0].cost is None


def test_plans_that_are_not_recorded_are_listed_or_refused() -> None:
    kinds = [kind for kind in samples.KINDS if kind[1] != "transfer"]
    recorded = TraceSet.of(samples.traces(kinds=kinds), small=SMALL, large=LARGE)
    found = choice(recorded)
    assert {skipped.name for skipped in found.skipped} == {"mutual-verification", "always-transfer"}
    assert found.chosen is None
    assert found.pareto
    with pytest.raises(PolicyError, match="plan always-transfer: no traces of large/transfer"):
        choice(recorded, plans=[plan_named("always-transfer")])
    with pytest.raises(PolicyError, match="two candidates are named"):
        choice(recorded, plans=[plan_named("cascade"), plan_named("cascade")])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"budget_s": 0}, "budget_s is 0, expected more than 0 seconds"),
        ({"budget_s": -1.0}, "budget_s is -1"),
        ({"min_accuracy": 90}, "min_accuracy is 90, expected a share from 0 to 1"),
        ({"percentile": 100}, "percentile is 100, expected more than 0 and less than 100"),
    ],
)
def test_an_impossible_goal_is_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Goal(**fields)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(PolicyError, match="price_per_hour is -1"):
        choice(price_per_hour=-1.0)
    with pytest.raises(WorkloadError, match="interval is 2"):
        choice(interval=2.0)


def test_nothing_is_chosen_where_nothing_reaches_the_goal() -> None:
    found = choice(goal=Goal(budget_s=1e-4, min_accuracy=0.99))
    assert found.chosen is None
    assert not found.comparisons
    assert not found.sensitivity
    assert best([Score(0.5, 1.0)], Goal()) is None
    assert PolicyChoice.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize("deployment", [Deployment(), Deployment(devices=2), Deployment(reuse_prefix=True)])
@pytest.mark.parametrize(
    "scale", [Scale(), Scale(output_tokens={"small": 2.5}), Scale(output_tokens={"large": 0.3}, time={"small": 1.7})]
)
def test_quick_what_ifs_are_the_readable_ones(deployment: Deployment, scale: Scale) -> None:
    recorded = samples.trace_set(12)
    served = {"small": Served(preset(SMALL), HARDWARE, ENGINE), "large": Served(preset(LARGE), HARDWARE, ENGINE)}
    clock = policy_clock(served, recorded, deployment=deployment)
    what_if = WhatIf(clock)
    for plan in default_plans(recorded):
        result = replay(plan, recorded)
        expected = np.asarray(clock.times(result, scale).latency.value_s)
        assert what_if.seconds(result, scale) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("devices", [1, 2])
def test_times_of_recorded_answers_add_up_along_the_routes(devices: int) -> None:
    untimed = samples.traces(12)
    timed = [trace.model_copy(update={"total_s": 0.1 + trace.output_tokens / 50}) for trace in untimed]
    recorded = TraceSet.of(timed, small=SMALL, large=LARGE)
    found = {each.name: each for each in choice(recorded, deployment=Deployment(devices=devices)).candidates}
    result = replay(plan_named("mutual-verification"), recorded)
    seconds = np.zeros(12)
    for index in range(12):
        took = {used.ask.name: 0.1 + used.output_tokens[index] / 50 for used in result.used if used.asked[index]}
        short = (took.pop("small-short"), took.pop("large-short"))
        seconds[index] = (sum(short) if devices == 1 else max(short)) + sum(took.values())
    measured = found["mutual-verification"].measured
    assert measured is not None
    assert measured.mean_s == pytest.approx(seconds.mean())
    assert measured.p95_s == pytest.approx(np.percentile(seconds, 95))
    # An answer that a cap cuts short was never timed; nor was one of traces without times.
    assert found["small-budget"].measured is None
    assert all(each.measured is None for each in choice(samples.trace_set(12)).candidates)


def test_each_model_may_have_its_own_device_and_price() -> None:
    twin = HARDWARE.model_copy(update={"key": "twin"})
    recorded, two = samples.trace_set(), Deployment(devices=2)
    serving = {"small": Serving(price_per_hour=1.0), "large": Serving(hardware=twin, price_per_hour=4.0)}
    with pytest.raises(PolicyError, match="they share no device: use 2 devices"):
        choice(recorded, serving=serving)
    with pytest.raises(PolicyError, match=r"run on 1 x .* and 2 x "):
        choice(recorded, serving={"large": Serving(num_devices=2)})
    apart = choice(recorded, deployment=two, serving=serving)
    plain = choice(recorded, deployment=two, price_per_hour=1.0)
    assert apart.hardware == f"{HARDWARE.key} + twin"
    for mine, common in zip(apart.candidates, plain.candidates, strict=True):
        assert mine.latency.mean_s.value == pytest.approx(common.latency.mean_s.value)
        assert mine.cost is not None
        assert common.cost is not None
        expected = 4.0 if not mine.output_tokens.get("small") else 1.0 if not mine.output_tokens.get("large") else None
        if expected is not None:
            assert mine.cost == pytest.approx(expected * common.cost)
        else:
            assert common.cost < mine.cost < 4 * common.cost
    assert plain.candidates[0].cost == pytest.approx(plain.candidates[0].device_s / 3600)
    with pytest.raises(PolicyError, match="price_per_hour is -1"):
        choice(recorded, serving={"small": Serving(price_per_hour=-1.0)})


def test_a_quantised_model_is_priced_as_such() -> None:
    recorded = samples.trace_set(8)
    quantised = {"small": Serving(quantization="w4a16")}
    plain, small = choice(recorded), choice(recorded, serving=quantised)
    seconds = {
        name: [next(c for c in found.candidates if c.name == name).latency.mean_s.value for found in (plain, small)]
        for name in ("small-reason", "large-reason")
    }
    assert seconds["small-reason"][0] != pytest.approx(seconds["small-reason"][1], rel=1e-3)
    assert seconds["large-reason"][0] == pytest.approx(seconds["large-reason"][1])
    assert small.quantization == "w4a16 + none"


@pytest.mark.parametrize(
    ("budget", "floor", "reaches"), [(1e-6, 0.99, False), (1e-6, None, False), (None, 1.0, False), (1e6, 0.0, True)]
)
def test_goals_that_contradict_each_other_choose_nothing(
    budget: float | None, floor: float | None, reaches: bool
) -> None:
    found = choice(goal=Goal(budget_s=budget, min_accuracy=floor), with_sensitivity=False)
    assert (found.chosen is not None) == reaches
    assert any(candidate.feasible for candidate in found.candidates) == reaches
