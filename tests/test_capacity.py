"""What fits, against trying every number; and what would fit, against trying it."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from costmodel import ImageSize, Workload, load_engine, load_hardware, load_model, predict
from costmodel.capacity import Demand, largest_batch, largest_context, with_limits, would_fit
from costmodel.families.sources import preset_names
from costmodel.memory import workspace_bytes
from costmodel.profiles import Datasheet, datasheets
from costmodel.program import Options
from costmodel.specs.model import ModelSpec
from costmodel.units import GIB

ONE_OF_EACH = sorted({load_model(name).family: name for name in preset_names()}.values())
MODELS = st.sampled_from(ONE_OF_EACH)
PLAIN = Options("bf16", "bf16", fused=True)
LARGE = "Qwen/Qwen2.5-VL-72B-Instruct"


def _sheet(memory_bytes: float, *, kind: str = "cuda") -> Datasheet:
    return load_hardware("h100-sxm").datasheet.model_copy(update={"memory_bytes": memory_bytes, "kind": kind})


def _demand(model: ModelSpec, *, context: int = 500, batch: int = 1, options: Options = PLAIN) -> Demand:
    return Demand(model, options, context, largest_pass_tokens=400, patches=1000, cross_tokens=0, batch=batch)


def _short(name: str, limit: int) -> ModelSpec:
    """The model with a context so short that every length can be tried."""
    model = load_model(name)
    decoder = model.decoder.model_copy(update={"max_context_tokens": limit})
    return model.model_copy(update={"decoder": decoder})


@given(name=MODELS, room=st.floats(0.2, 40), context=st.integers(1, 30_000), devices=st.sampled_from([1, 2]))
@settings(max_examples=60)
def test_the_largest_batch_is_that_of_trying(name: str, room: float, context: int, devices: int) -> None:
    options = dataclasses.replace(PLAIN, num_devices=devices)
    demand = _demand(load_model(name), context=context, options=options)
    one = demand.memory(_sheet(1.0))
    sheet = _sheet(one.weights_bytes + one.workspace_bytes + room * (one.kv_cache_bytes + one.activations_bytes))
    tried = next(batch for batch in range(60) if not demand.fits(sheet, batch=batch + 1))
    assert largest_batch(demand, sheet) == tried


@given(name=MODELS, share=st.floats(0, 1.3), batch=st.integers(1, 8), limit=st.integers(1, 300))
@settings(max_examples=40)
def test_the_largest_context_is_that_of_trying(name: str, share: float, batch: int, limit: int) -> None:
    demand = _demand(_short(name, limit), batch=batch)
    low, high = (
        dataclasses.replace(demand, context_tokens=tokens).memory(_sheet(1.0)).total_bytes for tokens in (1, limit)
    )
    sheet = _sheet(low + share * (high - low) - 1)
    tried = max((tokens for tokens in range(1, limit + 1) if demand.fits(sheet, context_tokens=tokens)), default=0)
    assert largest_context(demand, sheet) == tried


@given(name=MODELS, gib=st.floats(0.5, 400), context=st.integers(1, 100_000), batch=st.integers(1, 64))
@settings(max_examples=60)
def test_what_would_fit_fits_and_one_more_does_not(name: str, gib: float, context: int, batch: int) -> None:
    sheet = _sheet(gib * GIB)
    demand = _demand(load_model(name), context=context, batch=batch)
    memory = demand.memory(sheet)
    assume(not memory.fits)
    assert memory.missing_bytes == memory.total_bytes - sheet.memory_bytes > 0
    found = would_fit(demand, sheet, datasheets())
    if found.context_tokens is not None:
        assert demand.fits(sheet, context_tokens=found.context_tokens)
        more = found.context_tokens + 1
        assert more > demand.model.decoder.max_context_tokens or not demand.fits(sheet, context_tokens=more)
    else:
        assert not demand.fits(sheet, context_tokens=1)
    if found.batch is not None:
        assert demand.fits(sheet, batch=found.batch)
        assert not demand.fits(sheet, batch=found.batch + 1)
    else:
        assert not demand.fits(sheet, batch=1)
    if found.num_devices is not None:
        assert demand.fits(sheet, options=dataclasses.replace(PLAIN, num_devices=found.num_devices))
    for scheme in found.quantizations:
        assert demand.fits(sheet, options=dataclasses.replace(PLAIN, quantization=scheme))
    capacities = [datasheets()[key].memory_bytes for key in found.hardware]
    assert capacities == sorted(capacities)
    fitting = {key for key, other in datasheets().items() if "bf16" in other.peak_flops_per_s and demand.fits(other)}
    assert set(found.hardware) == fitting


def test_a_model_beyond_one_device_says_by_how_much_and_what_would_fit() -> None:
    model, engine = load_model(LARGE), load_engine("vllm-0.7.2")
    workload = Workload(images=(ImageSize(width=640, height=480),), prompt_tokens=100, output_tokens=100)
    found = predict(model, load_hardware("h100-sxm"), engine, workload)
    memory = found.memory
    assert not memory.fits
    assert memory.missing_bytes == pytest.approx(memory.total_bytes - memory.capacity_bytes)
    assert memory.largest_batch == memory.largest_context_tokens == 0
    assert memory.would_fit is not None
    assert memory.would_fit.num_devices == 2
    assert memory.would_fit.context_tokens is memory.would_fit.batch is None
    assert "w4a16" in memory.would_fit.quantizations
    # An H100 multiplies no 4-bit floats.
    assert "w4a4-nvfp4" not in memory.would_fit.quantizations
    assert {"b200-sxm", "mi300x"} <= set(memory.would_fit.hardware)
    text = " ".join(found.warnings)
    assert "GiB too much" in text
    assert "2 devices" in text
    two = predict(model, load_hardware("h100-sxm"), engine, workload, num_devices=2)
    assert two.memory.fits
    assert two.memory.would_fit is None
    assert two.memory.largest_batch is not None
    assert two.memory.largest_batch > 1


def test_limits_of_a_model_that_fits() -> None:
    model = load_model("Qwen/Qwen3-0.6B")
    memory = with_limits(_demand(model), load_hardware("h100-sxm").datasheet, datasheets)
    assert memory.fits
    assert memory.missing_bytes == 0
    assert memory.largest_context_tokens == model.decoder.max_context_tokens


def test_a_workspace_is_taken_by_gpus() -> None:
    assert workspace_bytes("cpu", 1) == workspace_bytes("mps", 1) == 0
    assert 0 < workspace_bytes("cuda", 1) < workspace_bytes("cuda", 2) < 4 * GIB
    demand = _demand(load_model("Qwen/Qwen3-0.6B"))
    gpu, cpu = (demand.memory(_sheet(1e12, kind=kind)) for kind in ("cuda", "cpu"))
    assert gpu.total_bytes - cpu.total_bytes == pytest.approx(workspace_bytes("cuda", 1))
    assert gpu.workspace_bytes == workspace_bytes("cuda", 1)
