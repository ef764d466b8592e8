"""Predicted times of every family grow with what is asked, and one device is the plain case."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel import ImageSize, Workload, load_engine, load_hardware, load_model
from costmodel.families.sources import preset_names
from costmodel.predict import Forecast, estimate
from costmodel.specs.model import ModelSpec

ONE_OF_EACH = sorted({load_model(name).family: name for name in preset_names()}.values())
HARDWARE, ENGINE = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
IMAGE = ImageSize(width=448, height=448)
STAGES = ("encode", "prefill", "decode")


@cache
def _model(name: str) -> ModelSpec:
    return load_model(name)


def _request(name: str, prompt: int, output: int, batch: int) -> Workload:
    images = (IMAGE,) if _model(name).image_rule is not None else ()
    return Workload(images=images, prompt_tokens=prompt, output_tokens=output, batch=batch)


def _forecast(name: str, prompt: int, output: int, batch: int, **options: int) -> Forecast:
    return estimate(_model(name), HARDWARE, ENGINE, _request(name, prompt, output, batch), **options)  # type: ignore[arg-type]


def _times(forecast: Forecast) -> dict[str, float]:
    return {stage: float(forecast.stages[stage].value_s) for stage in STAGES}


SIZES = {"prompt": st.integers(1, 6000), "output": st.integers(2, 600), "batch": st.integers(1, 48)}


@given(name=st.sampled_from(ONE_OF_EACH), which=st.sampled_from(sorted(SIZES)), more=st.integers(1, 2000), **SIZES)
@settings(max_examples=60)
def test_every_stage_takes_longer_for_more(
    name: str, which: str, more: int, prompt: int, output: int, batch: int
) -> None:
    sizes = {"prompt": prompt, "output": output, "batch": batch}
    few = _times(_forecast(name, **sizes))
    many = _times(_forecast(name, **{**sizes, which: sizes[which] + more % (64 if which == "batch" else 2001)}))
    for stage in STAGES:
        assert many[stage] >= few[stage] * (1 - 1e-9), (stage, which)


@given(name=st.sampled_from(ONE_OF_EACH), prompt=st.integers(1, 4000), output=st.integers(2, 100))
@settings(max_examples=25)
def test_layers_add_time(name: str, prompt: int, output: int) -> None:
    model = _model(name)
    group, *others = model.decoder.layers
    deeper = (group.model_copy(update={"count": group.count + 1}), *others)
    more = model.model_copy(update={"decoder": model.decoder.model_copy(update={"layers": deeper})})
    request = _request(name, prompt, output, 1)
    plain, longer = (_times(estimate(each, HARDWARE, ENGINE, request)) for each in (model, more))
    assert longer["prefill"] > plain["prefill"]
    assert longer["decode"] > plain["decode"]
    assert longer["encode"] == plain["encode"]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_one_device_and_one_chunk_are_the_plain_case(name: str) -> None:
    plain = _forecast(name, 1000, 50, 2)
    assert _times(_forecast(name, 1000, 50, 2, num_devices=1)) == _times(plain)
    assert _times(_forecast(name, 1000, 50, 2, chunk_tokens=10**6)) == _times(plain)
    assert _forecast(name, 1000, 50, 2, num_devices=1).memory == plain.memory


@given(name=st.sampled_from(ONE_OF_EACH), prompt=st.integers(2, 3000), chunk=st.integers(64, 3000))
@settings(max_examples=25)
def test_chunks_of_a_prefill_take_at_least_the_whole(name: str, prompt: int, chunk: int) -> None:
    """The same work in more passes: each has its own fixed costs and reads the weights again."""
    whole, chunks = _forecast(name, prompt, 2, 1), _forecast(name, prompt, 2, 1, chunk_tokens=chunk)
    assert _times(chunks)["prefill"] >= _times(whole)["prefill"] * (1 - 0.02)
    assert _times(chunks)["decode"] == _times(whole)["decode"]
