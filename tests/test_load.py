"""Load: the steady state against a simulation event by event, its limits, and the prediction and command around it."""

from __future__ import annotations

import json
import subprocess
import sys

import made_profiles as made
import numpy as np
import pytest
from engine_simulation import World, simulate
from hypothesis import given
from hypothesis import strategies as st

from costmodel import program
from costmodel.closed_loop import Policy, RequestCosts, Server, Steady, steady_state
from costmodel.errors import ProfileError, WorkloadError
from costmodel.estimate import Estimate
from costmodel.load import Load, predict_load
from costmodel.predict import predict
from costmodel.profiles import load_engine, load_hardware
from costmodel.program import Options
from costmodel.specs.workload import Workload

UNBOUNDED = 10**6
POLICIES: tuple[Policy, ...] = ("serial", "prefill-first", "mixed")
WORLDS = {
    "chat": World(0.0, 0.0, 100, 50),
    "picture": World(0.05, 0.02, 600, 100),
    "long prompt": World(0.0, 0.02, 1000, 50),
    "busy host": World(0.3, 0.05, 600, 60),
    "short answers": World(0.0, 0.0, 1000, 8),
    "first token only": World(0.0, 0.0, 300, 1),
}


def sure(seconds: float) -> Estimate:
    return Estimate(np.float64(seconds), {"law": np.float64(0.1 * seconds)})


def costs_of(world: World, chunk: int = UNBOUNDED) -> RequestCosts:
    middle = world.prompt_tokens + world.output_tokens / 2
    return RequestCosts(
        host=sure(world.host_s),
        encode=sure(world.encode_s),
        prefill=sure(world.prefill_s(chunk)),
        step=lambda running: sure(world.step_s([middle] * running)),
        mixed=lambda tokens, running: sure(
            world.mixed_s(tokens, max(world.prompt_tokens - tokens, 0.0) / 2, [middle] * running)
        ),
        prompt_tokens=world.prompt_tokens,
        output_tokens=world.output_tokens,
    )


def times(steady: Steady) -> tuple[float, float]:
    """Time to first token, and of the whole request."""
    ttft_s = float(steady.host.value_s) + float(steady.engine.first.value_s)
    return ttft_s, ttft_s + float(steady.engine.rest.value_s)


@pytest.mark.parametrize("clients", [1, 2, 4, 16, 40])
@pytest.mark.parametrize("name", sorted(WORLDS))
@pytest.mark.parametrize(("policy", "chunk"), [("prefill-first", UNBOUNDED), ("mixed", UNBOUNDED), ("mixed", 256)])
def test_the_steady_state_is_that_of_a_simulation(policy: Policy, chunk: int, name: str, clients: int) -> None:
    world = WORLDS[name]
    truth = simulate(world, policy=policy, slots=32, chunk=chunk, clients=clients)
    ttft_s, total_s = times(steady_state(costs_of(world, chunk), Server(policy, 32, chunk), clients))
    assert total_s == pytest.approx(truth.total_s, rel=0.06)
    assert clients / total_s == pytest.approx(truth.requests_per_s, rel=0.06)
    # Who waits for whom at the first token is a mean over chances; a queue of prompts in pieces is the hardest.
    assert ttft_s == pytest.approx(truth.ttft_s, rel=0.18 if chunk == 256 and world.output_tokens < 10 else 0.10)


worlds = st.builds(
    World,
    host_s=st.sampled_from([0.0, 0.01, 0.2]),
    encode_s=st.sampled_from([0.0, 0.02]),
    prompt_tokens=st.integers(1, 3000),
    output_tokens=st.integers(1, 300),
)


@given(worlds, st.sampled_from(POLICIES), st.integers(1, 40), st.sampled_from([128, 2048]))
def test_limits(world: World, policy: Policy, slots: int, chunk: int) -> None:
    server, costs = Server(policy, slots, chunk), costs_of(world, chunk)
    alone = sum(float(part.value_s) for part in (costs.host, costs.encode, costs.prefill))
    ttft_s, total_s = times(steady_state(costs, server, 1))
    assert ttft_s == pytest.approx(alone)
    assert total_s == pytest.approx(alone + (world.output_tokens - 1) * float(costs.step(1).value_s))
    before_s, rate = total_s, 1 / total_s
    for clients in (2, 3, 5, 9, 17, 60, 500):
        steady = steady_state(costs, server, clients)
        ttft_s, total_s = times(steady)
        assert 0 < ttft_s <= total_s * (1 + 1e-9)
        assert total_s >= before_s * (1 - 1e-6), "more clients make nobody faster"
        # A host lets no more through than one after the other, an engine no more than its slots hold.
        assert clients * world.host_s <= total_s * (1 + 1e-6)
        assert clients / total_s <= clients * rate * (1 + 1e-6)
        spread = steady.engine.rest.log_sd() if world.output_tokens > 1 else 0.0
        assert float(spread) <= 0.1 + 1e-9, "errors that all costs share stay as they are"
        before_s = total_s


def test_throughput_saturates() -> None:
    for policy in POLICIES:
        server, costs = Server(policy, 8, 2048), costs_of(WORLDS["chat"])
        rates = [clients / times(steady_state(costs, server, clients))[1] for clients in (1, 4, 8, 64, 4096)]
        assert rates[-1] == pytest.approx(rates[-2], rel=0.02)
        if policy == "serial":
            assert rates[-1] == pytest.approx(rates[0])
        else:
            assert rates[0] < rates[1] < rates[2] < rates[-1] * 1.02


def loaded(engine: str = "vllm-0.7.2", concurrency: tuple[int, ...] = (1, 4, 64), **changes: object) -> Load:
    options: dict[str, object] = {"concurrency": concurrency, **changes}
    return predict_load(
        made.preset(made.SMALL),
        load_hardware("h100-sxm"),
        load_engine(engine),
        made.request(),
        **options,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("engine", ["vllm-0.7.2", "llama.cpp", "hf-eager"])
def test_one_client_is_the_prediction(engine: str) -> None:
    point = loaded(engine).points[0]
    latency = predict(made.preset(made.SMALL), load_hardware("h100-sxm"), load_engine(engine), made.request()).latency
    for name in ("ttft_s", "tpot_s", "total_s"):
        got, expected = getattr(point, name), getattr(latency, name)
        assert (got.value, got.low, got.high) == pytest.approx((expected.value, expected.low, expected.high), rel=1e-6)
    assert point.requests_per_s.value == pytest.approx(1 / latency.total_s.value)
    assert point.limit in ("clients", "slots")


def test_a_busy_host_limits_and_is_named() -> None:
    last = loaded(concurrency=(400,)).points[0]
    assert last.limit == "host"
    alone = loaded().points[0]
    assert last.requests_per_s.value == pytest.approx(1 / alone.host_s.value, rel=0.02)
    assert last.requests_per_s.low < last.requests_per_s.value < last.requests_per_s.high


def test_memory_and_slots_limit() -> None:
    text = Workload(prompt_tokens=30_000, output_tokens=100)
    full = predict_load(made.text_only(), load_hardware("h100-sxm"), load_engine("vllm-0.7.2"), text, concurrency=[200])
    assert full.points[0].limit == "memory"
    assert 1 < full.slots < 40
    few = loaded(concurrency=(9,), slots=1).points[0]
    assert few.limit in ("slots", "host")


def test_engines_that_do_not_say_how_are_refused() -> None:
    engine = load_engine("vllm-0.7.2").model_copy(update={"scheduling": None})
    with pytest.raises(ProfileError, match="expected scheduling"):
        predict_load(made.preset(made.SMALL), load_hardware("h100-sxm"), engine, made.request(), concurrency=[2])


@pytest.mark.parametrize("bad", [{"concurrency": ()}, {"concurrency": (0,)}, {"slots": -1}, {"pass_tokens": -2}])
def test_numbers_below_one_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(WorkloadError, match="expected 1 or more"):
        loaded(**bad)  # type: ignore[arg-type]


def test_a_batch_is_no_load() -> None:
    with pytest.raises(WorkloadError, match="one by one"):
        predict_load(
            made.preset(made.SMALL),
            load_hardware("h100-sxm"),
            load_engine("vllm-0.7.2"),
            made.request(batch=4),
            concurrency=[2],
        )


@pytest.mark.parametrize(
    "name", [made.SMALL, "Qwen/Qwen3-30B-A3B", "moonshotai/Kimi-VL-A3B-Instruct", "Qwen/Qwen3.5-9B"]
)
def test_a_mixed_pass_does_the_work_of_both(name: str) -> None:
    """Products with weights add up; weights are read once, not twice."""
    model, options = made.preset(name), Options("bf16", "bf16", fused=True)
    read = program.prefill(model, new_tokens=300.0, cached_tokens=0.0, batch=1, options=options)
    step = program.decode_step(model, context_tokens=700.0, batch=5, options=options)
    both = program.mixed_step(
        model, new_tokens=300.0, cached_tokens=0.0, running=5, context_tokens=700.0, options=options
    )
    assert float(both.flops()) == pytest.approx(float(read.flops()) + float(step.flops()), rel=0.01)
    assert float(both.bytes()) < float(read.bytes()) + float(step.bytes())
    assert float(both.bytes()) > float(read.bytes())
    assert both.launches() < read.launches() + step.launches()


def command(*words: str) -> subprocess.CompletedProcess[str]:
    code = "from costmodel.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, timeout=60, check=False)


def test_the_command_prints_what_the_function_returns() -> None:
    words = ["load", "--model", made.SMALL, "--hardware", "h100-sxm", "--engine", "vllm-0.7.2", "--image", "1024x768"]
    words += ["--prompt-tokens", "64", "--output-tokens", "47", "--concurrency", "1,4", "--concurrency", "64"]
    done = command(*words, "--format", "json")
    assert Load.model_validate(json.loads(done.stdout)) == loaded()
    wrong = command(*words, "--concurrency", "many")
    assert wrong.returncode == 2
    assert "expected whole numbers" in wrong.stderr


def test_the_figure_shows_every_number_of_clients() -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra: plot)")
    from costmodel.plots import load_figure

    figure = load_figure(loaded())
    assert [list(trace.text) for trace in figure.data] == [["1", "4", "64"]] * 3
