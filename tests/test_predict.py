"""Latency of a request: the sum over single steps, its bounds from below, its intervals, what it says of itself."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_profiles import (
    IMAGE,
    LARGE,
    SMALL,
    WINDOWED,
    calibrated,
    components,
    engine,
    linear_time_s,
    preset,
    request,
    roofline,
    slices_of,
    text_only,
)

from costmodel import program
from costmodel.errors import ProfileError, UnknownKeyError, WorkloadError
from costmodel.predict import Latency, Prediction, estimate, predict
from costmodel.pricing import Pricer, component_time_s
from costmodel.profiles import HardwareProfile, LawFit, load_hardware
from costmodel.program import Options
from costmodel.specs.workload import Workload

STAGES = ("preprocess", "encode", "prefill", "decode")
FUSED = Options("bf16", "bf16", fused=True)

efficiencies = st.floats(0.05, 1.0)
laws = st.builds(
    roofline,
    fixed_s=st.floats(1e-7, 1e-4),
    compute=efficiencies,
    memory=efficiencies,
    sharpness=st.floats(1.0, 12.0),
)


def _step_by_step_s(hardware: HardwareProfile, workload: Workload, name: str) -> float:
    """Decode time as a plain loop over the steps."""
    spec, stack = preset(name), engine()
    pricer = Pricer(hardware, stack, hardware.slice_of(spec.fingerprint(), engine=stack.key, dtype="bf16"))
    layouts = program.image_layouts(spec, workload.images)
    prompt = workload.prompt_tokens + sum(x.visual_tokens + x.extra_text_tokens for x in layouts)
    steps = (
        program.decode_step(spec, context_tokens=float(prompt + i), batch=workload.batch, options=FUSED)
        for i in range(1, workload.output_tokens)
    )
    return sum(float(pricer.stage(step).value_s) for step in steps)


WORKLOADS = [
    request(64, 2),
    request(64, 47),
    request(1, 700, images=0),
    request(3000, 300, images=0, batch=8),
]


@pytest.mark.parametrize("workload", WORKLOADS, ids=["one step", "image", "long answer", "batch"])
def test_decode_is_the_sum_over_steps_of_slices(workload: Workload) -> None:
    hardware = calibrated(slices=[slices_of(preset(SMALL))])
    decode_s = predict(preset(SMALL), hardware, engine(), workload).latency.decode_s.value
    assert decode_s == pytest.approx(_step_by_step_s(hardware, workload, SMALL), rel=1e-6)


@pytest.mark.parametrize("workload", WORKLOADS, ids=["one step", "image", "long answer", "batch"])
@pytest.mark.parametrize(
    "hardware",
    [calibrated(), calibrated(roofline(sharpness=12.0)), load_hardware("h100-pcie")],
    ids=["laws", "sharp", "priors"],
)
def test_decode_is_the_sum_over_steps_of_laws(hardware: HardwareProfile, workload: Workload) -> None:
    decode_s = predict(preset(SMALL), hardware, engine(), workload).latency.decode_s.value
    # Tiled laws step with the context; the sum over nodes sees those steps only roughly.
    assert decode_s == pytest.approx(_step_by_step_s(hardware, workload, SMALL), rel=3e-3)


def test_slices_are_linear_in_the_features() -> None:
    spec, workload = preset(SMALL), request(64, 1)
    latency = predict(spec, calibrated(slices=[slices_of(spec)]), engine(), workload).latency
    by_name = components(spec, workload, FUSED)
    prefill = [by_name[name] for name in ("prefill.shell", "prefill.decoder_layer", "head")]
    encode = [c for name, c in by_name.items() if name.startswith("encode.")]
    assert latency.prefill_s.value == pytest.approx(sum(map(linear_time_s, prefill)))
    assert latency.encode_s.value == pytest.approx(sum(map(linear_time_s, encode)))
    assert latency.preprocess_s.value == pytest.approx(linear_time_s(by_name["preprocess"]))
    assert latency.decode_s.value == latency.decode_s.high == 0.0


def test_stages_add_up() -> None:
    latency = predict(preset(LARGE), calibrated(), engine(), request(64, 11)).latency
    parts = [getattr(latency, f"{stage}_s").value for stage in STAGES]
    assert latency.total_s.value == pytest.approx(sum(parts))
    assert latency.ttft_s.value == pytest.approx(sum(parts[:3]))
    assert latency.tpot_s.value == pytest.approx(parts[3] / 10)


@settings(max_examples=40)
@given(
    prompt=st.integers(1, 8000),
    output=st.integers(1, 3000),
    batch=st.integers(1, 64),
    more=st.integers(1, 500),
    law=laws,
    sliced=st.booleans(),
)
def test_more_work_takes_longer(prompt: int, output: int, batch: int, more: int, law: LawFit, sliced: bool) -> None:
    spec = preset(SMALL)
    hardware = calibrated(law, slices=[slices_of(spec)] if sliced else [])

    def total_s(workload: Workload) -> float:
        return predict(spec, hardware, engine(), workload).latency.total_s.value

    base = total_s(request(prompt, output, batch=batch)) * (1 - 1e-12)
    assert total_s(request(prompt + more, output, batch=batch)) >= base
    assert total_s(request(prompt, output + more, batch=batch)) >= base
    assert total_s(request(prompt, output, batch=batch + more)) >= base


@settings(max_examples=40)
@given(
    prompt=st.integers(1, 8000),
    output=st.integers(1, 1000),
    batch=st.integers(1, 64),
    law=laws,
    name=st.sampled_from([SMALL, LARGE, WINDOWED]),
)
def test_never_faster_than_the_datasheet(prompt: int, output: int, batch: int, law: LawFit, name: str) -> None:
    hardware, spec, workload = calibrated(law), preset(name), request(prompt, output, batch=batch)
    forecast = estimate(spec, hardware, engine(), workload)
    sheet, total_prompt = hardware.datasheet, float(forecast.prompt_tokens)

    def least_s(stage: program.Stage) -> float:
        peak = sheet.peak_flops_per_s["bf16"]
        return max(float(stage.flops()) / peak, float(stage.bytes()) / sheet.memory_bytes_per_s)

    encode = program.encode(spec, forecast.layouts, batch=batch, options=FUSED)
    prefill = program.prefill(spec, new_tokens=total_prompt, cached_tokens=0.0, batch=batch, options=FUSED)
    step = program.decode_step(spec, context_tokens=total_prompt + 1, batch=batch, options=FUSED)
    assert forecast.stages["encode"].value_s >= least_s(encode)
    assert forecast.stages["prefill"].value_s >= least_s(prefill)
    assert forecast.stages["decode"].value_s >= (output - 1) * least_s(step)


@pytest.mark.parametrize("name", [SMALL, LARGE])
@pytest.mark.parametrize("key", ["h100-sxm", "a100-sxm-80gb", "l40s"])
def test_priors_cannot_read_the_weights_faster_than_memory(key: str, name: str) -> None:
    hardware, spec = load_hardware(key), preset(name)
    latency = predict(spec, hardware, engine(), request(64, 2)).latency
    read = 2 * (spec.decoder.parameters - spec.decoder.embedding_parameters * (not spec.decoder.tied_embeddings))
    outside_cache = read - hardware.datasheet.cache_bytes
    assert latency.decode_s.value >= outside_cache / hardware.datasheet.memory_bytes_per_s


def _quantities(latency: Latency) -> list[tuple[float, float, float]]:
    return [(q.low, q.value, q.high) for _, q in latency]


def test_interval_contains_the_value_and_widens() -> None:
    hardware = calibrated(run_log_sd=0.02)
    before: list[tuple[float, float, float]] | None = None
    for interval in (0.1, 0.5, 0.9, 0.99):
        now = _quantities(predict(preset(SMALL), hardware, engine(), request(), interval=interval).latency)
        assert all(low < value < high for low, value, high in now)
        if before:
            assert all(wide[0] < narrow[0] and wide[2] > narrow[2] for wide, narrow in zip(now, before, strict=True))
        before = now


def test_interval_of_one_source_by_hand() -> None:
    spec = text_only()
    still = calibrated(roofline(log_sd=0.1))
    quiet = engine(step_s=engine().launch_s, request_s=engine().launch_s)
    workload = request(256, 1, images=0)
    forecast = estimate(spec, still, quiet, workload)
    sources = forecast.stages["prefill"].sd_s
    laws = [sd for source, sd in sources.items() if not source.startswith("host")]
    assert sum(laws) == pytest.approx(0.1 * forecast.stages["prefill"].value_s, rel=1e-6)


def test_interval_of_a_slice_equals_sampled_coefficients() -> None:
    """Coefficients that were fitted together err together."""
    spec, workload = text_only(), request(2000, 1, images=0)
    profile = slices_of(spec, log_sd=0.0)
    fit = profile.components["prefill.decoder_layer"]
    means = np.array([c.value for c in fit.coefficients.values()])
    errors = np.array([0.2, -0.1, 0.05]) * means
    covariance = np.outer(errors, errors) + np.diag((0.05 * means) ** 2)
    uncertain = fit.model_copy(update={"covariance": tuple(map(tuple, covariance.tolist()))})
    parts = {**profile.components, "prefill.decoder_layer": uncertain}
    hardware = calibrated(slices=[profile.model_copy(update={"components": parts})])
    prefill = estimate(spec, hardware, engine(), workload).stages["prefill"]
    layer = components(spec, workload, FUSED)["prefill.decoder_layer"]
    draws = np.random.default_rng(5).multivariate_normal(means, covariance, 100_000)
    sampled = draws @ np.array([float(layer.features[name]) for name in fit.coefficients]) * layer.count
    assert float(prefill.log_sd() * prefill.value_s) == pytest.approx(float(np.std(sampled)), rel=0.02)


def _relative_width(prediction: Prediction) -> float:
    total = prediction.latency.total_s
    return (total.high - total.low) / total.value


def test_datasheet_only_says_so_and_is_wider() -> None:
    stack, spec = engine(), preset(SMALL)
    plain = predict(spec, load_hardware("h100-pcie"), stack, request())
    measured = predict(spec, calibrated(), stack, request())
    assert any("datasheet" in warning and "h100-pcie" in warning for warning in plain.warnings)
    assert not measured.warnings
    assert plain.sources["gemm/bf16"] == "datasheet"
    assert measured.sources["gemm/bf16"] == "kernels"
    assert _relative_width(plain) > _relative_width(measured)


def test_run_to_run_noise_is_in_every_interval() -> None:
    quiet = predict(preset(SMALL), calibrated(), engine(), request()).latency
    noisy = predict(preset(SMALL), calibrated(run_log_sd=0.2), engine(), request()).latency
    for (low, value, high), (noisy_low, noisy_value, noisy_high) in zip(
        _quantities(quiet), _quantities(noisy), strict=True
    ):
        assert value == noisy_value
        assert noisy_low < low < high < noisy_high


def test_slices_are_preferred_and_missing_ones_fall_back() -> None:
    spec = preset(SMALL)
    everything = components(spec, request(), FUSED)
    whole = predict(spec, calibrated(slices=[slices_of(spec)]), engine(), request())
    assert set(whole.sources) == set(everything)
    assert set(whole.sources.values()) == {"slices"}

    some = ("prefill.decoder_layer", "decode.decoder_layer")
    part = predict(spec, calibrated(slices=[slices_of(spec, only=some)]), engine(), request())
    sliced = {group for group, tier in part.sources.items() if tier == "slices"}
    assert sliced == set(some)
    assert part.sources["gemm/bf16"] == "kernels"
    by_laws = predict(spec, calibrated(), engine(), request())
    assert part.latency.encode_s == by_laws.latency.encode_s
    assert part.latency.prefill_s.value > linear_time_s(everything["prefill.decoder_layer"])


@pytest.mark.parametrize("changes", [{"engine_key": "hf-eager"}, {"dtype": "fp16"}], ids=["engine", "number format"])
def test_slices_of_another_stack_are_not_used(changes: dict[str, str]) -> None:
    spec = preset(SMALL)
    prediction = predict(spec, calibrated(slices=[slices_of(spec, **changes)]), engine(), request())
    assert prediction == predict(spec, calibrated(), engine(), request())


def test_slices_of_another_size_are_not_used() -> None:
    other = calibrated(slices=[slices_of(preset(LARGE))])
    prediction = predict(preset(SMALL), other, engine(), request())
    assert prediction == predict(preset(SMALL), calibrated(), engine(), request())


def test_extrapolation_is_named() -> None:
    spec = preset(SMALL)
    used = float(components(spec, request(), FUSED)["prefill.decoder_layer"].features["gemm_flops"])
    inside = calibrated(slices=[slices_of(spec, highest={"gemm_flops": used / 1.2})])
    outside = calibrated(slices=[slices_of(spec, highest={"gemm_flops": used / 1.3})])
    assert predict(spec, inside, engine(), request()).warnings == ()
    (warning,) = predict(spec, outside, engine(), request()).warnings
    assert "prefill.decoder_layer" in warning
    assert "gemm_flops" in warning
    assert "extrapolated" in warning


@pytest.mark.parametrize("spec", [preset(SMALL), text_only()], ids=["a VLM", "a text model"])
def test_text_only_request_has_no_encoder(spec: object) -> None:
    prediction = predict(spec, calibrated(), engine(), request(images=0))  # type: ignore[arg-type]
    assert prediction.latency.encode_s.value == prediction.latency.encode_s.high == 0.0
    assert prediction.visual_tokens == ()
    assert prediction.prompt_tokens_total == 64
    assert prediction.bound["encode"] == "none"


def test_prompt_counts_visual_tokens_and_their_frame() -> None:
    prediction = predict(preset(SMALL), calibrated(), engine(), request(64, images=2))
    tokens = preset(SMALL).visual_tokens(IMAGE.width, IMAGE.height)
    assert prediction.visual_tokens == (tokens, tokens)
    assert prediction.prompt_tokens_total == 64 + 2 * (tokens + 2)


def test_cached_prefix_shortens_only_prefill() -> None:
    whole = predict(preset(SMALL), calibrated(), engine(), request(2000, images=0)).latency
    cached = predict(preset(SMALL), calibrated(), engine(), request(2000, images=0, cached_prefix_tokens=1500))
    assert cached.latency.prefill_s.value < whole.prefill_s.value
    assert cached.latency.decode_s == whole.decode_s
    assert cached.warnings == ()
    cached = predict(preset(SMALL), calibrated(), engine(), request(2000, cached_prefix_tokens=1500))
    assert any("encode" in warning for warning in cached.warnings)


def test_chunks_cost_at_least_the_whole() -> None:
    """The cached part and the rest, added: the same operators on the same tokens, with a fixed cost twice."""
    spec, hardware = preset(SMALL), calibrated()
    parts = (
        request(1500, 1, images=0),
        request(2000, 1, images=0, cached_prefix_tokens=1500),
    )
    prefills = [predict(spec, hardware, engine(), part).latency.prefill_s.value for part in parts]
    assert sum(prefills) > predict(spec, hardware, engine(), request(2000, 1, images=0)).latency.prefill_s.value


def test_limits_are_named() -> None:
    long = predict(preset(SMALL), calibrated(), engine(), request(preset(SMALL).decoder.max_context_tokens, 10))
    assert any("beyond the model's" in warning for warning in long.warnings)
    large = predict(preset("Qwen/Qwen2.5-VL-72B-Instruct"), calibrated(), engine(), request())
    assert not large.memory.fits
    assert any("does not fit" in warning and "too much" in warning for warning in large.warnings)
    assert any("would fit" in warning and "2 devices" in warning for warning in large.warnings)


@pytest.mark.parametrize("interval", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_interval_is_a_probability(interval: float) -> None:
    with pytest.raises(WorkloadError, match="interval"):
        predict(preset(SMALL), calibrated(), engine(), request(), interval=interval)


def _text_model_with_image() -> Prediction:
    return predict(text_only(), calibrated(), engine(), request())


def _prefix_as_long_as_the_prompt() -> Prediction:
    return predict(preset(SMALL), calibrated(), engine(), request(64, images=0, cached_prefix_tokens=64))


def _no_peak() -> Prediction:
    return predict(preset(SMALL), load_hardware("a100-sxm-80gb"), engine(), request(), dtype="fp8")


def _no_format() -> Prediction:
    return predict(preset(SMALL), calibrated(), engine(), request(), dtype="bf15")


def _no_cache_format() -> Prediction:
    return predict(preset(SMALL), calibrated(), engine(), request(), kv_dtype="fp9")


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (_text_model_with_image, WorkloadError, "reads text only, got 1 image"),
        (_prefix_as_long_as_the_prompt, WorkloadError, "cached_prefix_tokens is 64"),
        (_no_peak, ProfileError, "no peak for dtype 'fp8'"),
        (_no_format, UnknownKeyError, "'bf15'; nearest: bf16"),
        (_no_cache_format, UnknownKeyError, "'fp9'; nearest: fp"),
    ],
)
def test_errors_are_typed(ask: Callable[[], Prediction], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ask()


def test_a_smaller_cache_format_is_faster_and_smaller() -> None:
    long = request(20_000, 50, images=0)
    wide = predict(preset(SMALL), calibrated(), engine(), long)
    narrow = predict(preset(SMALL), calibrated(), engine(), long, kv_dtype="fp8")
    assert narrow.latency.decode_s.value < wide.latency.decode_s.value
    assert narrow.memory.kv_cache_bytes == wide.memory.kv_cache_bytes / 2


def test_a_slow_host_bounds_decode() -> None:
    slow = engine(launch_s=engine().step_s.model_copy(update={"value": 1e-3}))
    prediction = predict(preset(SMALL), calibrated(), slow, request())
    assert prediction.bound["decode"] == "host"
    launches = program.decode_step(preset(SMALL), context_tokens=900.0, batch=1, options=FUSED).launches()
    assert prediction.latency.tpot_s.value >= launches * 1e-3


def test_a_slice_needs_features_that_exist() -> None:
    with pytest.raises(ProfileError, match=r"\['depth'\] unknown.*'layers'"):
        component_time_s({"depth": 1.0}, {"layers": 1.0})
