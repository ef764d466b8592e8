"""Fits: they recover what made the data, and refuse what cannot determine them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from calibrate.accuracy.evaluate import evaluate, held_out
from calibrate.commands.fit import register
from calibrate.fit.best_law import fit_best_law
from calibrate.fit.law import Prior, fit_law, plausible_rows
from calibrate.fit.sampling import choose_shapes, sample_table
from calibrate.fit.tables import fit_tables
from calibrate.tables.operators import OperatorTable, TableSet
from costmodel import load_hardware
from costmodel.errors import FitError, ProfileError
from costmodel.laws import LAWS, law_named, laws_for
from costmodel.laws.base import Law
from costmodel.laws.roofline import ROOFLINE
from costmodel.ops import AllReduce, ContextAttention, EncoderAttention, Gemm, GenerationAttention, MoeExperts, Op

PROFILE = load_hardware("h100-sxm")
SHEET = PROFILE.datasheet
Array = NDArray[np.float64]


def spread(draw: np.random.Generator, low: float, high: float, count: int) -> Array:
    return np.asarray(np.round(low * (high / low) ** draw.random(count)))


def shapes(kind: str, dtype: str, count: int = 400) -> Op:
    draw = np.random.default_rng(1)
    if kind == "gemm":
        return Gemm("x", spread(draw, 1, 16384, count), *(spread(draw, 256, 20000, count) for _ in "nk"), dtype)
    heads, group = spread(draw, 1, 16, count), spread(draw, 1, 8, count)
    head_dim = draw.choice([64.0, 128.0], count)
    if kind == "attention_context":
        new = spread(draw, 16, 16384, count)
        return ContextAttention("x", spread(draw, 1, 64, count), new, new, heads * group, heads, head_dim, dtype, dtype)
    if kind == "attention_generation":
        sizes = (spread(draw, 1, 512, count), spread(draw, 1, 1e5, count))
        return GenerationAttention("x", *sizes, heads * group, heads, head_dim, dtype, dtype)
    if kind == "attention_encoder":
        wide = draw.choice([64.0, 72.0, 80.0], count)
        return EncoderAttention("x", spread(draw, 1, 64, count), spread(draw, 16, 30000, count), heads, wide, dtype)
    if kind == "moe":
        sizes = (spread(draw, 1, 16384, count), spread(draw, 1024, 8192, count), spread(draw, 512, 8192, count))
        return MoeExperts("x", *sizes, draw.choice([8.0, 64.0, 128.0], count), spread(draw, 1, 8, count), dtype)
    return AllReduce("x", spread(draw, 256, 1e9, count), draw.choice([2.0, 4.0, 8.0], count), dtype)


def table_of(law: Law, op: Op, *, noise: float = 0.0, seed: int = 2) -> tuple[OperatorTable, dict[str, float]]:
    """Rows that follow a law at coefficients beside its start values, with log-normal noise."""
    draw = np.random.default_rng(seed)
    truth = {}
    for p in law.parameters:
        step = 0.5 * p.prior_sd * draw.normal()
        value = p.start * np.exp(step) if p.log else p.start + step
        truth[p.name] = float(np.clip(value, p.low, p.high))
    exact_s = np.asarray(law.time_s(op, truth, SHEET), dtype=float)
    return OperatorTable(op, exact_s * np.exp(noise * draw.normal(size=exact_s.shape))), truth


KINDS = [
    ("gemm", "bf16"),
    ("gemm", "fp8"),
    ("gemm", "fp8-block"),
    ("attention_context", "bf16"),
    ("attention_generation", "bf16"),
    ("attention_encoder", "bf16"),
    ("moe", "bf16"),
    ("all_reduce", "bf16"),
]
CASES = [(k, d, law) for k, d in KINDS for law in laws_for(k, d, device_kind="cuda") if law is not ROOFLINE]


@pytest.mark.parametrize(("kind", "dtype", "law"), CASES, ids=[f"{k}-{law.name}" for k, _, law in CASES])
def test_a_fit_recovers_the_law_that_made_the_rows(kind: str, dtype: str, law: Law) -> None:
    table, _ = table_of(law, shapes(kind, dtype))
    fit = fit_law(table.take(np.arange(0, 400, 2)), law, SHEET)
    held = table.take(np.arange(1, 400, 2))
    error = np.log(law.time_s(held.op, fit.values, SHEET) / held.latency_s)
    assert np.sqrt(np.mean(error**2)) < 0.03
    assert fit.residual_log_sd < 0.03


def test_coefficients_come_back_where_rows_determine_them() -> None:
    table, truth = table_of(ROOFLINE, shapes("gemm", "bf16"), noise=0.02)
    fit = fit_law(table, ROOFLINE, SHEET)
    for name, coefficient in fit.coefficients.items():
        assert coefficient.source == "fitted"
        assert abs(coefficient.value - truth[name]) < 4 * coefficient.stderr + 0.01 * truth[name]
    assert fit.residual_log_sd == pytest.approx(0.02, rel=0.15)


def test_the_same_rows_give_the_same_fit() -> None:
    table, _ = table_of(law_named("gemm_tiled"), shapes("gemm", "bf16"), noise=0.05)
    first, second = (fit_law(table, law_named("gemm_tiled"), SHEET) for _ in range(2))
    assert first == second


def test_outliers_do_not_move_a_fit() -> None:
    table, truth = table_of(ROOFLINE, shapes("gemm", "bf16"), noise=0.01)
    spoiled = table.latency_s.copy()
    spoiled[::25] *= 6.0
    fit = fit_law(OperatorTable(table.op, spoiled), ROOFLINE, SHEET)
    assert fit.values["memory_efficiency"] == pytest.approx(truth["memory_efficiency"], rel=0.06)


def test_the_best_variant_is_kept() -> None:
    table, _ = table_of(law_named("gemm_tiled_small"), shapes("gemm", "bf16"))
    assert fit_best_law(table, laws_for("gemm", "bf16", device_kind="cuda"), SHEET).law == "gemm_tiled_small"


def test_a_strong_prior_holds_what_rows_do_not_tell() -> None:
    op = Gemm("x", np.arange(1.0, 60.0), 16384.0, 16384.0, "bf16")
    table, _ = table_of(ROOFLINE, dataclasses.replace(op, n=np.full(59, 16384.0), k=np.linspace(256, 16384, 59)))
    fit = fit_law(table, ROOFLINE, SHEET, priors={"compute_efficiency": Prior(0.5, 0.01)})
    assert fit.values["compute_efficiency"] == pytest.approx(0.5, rel=0.05)


def test_degenerate_rows_are_refused() -> None:
    table, _ = table_of(ROOFLINE, shapes("gemm", "bf16"))
    with pytest.raises(FitError, match="got 3 distinct shapes"):
        fit_law(table.take(np.arange(3)), ROOFLINE, SHEET)
    with pytest.raises(FitError, match="got 1 distinct shapes"):
        fit_law(table.take(np.arange(1)), ROOFLINE, SHEET)
    flat = OperatorTable(table.op, np.full(table.rows, 1.0))
    with pytest.raises(FitError, match="within 20 %"):
        fit_law(flat, ROOFLINE, SHEET)
    scrambled = OperatorTable(table.op, np.random.default_rng(0).permutation(table.latency_s))
    with pytest.raises(FitError, match=r"faster than the datasheet|do not follow the law"):
        fit_law(scrambled, ROOFLINE, SHEET)


def test_times_faster_than_the_datasheet_are_dropped_or_refused() -> None:
    table, _ = table_of(ROOFLINE, shapes("gemm", "bf16"))
    few = table.latency_s.copy()
    few[:5] = 1e-12
    assert plausible_rows(OperatorTable(table.op, few), SHEET).rows == table.rows - 5
    with pytest.raises(FitError, match="faster than the datasheet allows"):
        fit_law(OperatorTable(table.op, table.latency_s / 1000), ROOFLINE, SHEET)


def test_impossible_rows_are_counted() -> None:
    table, _ = table_of(ROOFLINE, shapes("gemm", "bf16"))
    some = np.where(np.arange(table.rows) % 20 == 0, 1e-12, table.latency_s)
    fitted = fit_tables(TableSet({"gemm/bf16": OperatorTable(table.op, some)}), SHEET)
    assert 0 < fitted.impossible["gemm/bf16"] == 200 - fitted.laws["gemm/bf16"].rows


def test_mixed_units_are_refused() -> None:
    table, _ = table_of(ROOFLINE, shapes("gemm", "bf16"))
    mixed = table.latency_s * np.where(np.arange(table.rows) % 2, 1000.0, 1.0)
    with pytest.raises(FitError, match="do not follow the law"):
        fit_law(OperatorTable(table.op, mixed), ROOFLINE, SHEET)


def test_a_format_without_peak_is_refused() -> None:
    table, _ = table_of(ROOFLINE, shapes("gemm", "bf16"))
    sheet = SHEET.model_copy(update={"peak_flops_per_s": {"fp32": 1e13}})
    with pytest.raises(ProfileError, match="no peak for dtype 'bf16'"):
        fit_law(table, ROOFLINE, sheet)
    fitted = fit_tables(TableSet({"gemm/bf16": table}), sheet)
    assert not fitted.laws
    assert "no peak" in fitted.refused["gemm/bf16"]


def test_samples_are_spread_over_time_and_repeatable() -> None:
    op = shapes("gemm", "bf16", 4000)
    chosen = choose_shapes(op, ROOFLINE, SHEET, count=100, seed=3)
    assert len(set(chosen.tolist())) == 100
    np.testing.assert_array_equal(chosen, choose_shapes(op, ROOFLINE, SHEET, count=100, seed=3))
    start = {p.name: p.start for p in ROOFLINE.parameters}
    predicted = np.asarray(ROOFLINE.time_s(op, start, SHEET))
    ranks = np.argsort(np.argsort(predicted))[chosen]
    assert np.array_equal(np.sort(ranks) // 40, np.arange(100))
    cheap = choose_shapes(op, ROOFLINE, SHEET, count=100, max_s=1e-4)
    assert predicted[cheap].max() <= 1e-4


def test_rows_that_were_fitted_on_are_never_scored() -> None:
    table, _ = table_of(law_named("gemm_tiled"), shapes("gemm", "bf16"), noise=0.05)
    sample, rest = sample_table(table, ROOFLINE, SHEET, count=100)
    assert sample.rows + rest.rows == table.rows
    tables = TableSet({"gemm/bf16": table})
    fitted = fit_tables(tables, SHEET, max_samples=100)
    profile = PROFILE.model_copy(update={"laws": fitted.laws})
    assert held_out(table, fitted.laws["gemm/bf16"]).sum() == table.rows - 100
    score = evaluate(profile, tables).ops["gemm"]["bf16"]
    assert score.n == table.rows - 100
    assert score.mape < 0.08
    assert 0.8 < score.coverage < 1.0
    wide = evaluate(profile, tables, interval=0.99).ops["gemm"]["bf16"]
    assert wide.half_width > score.half_width
    assert wide.coverage > score.coverage


def test_commands_fit_and_evaluate(tmp_path: Path) -> None:
    table, _ = table_of(law_named("gemm_tiled"), shapes("gemm", "bf16"), noise=0.05)
    sizes = zip(table.op.m, table.op.n, table.op.k, table.latency_s, strict=True)  # type: ignore[union-attr]
    text = "op,dtype,m,n,k,latency_s\n" + "".join(f"gemm,bf16,{m},{n},{k},{s!r}\n" for m, n, k, s in sizes)
    rows, out = tmp_path / "rows.csv", tmp_path / "profile.json"
    rows.write_text(text.replace("np.float64(", "").replace(")", ""), encoding="utf-8")
    app = typer.Typer()
    register(app)
    runner = CliRunner()
    arguments = ["fit", str(rows), "--hardware", "h100-sxm", "--out", str(out), "--max-samples-per-op", "150"]
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert load_hardware(out).laws["gemm/bf16"].rows == 150
    result = runner.invoke(app, ["evaluate", str(rows), "--profile", str(out), "--format", "csv"])
    assert result.exit_code == 0, result.output
    assert "gemm,bf16,h100-sxm,250" in result.stdout
    few = tmp_path / "few.csv"
    few.write_text("\n".join(rows.read_text(encoding="utf-8").splitlines()[:4]), encoding="utf-8")
    refused = runner.invoke(app, ["fit", str(few), "--hardware", "h100-sxm", "--out", str(tmp_path / "no.json")])
    assert isinstance(refused.exception, FitError)
    assert not (tmp_path / "no.json").exists()


def test_every_law_is_tried_or_named() -> None:
    tried = {law.name for _, _, law in CASES} | {"roofline", "latency_roofline", "streaming", "launch"}
    assert set(LAWS) == tried
