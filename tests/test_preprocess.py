"""Image preprocessing: real processors at the settings of a model, the fit, and its place in a prediction."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import made_profiles as made
import numpy as np
import pytest

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")

from PIL import Image

from calibrate.engines.image_processors import PROCESSED_RULES, processor_of
from calibrate.measure import preprocess as measuring
from calibrate.measure.preprocess import PreprocessPlan, calibrate_preprocess, fit_processors
from costmodel import program
from costmodel.errors import DeviceError, FitError
from costmodel.families.sources import load_model, preset_names
from costmodel.predict import predict
from costmodel.profiles import DECODED, ComponentFit, EngineProfile, HardwareProfile, load_engine, load_hardware
from costmodel.specs.images import ImageSize
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

SIZES = [ImageSize.parse(text) for text in ("230x170", "640x480", "400x900", "1100x800", "1500x1000", "700x2000")]
TRUTH = {"images": 0.01, "megapixels": 0.05, "resized_megapixels": 0.09}
ANCHOR = {"op": "anchor", "gemm_s": 1.0, "stream_s": 1.0, "tiny_s": 1.0}


def models_by_rule() -> dict[str, ModelSpec]:
    specs = [load_model(name) for name in reversed(preset_names())]
    return {getattr(spec.image_rule, "rule", ""): spec for spec in specs}


@pytest.mark.parametrize("rule", PROCESSED_RULES)
@pytest.mark.parametrize("size", [ImageSize(width=330, height=250), ImageSize(width=900, height=500)])
def test_the_real_processor_makes_as_many_pixels_as_the_layout_says(rule: str, size: ImageSize) -> None:
    model = models_by_rule()[rule]
    out: Any = processor_of(model)(Image.new("RGB", (size.width, size.height), (90, 120, 30)))
    layout = program.image_layouts(model, [size])[0]
    values = np.asarray(out["pixel_values"])
    frames = 2 if rule in ("smart_resize", "glm4v") else 1
    # Pads that hold no image: of the batch, or of the tiles that mllama and LLaVA keep room for.
    assert values.size >= layout.resized_pixels * 3 * frames
    if rule in ("smart_resize", "glm4v", "internvl", "fixed", "gemma3", "llava_next", "smolvlm"):
        assert values.size == layout.resized_pixels * 3 * frames


@pytest.mark.parametrize("name", ["moonshotai/Kimi-VL-A3B-Instruct", "Qwen/Qwen3-8B"])
def test_models_without_such_a_processor_are_refused(name: str) -> None:
    with pytest.raises(DeviceError, match="no image processor on PIL"):
        processor_of(made.preset(name))


def sizes_of(model: ModelSpec, size: ImageSize) -> dict[str, float]:
    stage = program.preprocess([size], program.image_layouts(model, [size]))
    return {name: float(stage.components[0].features[name]) for name in (*TRUTH, "tiles")}


def rows_of(factors: dict[str, float] | None = None) -> list[dict[str, Any]]:
    """Six sizes, three samples each; the last two are held out."""
    model = made.preset(made.SMALL)
    rows: list[dict[str, Any]] = [{"op": "start"}, ANCHOR]
    for index, size in enumerate(SIZES):
        features = sizes_of(model, size)
        seconds = sum(TRUTH[name] * features[name] for name in TRUTH) * (factors or {}).get(str(size), 1.0)
        for shake in (0.99, 1.0, 1.01):
            row = {"op": "processor", "item": f"p/{size}", "component": "smart_resize", "features": features}
            rows += [{**row, "held_out": index > 3, "latency_s": seconds * shake, "cpu_share": 1.0}, ANCHOR]
    return rows


def test_the_fit_recovers_what_made_the_times_and_scores_the_sizes_held_out() -> None:
    result = fit_processors(rows_of())
    fit = result.fits["smart_resize"]
    assert set(fit.coefficients) == set(TRUTH)
    for name, value in TRUTH.items():
        assert fit.coefficients[name].value == pytest.approx(value, rel=1e-6)
    assert set(fit.highest) == {"megapixels", "resized_megapixels"}
    (score,) = result.scores
    assert (score.rule, score.n, score.undisturbed) == ("smart_resize", 2, 1.0)
    assert score.mape == pytest.approx(0, abs=1e-6)
    assert 0.005 < score.noise_floor < 0.02


def test_held_out_sizes_have_no_say_in_the_fit() -> None:
    slower = fit_processors(rows_of({str(SIZES[-1]): 2.0}))
    assert slower.fits == fit_processors(rows_of()).fits
    assert slower.scores[0].worst_ape == pytest.approx(0.5)
    assert slower.scores[0].bias == pytest.approx(-0.25)


def test_one_size_determines_nothing() -> None:
    rows = [row for row in rows_of() if row.get("item") in (None, f"p/{SIZES[0]}")]
    with pytest.raises(FitError, match="one size only"):
        fit_processors(rows)


def processor_fit(**coefficients: float) -> ComponentFit:
    count = len(coefficients)
    return ComponentFit(
        coefficients={name: made.coefficient(value) for name, value in coefficients.items()},
        covariance=((0.0,) * count,) * count,
        residual_log_sd=0.1,
        rows=9,
        lowest={},
        highest={},
    )


def host(**others: ComponentFit) -> HardwareProfile:
    fits = {DECODED: processor_fit(megapixels=0.008), "smart_resize": processor_fit(**TRUTH), **others}
    return load_hardware("h100-sxm").model_copy(update={"processors": fits})


def preprocess_s(hardware: HardwareProfile, engine: EngineProfile, *images: ImageSize) -> tuple[float, str]:
    request = Workload(images=images, prompt_tokens=20, output_tokens=3)
    prediction = predict(made.preset(made.SMALL), hardware, engine, request)
    return prediction.latency.preprocess_s.value, prediction.sources["preprocess"]


def test_measured_processors_take_the_place_of_assumptions() -> None:
    engine, bare = load_engine("hf-eager"), load_hardware("h100-sxm")
    expected = engine.request_s.value
    copied = 0.0
    for size in SIZES[:2]:
        features = sizes_of(made.preset(made.SMALL), size)
        expected += 0.008 * features["megapixels"] + sum(TRUTH[name] * features[name] for name in TRUTH)
        copied += features["resized_megapixels"] * 12e6
    link = bare.datasheet.host_link_bytes_per_s
    got, source = preprocess_s(host(), engine, *SIZES[:2])
    assert got == pytest.approx(expected + (copied / link if link else 0.0))
    assert source == "processors"
    assert preprocess_s(bare, engine, *SIZES[:2])[1] == "engine (assumed)"
    assert preprocess_s(host(), engine)[1] == "engine (assumed)", "no image, no processor"


def test_engines_that_know_better_keep_their_terms() -> None:
    assumed = load_engine("hf-eager")
    fitted = assumed.model_copy(update={"megapixel_s": made.coefficient(0.3, 0.01)})
    own = assumed.model_copy(update={"image_processor": "own"})
    for engine in (fitted, own):
        bare = preprocess_s(load_hardware("h100-sxm"), engine, SIZES[0])
        assert preprocess_s(host(), engine, SIZES[0]) == bare
    other = load_hardware("h100-sxm").model_copy(update={"processors": {"internvl": processor_fit(images=9.0)}})
    assert preprocess_s(other, assumed, SIZES[0])[1] == "engine (assumed)"


def test_measuring_ends_in_time_and_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "_FIT", ("100x80", "200x150", "160x300"))
    monkeypatch.setattr(measuring, "_HELD_OUT", ("150x150",))
    plan = PreprocessPlan((made.preset(made.SMALL),), budget_s=4.0)
    path = tmp_path / "p.jsonl"
    first = calibrate_preprocess(plan, measurements=path, progress=lambda share, text: None)
    assert set(first.fits) == {DECODED, "smart_resize"}
    assert all(fit.coefficients for fit in first.fits.values())
    assert [score.n for score in first.scores] == [1, 1]
    before = path.read_text()
    calibrate_preprocess(plan, measurements=path, progress=lambda share, text: None)
    assert path.read_text().startswith(before)
