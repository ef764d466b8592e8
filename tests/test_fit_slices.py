"""Coefficients of slices: simulated from known ones, found again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("scipy", reason="scipy is not installed (extra: calibrate)")

from calibrate.fit.slices import fit_slices
from costmodel.errors import FitError
from costmodel.pricing import component_time_s
from costmodel.profiles import ComponentFit

Row = dict[str, Any]
Features = Mapping[str, float]

TRUE = {"layers": 4e-4, "gemm_flops": 3e-11, "attention_flops": 8e-11}


def _sizes(tokens: Iterable[int]) -> list[dict[str, float]]:
    return [{"layers": 1.0, "gemm_flops": 2e5 * n, "attention_flops": 130.0 * n**2} for n in tokens]


SIZES = _sizes((32, 100, 256, 640, 1280))
MANY_SIZES = _sizes(range(32, 1312, 80))
ANCHOR = {"op": "anchor", "gemm_s": 1.0, "stream_s": 1.0, "tiny_s": 1.0}
MODEL = {"op": "slice", "model": "m", "fingerprint": "f", "engine": "hf-eager", "dtype": "fp32"}


def _rows(
    sizes: Sequence[Features],
    *,
    true: Features = TRUE,
    noise: float = 0.0,
    misfit: float = 0.0,
    samples: int = 12,
    seed: int = 0,
    **fields: str,
) -> list[Row]:
    """Undisturbed samples of one component; ``noise`` is of each sample, ``misfit`` of each size."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    for index, features in enumerate(sizes):
        time = float(component_time_s(true, features)) * np.exp(misfit * rng.normal())
        for _ in range(samples):
            rows += [
                ANCHOR,
                {
                    **MODEL,
                    "component": "prefill.decoder_layer",
                    "item": f"slice/{fields}/{index}",
                    "features": dict(features),
                    "latency_s": time * np.exp(noise * rng.normal()),
                    "cpu_share": 1.0,
                    **fields,
                },
            ]
    return [*rows, ANCHOR]


def _fit(rows: Sequence[Row]) -> ComponentFit:
    (profile,) = fit_slices(rows)
    (fit,) = profile.components.values()
    return fit


def test_exact_times_give_the_exact_coefficients() -> None:
    fit = _fit(_rows(SIZES))
    assert {name: c.value for name, c in fit.coefficients.items()} == pytest.approx(TRUE, rel=1e-6)
    assert fit.residual_log_sd < 1e-6
    assert fit.rows == 60
    assert fit.lowest["gemm_flops"] == 2e5 * 32
    assert fit.highest["attention_flops"] == 130.0 * 1280**2


@pytest.mark.parametrize("seed", range(8))
def test_noisy_times_give_them_within_three_errors(seed: int) -> None:
    fit = _fit(_rows(MANY_SIZES, noise=0.05, misfit=0.02, seed=seed))
    for name, true in TRUE.items():
        coefficient = fit.coefficients[name]
        assert abs(coefficient.value - true) < 3 * coefficient.stderr < true
        assert coefficient.source == "fitted"


def test_stated_errors_are_those_of_repeated_fits() -> None:
    fits = [_fit(_rows(SIZES, misfit=0.05, samples=5, seed=seed)) for seed in range(120)]
    for name in TRUE:
        kept = [fit.coefficients[name] for fit in fits if name in fit.coefficients]
        scatter = float(np.std([c.value for c in kept]))
        stated = float(np.sqrt(np.mean([c.stderr**2 for c in kept])))
        assert stated == pytest.approx(scatter, rel=0.4)


def test_covariance_has_the_errors_on_its_diagonal() -> None:
    fit = _fit(_rows(SIZES, noise=0.05, misfit=0.05))
    errors = [c.stderr for c in fit.coefficients.values()]
    assert np.sqrt(np.diag(fit.covariance)).tolist() == pytest.approx(errors)
    assert np.array(fit.covariance) == pytest.approx(np.transpose(fit.covariance))


@pytest.mark.parametrize("misfit", [0.03, 0.1, 0.3])
def test_residual_is_the_misfit_of_the_sizes(misfit: float) -> None:
    sizes = [{"layers": 1.0, "gemm_flops": 1e4 * 1.2**i} for i in range(40)]
    fit = _fit(_rows(sizes, true={"layers": 4e-4, "gemm_flops": 3e-9}, misfit=misfit, samples=4))
    assert fit.residual_log_sd == pytest.approx(misfit, rel=0.35)


def test_new_sizes_lie_in_the_interval_although_few_were_measured() -> None:
    """Four sizes leave three coefficients one degree of freedom: half of the fits see next to no misfit."""
    (new,) = _sizes([400])
    new_s = sum(TRUE[name] * size for name, size in new.items())
    draw, inside = np.random.default_rng(1), []
    for seed in range(200):
        fit = _fit(_rows(SIZES[:4], misfit=0.05, samples=5, seed=seed))
        features = np.array([new[name] for name in fit.coefficients])
        value = float(features @ [c.value for c in fit.coefficients.values()])
        sd = np.hypot(fit.residual_log_sd, np.sqrt(features @ np.array(fit.covariance) @ features) / value)
        inside.append(abs(np.log(new_s * np.exp(0.05 * draw.normal()) / value)) <= 1.645 * sd)
    assert 0.8 <= np.mean(inside) <= 1.0


def test_sampling_noise_is_the_least_residual() -> None:
    """Two coefficients through two points fit exactly, and are no surer than the points."""
    sizes = [{"layers": 1.0, "gemm_flops": flops} for flops in (1e4, 1e7)]
    fit = _fit(_rows(sizes, true={"layers": 4e-4, "gemm_flops": 3e-9}, noise=0.1, samples=25))
    assert 0.01 < fit.residual_log_sd < 0.04


def test_proportional_features_count_once() -> None:
    sizes = [{**size, "doubled": 2.0 * size["gemm_flops"], "also_one": 7.0, "none": 0.0} for size in SIZES]
    fit = _fit(_rows(sizes))
    assert set(fit.coefficients) == set(TRUE)
    assert set(fit.highest) == set(sizes[0])
    for features in sizes:
        values = {name: c.value for name, c in fit.coefficients.items()}
        assert component_time_s(values, features) == pytest.approx(component_time_s(TRUE, features))


def test_features_that_do_not_help_are_left_out() -> None:
    fit = _fit(_rows(SIZES, true={"layers": 0.0, "gemm_flops": 3e-11, "attention_flops": 0.0}))
    assert fit.coefficients["gemm_flops"].value == pytest.approx(3e-11, rel=1e-3)
    others = [c.value * SIZES[-1][name] for name, c in fit.coefficients.items() if name != "gemm_flops"]
    assert sum(others) < 1e-6 * 3e-11 * SIZES[-1]["gemm_flops"]


def test_coefficients_are_never_negative() -> None:
    """Times that fall with the size: flat is the best that a law that never falls can do."""
    sizes = [{"layers": 1.0, "gemm_flops": 1e6 * i} for i in (1, 2, 4)]
    rows = _rows(sizes, true={"layers": 5e-3, "gemm_flops": -1e-9})
    assert set(_fit(rows).coefficients) == {"layers"}


def test_one_size_is_too_few() -> None:
    with pytest.raises(FitError, match=r"m prefill\.decoder_layer: measured at one size only"):
        fit_slices(_rows(SIZES[:1]))


def test_one_size_is_enough_for_one_feature() -> None:
    fit = _fit(_rows([{"rows": 1.0}], true={"rows": 3e-3}))
    assert fit.coefficients["rows"].value == pytest.approx(3e-3)


def test_two_sizes_tell_two_coefficients_apart() -> None:
    fit = _fit(_rows(SIZES[:2]))
    assert len(fit.coefficients) <= 2
    assert fit.highest["attention_flops"] == SIZES[1]["attention_flops"], "so that going further is warned of"


def test_model_sizes_are_fitted_apart() -> None:
    slow = {name: 3 * value for name, value in TRUE.items()}
    rows = [*_rows(SIZES), *_rows(SIZES, true=slow, model="large", fingerprint="g"), {"op": "launch"}]
    small, large = fit_slices(rows)
    assert (small.model, small.fingerprint, small.engine, small.dtype) == ("m", "f", "hf-eager", "fp32")
    assert (large.model, large.fingerprint) == ("large", "g")
    for name in TRUE:
        one, other = (p.components["prefill.decoder_layer"].coefficients[name].value for p in (small, large))
        assert other == pytest.approx(3 * one, rel=1e-6)


def test_no_slices_no_fit() -> None:
    assert fit_slices([ANCHOR, {"op": "gemm", "item": "k", "latency_s": 1.0, "cpu_share": 1.0}, ANCHOR]) == ()
