"""Which samples count, and their robust mean, against numpy, scipy and resampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("scipy", reason="scipy is not installed (extra: calibrate)")

from scipy import stats

from calibrate.measure.samples import locate, quiet_flags, share_quiet, trimmed_location

Row = dict[str, Any]
USUAL = {"gemm_s": 1.0, "stream_s": 2.0, "tiny_s": 3.0}


def _anchor(**slow: float) -> Row:
    return {"op": "anchor", **{name: value * slow.get(name, 1.0) for name, value in USUAL.items()}}


def _sample(latency_s: float = 1.0, item: str = "a", **fields: object) -> Row:
    return {"item": item, "component": "c", "latency_s": latency_s, "cpu_share": 1.0, **fields}


def _quiet(rows: Sequence[Row]) -> list[bool]:
    """Flags of the samples alone."""
    return [flag for row, flag in zip(rows, quiet_flags(rows), strict=True) if "latency_s" in row]


def test_samples_between_quiet_anchors_count() -> None:
    rows = [_anchor(), _sample(), _sample(), _anchor(), _sample(), _anchor()]
    assert _quiet(rows) == [True, True, True]
    assert quiet_flags(rows)[0] is False
    assert share_quiet(rows) == 1.0


@pytest.mark.parametrize("name", sorted(USUAL))
def test_a_slow_anchor_spoils_both_sides(name: str) -> None:
    calm = [_anchor(), _sample()] * 4
    rows = [*calm, _anchor(**{name: 1.3}), _sample(), _anchor(), _sample(), _anchor()]
    assert _quiet(rows) == [True, True, True, False, False, True]
    assert share_quiet(rows) == pytest.approx(4 / 6)


@pytest.mark.parametrize(("slowdown", "counts"), [(1.19, True), (1.21, False)])
def test_tolerance_is_a_fifth_above_the_usual(slowdown: float, counts: bool) -> None:
    rows = [*[_anchor(), _sample()] * 9, _anchor(gemm_s=slowdown)]
    assert _quiet(rows) == [True] * 8 + [counts]


def test_the_usual_is_the_20th_percentile_not_the_best() -> None:
    """One lucky anchor does not make all others look disturbed."""
    rows = [_anchor(gemm_s=0.5), *[_sample(), _anchor()] * 9]
    assert all(_quiet(rows))


def test_a_sample_can_be_disturbed_by_itself() -> None:
    assert _quiet([_anchor(), _sample(cpu_share=0.9), _sample(), _anchor()]) == [False, True]


def test_samples_beside_a_throttled_anchor_do_not_count() -> None:
    rows = [_anchor(), _sample(), {**_anchor(), "throttled": True}, _sample(), _anchor(), _sample(), _anchor()]
    assert _quiet(rows) == [False, False, True]


def test_the_anchors_of_another_run_do_not_count() -> None:
    rows = [_anchor(), _sample(), {"op": "start"}, _anchor(), _sample(), _anchor()]
    assert _quiet(rows) == [False, True]


def test_samples_without_an_anchor_after_them_do_not_count() -> None:
    assert _quiet([_sample(), _anchor(), _sample(), _anchor(), _sample()]) == [False, True, False]
    assert _quiet([_sample(), _sample()]) == [False, False]
    assert quiet_flags([]) == []
    assert share_quiet([_anchor()]) == 0.0


@pytest.mark.parametrize("count", [1, 2, 4, 5, 9, 10, 40, 101])
def test_location_is_the_trimmed_mean(count: int) -> None:
    values = np.random.default_rng(count).lognormal(size=count)
    location = trimmed_location(values.tolist())
    assert location.value_s == pytest.approx(stats.trim_mean(values, 0.2))
    assert location.samples == count


def test_outliers_do_not_move_it() -> None:
    calm = trimmed_location([1.0, 1.01, 0.99, 1.0, 1.02, 0.98, 1.0, 1.01, 0.99, 1.0])
    spiked = trimmed_location([1.0, 1.01, 0.99, 1.0, 1.02, 50.0, 1.0, 1.01, 0.99, 1.0])
    assert spiked.value_s == pytest.approx(calm.value_s, rel=0.01)
    assert spiked.stderr_s < 0.02


@pytest.mark.parametrize("draw", ["normal", "uniform", "laplace"])
@pytest.mark.parametrize("count", [4, 9, 40])
def test_standard_error_is_the_spread_of_repeated_means(count: int, draw: str) -> None:
    """The mean over many draws of the stated error, against how much the trimmed mean really scatters."""
    rng = np.random.default_rng(11)
    samples = 10 + getattr(rng, draw)(size=(3000, count))
    stated = np.mean([trimmed_location(row).stderr_s for row in samples])
    real = np.std(stats.trim_mean(samples, 0.2, axis=1))
    assert stated == pytest.approx(real, rel=0.2)


def test_standard_error_is_that_of_the_bootstrap() -> None:
    rng = np.random.default_rng(12)
    values = 1e-3 * rng.lognormal(sigma=0.3, size=60)
    resampled = rng.choice(values, size=(4000, 60))
    assert trimmed_location(values).stderr_s == pytest.approx(np.std(stats.trim_mean(resampled, 0.2, axis=1)), rel=0.15)


def test_a_single_sample_tells_no_error() -> None:
    location = trimmed_location([2.0])
    assert (location.value_s, location.stderr_s) == (2.0, 2.0)


def test_locate_uses_quiet_samples_where_there_are_enough() -> None:
    rows = [*[_anchor(), _sample(1.0)] * 5, _anchor(gemm_s=2.0), *[_sample(9.0)] * 3, _anchor()]
    (location,) = locate(rows, least_quiet=4).values()
    assert (location.value_s, location.samples) == (1.0, 4)


def test_locate_falls_back_to_the_median_of_all() -> None:
    values = [1.0, 1.1, 1.2, 1.3, 9.0]
    rows = [_anchor(), _sample(1.0), _anchor(gemm_s=2.0), *[_sample(v) for v in values[1:]], _anchor(gemm_s=2.0)]
    (location,) = locate(rows, least_quiet=3).values()
    assert (location.value_s, location.samples) == (1.2, 5)
    assert 0 < location.stderr_s < 0.2


def test_the_error_of_a_median_is_that_of_repeated_medians() -> None:
    rng = np.random.default_rng(13)
    samples = 10 + rng.normal(size=(2000, 41))
    stated = [next(iter(locate([_sample(v) for v in row], least_quiet=1).values())).stderr_s for row in samples[:200]]
    assert np.mean(stated) == pytest.approx(np.std(np.median(samples, axis=1)), rel=0.15)


def test_items_and_components_are_apart() -> None:
    rows = [
        _anchor(),
        _sample(1.0, "a"),
        _sample(2.0, "a", component="d"),
        _sample(3.0, "b"),
        {"op": "stop", "reason": "time"},
        _anchor(),
    ]
    found = {key: location.value_s for key, location in locate(rows, least_quiet=1).items()}
    assert found == {("a", "c"): 1.0, ("a", "d"): 2.0, ("b", "c"): 3.0}
