"""Host costs of an engine: fit ∘ simulate is the identity, and what the data can't tell is said."""

from __future__ import annotations

import itertools
from pathlib import Path

import made_profiles as made
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from calibrate.fit.engine import TERMS, EngineFit, fit_engine
from costmodel.cases import Case, case_latency
from costmodel.errors import FitError, InputError
from costmodel.profiles import EngineProfile, load_engine, load_hardware
from costmodel.specs.images import ImageSize
from costmodel.specs.workload import Workload

TRUE = {"request_s": 0.031, "image_s": 0.12, "megapixel_s": 0.21, "step_s": 0.0017}
SIZES = ("448x448", "1024x768", "1680x2240")
DEVICES = ("a100-sxm-80gb", "h100-sxm")


def engine(**terms: float) -> EngineProfile:
    return load_engine("vllm-0.7.2").model_copy(update={name: made.coefficient(value) for name, value in terms.items()})


def case(
    index: int,
    images: tuple[str, ...],
    prompt: int,
    output: int,
    *,
    stages: tuple[str, ...] = ("total",),
    noise: float = 0.0,
    device: str = "a100-sxm-80gb",
    truth: EngineProfile | None = None,
    model: str = made.SMALL,
) -> Case:
    """A run as it would have been measured under the true terms."""
    blank = Case(
        case_id=f"c{index}", model=model, hardware=device, engine="vllm-0.7.2", dtype="bf16", quantization="none",
        num_devices=1, measured_s={},
        workload=Workload(images=tuple(map(ImageSize.parse, images)), prompt_tokens=prompt, output_tokens=output),
    )  # fmt: skip
    latency = case_latency(blank, load_hardware(device), truth or engine(**TRUE))
    factor = np.exp(noise * np.random.default_rng(index).standard_normal())
    measured = {stage: float(getattr(latency, f"{stage}_s").value * factor) for stage in stages}
    return blank.model_copy(update={"measured_s": measured})


def table(**fields: object) -> list[Case]:
    shapes = itertools.product([(), *((size,) for size in SIZES), SIZES[:2]], (64, 512), (16, 128))
    return [case(i, *shape, **fields) for i, shape in enumerate(shapes)]  # type: ignore[arg-type]


def terms_of(fit: EngineFit) -> dict[str, float]:
    return {term.name: term.coefficient.value for term in fit.terms}


@pytest.mark.parametrize(
    "stages", [("total",), ("ttft", "tpot"), ("preprocess", "prefill", "decode"), ("ttft", "total")]
)
def test_the_fit_recovers_the_terms_that_made_the_runs(stages: tuple[str, ...]) -> None:
    fit = fit_engine(table(stages=stages), load_engine("vllm-0.7.2"))
    assert terms_of(fit) == pytest.approx(TRUE, rel=1e-6)
    assert all(term.fitted and term.coefficient.source == "fitted" for term in fit.terms)
    assert fit.mape < 1e-9
    assert fit.held_out[0].mape < 1e-6
    assert fit.engine.key == "vllm-0.7.2"


def test_errors_of_the_terms_are_as_large_as_they_say() -> None:
    deviations = []
    for seed in range(6):
        noisy = [
            one.model_copy(update={"measured_s": {s: t * f for s, t in one.measured_s.items()}})
            for one, f in zip(table(), np.exp(0.02 * np.random.default_rng(seed).standard_normal(20)), strict=True)
        ]
        fit = fit_engine(noisy, load_engine("vllm-0.7.2"))
        deviations += [
            (term.coefficient.value - TRUE[term.name]) / term.coefficient.stderr for term in fit.terms if term.fitted
        ]
    assert 0.6 < np.std(deviations) < 1.6
    assert np.mean(np.abs(deviations) < 2.5) > 0.9


def test_held_out_errors_are_those_of_runs_not_fitted() -> None:
    fit = fit_engine(table(noise=0.03), load_engine("vllm-0.7.2"))
    assert fit.mape < fit.held_out[0].mape < 0.06
    assert fit.held_out[0].n == fit.rows == 20


def test_whole_devices_can_be_held_out() -> None:
    both = [*table(), *table(device="h100-sxm")]
    fit = fit_engine(both, load_engine("vllm-0.7.2"), hold_out="hardware")
    assert [score.group for score in fit.held_out] == ["all", "a100-sxm-80gb none", "h100-sxm none"]
    assert all(score.mape < 1e-6 for score in fit.held_out)

    slower = engine(**{**TRUE, "step_s": 0.004})
    other = [*table(), *table(device="h100-sxm", truth=slower)]
    fit = fit_engine(other, load_engine("vllm-0.7.2"), hold_out="hardware")
    assert fit.held_out[2].bias < -0.02 < 0.02 < fit.held_out[1].bias
    assert fit_engine(table(), load_engine("vllm-0.7.2"), hold_out="model").held_out == ()


def test_text_alone_says_nothing_of_images() -> None:
    text = [
        case(i, (), prompt, output) for i, (prompt, output) in enumerate(itertools.product((64, 900), (2, 64, 200)))
    ]
    start = engine(image_s=0.7, megapixel_s=0.9)
    fit = fit_engine(text, start)
    found = {term.name: term for term in fit.terms}
    assert not found["image_s"].fitted
    assert "can't tell" in found["image_s"].note
    assert found["image_s"].coefficient == start.image_s
    assert found["step_s"].coefficient.value == pytest.approx(TRUE["step_s"])
    assert found["request_s"].coefficient.value == pytest.approx(TRUE["request_s"])


def test_one_image_a_request_is_not_told_from_the_request() -> None:
    cases = [case(i, (size,), 64, output) for i, (size, output) in enumerate(itertools.product(SIZES, (16, 128)))]
    start = engine(request_s=0.0)
    fit = fit_engine(cases, start)
    found = {term.name: term for term in fit.terms}
    assert not found["request_s"].fitted
    assert found["image_s"].coefficient.value == pytest.approx(TRUE["image_s"] + TRUE["request_s"])
    assert found["megapixel_s"].coefficient.value == pytest.approx(TRUE["megapixel_s"])


def test_what_was_known_least_is_fitted_where_there_is_a_choice() -> None:
    """With one answer length for all, a step and a request cost the same: the surer of the two is kept."""
    cases = [case(i, images, 64, 128) for i, images in enumerate([(), *((size,) for size in SIZES)])]
    sure = made.coefficient(TRUE["step_s"], 1e-6)
    start = engine(**TRUE).model_copy(update={"step_s": sure, "request_s": made.coefficient(9.0, 9.0)})
    found = {term.name: term for term in fit_engine(cases, start).terms}
    assert found["request_s"].coefficient.value == pytest.approx(TRUE["request_s"])
    assert found["step_s"].coefficient == sure

    vague = start.model_copy(update={"step_s": made.coefficient(0.5, 0.5), "request_s": made.coefficient(0.031, 1e-6)})
    found = {term.name: term for term in fit_engine(cases, vague).terms}
    assert found["step_s"].coefficient.value == pytest.approx(TRUE["step_s"])
    assert not found["request_s"].fitted


def test_nearly_the_same_is_said_to_be_hard_to_tell() -> None:
    cases = [case(i, (), 64, output, noise=0.01) for i, output in enumerate((100, 101, 102, 103))]
    notes = [term.note for term in fit_engine(cases, load_engine("vllm-0.7.2")).terms]
    assert any("hard to tell from request_s" in note for note in notes)


def test_no_term_is_negative() -> None:
    fast = [
        one.model_copy(update={"measured_s": {"total": one.measured_s["total"] * 0.2}})
        for one in table(truth=engine(**dict.fromkeys(TRUE, 0.0)))
    ]
    fit = fit_engine(fast, load_engine("vllm-0.7.2"))
    assert all(value >= 0 for value in terms_of(fit).values())
    assert any("at its bound" in term.note for term in fit.terms)


def test_runs_that_cannot_be_predicted_are_left_out_and_listed() -> None:
    good = table()
    quantised = good[0].model_copy(update={"quantization": "something-else", "case_id": "q"})
    unknown = good[1].model_copy(update={"hardware": "abacus", "case_id": "h"})
    fit = fit_engine([quantised, *good, unknown], load_engine("vllm-0.7.2"))
    assert [skipped.case_id for skipped in fit.skipped] == ["q", "h"]
    assert terms_of(fit) == pytest.approx(TRUE, rel=1e-6)
    with pytest.raises(FitError, match=r"none of 1 case.* 'abacus'"):
        fit_engine([unknown], load_engine("vllm-0.7.2"))


def test_terms_are_fields_of_the_profile() -> None:
    assert set(TERMS) <= set(EngineProfile.model_fields)


BAD_COMMANDS = {
    "neither": ([], "expected either --cases or --endpoint"),
    "both": (["--cases", "x.csv", "--endpoint", "http://h"], "expected either --cases or --endpoint"),
    "hold-out": (["--cases", "x.csv", "--hold-out", "tuesdays"], "--hold-out is 'tuesdays'"),
    "no table": (["--cases", "absent.csv"], "absent.csv: can't be read"),
    "no model": (["--endpoint", "http://h"], "needs --model and --hardware"),
    "dialect": (
        ["--endpoint", "http://h", "--model", "m", "--hardware", "h", "--dialect", "klingon"],
        "--dialect is 'klingon', expected one of auto, openai",
    ),
}


@pytest.mark.parametrize("kind", sorted(BAD_COMMANDS))
def test_commands_that_cannot_be(kind: str, tmp_path: Path) -> None:
    from calibrate.commands.engine import register

    arguments, words = BAD_COMMANDS[kind]
    app = typer.Typer()
    register(app)
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "e.json")])
    assert isinstance(done.exception, InputError)
    assert words in str(done.exception)
    assert not (tmp_path / "e.json").exists()
