"""Latency and throughput of a server that a fixed number of clients keep busy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

from costmodel.closed_loop import Policy, RequestCosts, Server, Steady, steady_state
from costmodel.errors import ProfileError, WorkloadError
from costmodel.estimate import Estimate, total
from costmodel.memory import Memory
from costmodel.predict import Forecast, estimate
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.program import Options, cross_tokens, decode_step, mixed_step
from costmodel.quantity import Quantity
from costmodel.specs.base import Frozen
from costmodel.specs.model import ModelSpec
from costmodel.specs.workload import Workload

__all__ = ["Load", "LoadPoint", "predict_load"]

Limit = Literal["clients", "slots", "memory", "host"]

_HOST_BUSY = 0.95


class LoadPoint(Frozen):
    """Mean times of a request beside those of the other clients.

    Attributes
    ----------
    running
        Requests in the engine, as one of them finds it, itself included.
    host_s
        Preprocessing, and waiting for it; part of ``ttft_s``.
    limit
        What more clients would wait for: nothing yet (``clients``), slots, memory for their caches, or the host.
    """

    concurrency: int
    running: float
    host_s: Quantity
    ttft_s: Quantity
    tpot_s: Quantity
    total_s: Quantity
    requests_per_s: Quantity
    output_tokens_per_s: Quantity
    limit: Limit


class Load(Frozen):
    """What ``costmodel load --format json`` prints."""

    schema_version: int = 1
    model: str
    hardware: str
    engine: str
    dtype: str
    quantization: str = "none"
    num_devices: int = 1
    interval: float
    workload: Workload
    prompt_tokens_total: int
    policy: Policy
    slots: int
    pass_tokens: int
    points: tuple[LoadPoint, ...]
    sources: dict[str, str]
    warnings: tuple[str, ...]


def predict_load(
    model: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    workload: Workload,
    *,
    concurrency: Sequence[int],
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    quantization: str = "none",
    num_devices: int = 1,
    slots: int | None = None,
    pass_tokens: int | None = None,
    interval: float = 0.9,
) -> Load:
    """Predict the steady state of a closed loop (equations 60 to 64).

    Parameters
    ----------
    workload
        What every client asks for, again and again; ``output_tokens`` is a mean, for answers of equal length would
        end together.
    concurrency
        Numbers of clients. At 1 the times are those of :func:`~costmodel.predict.predict`.
    slots, pass_tokens
        In the place of the engine's, see :class:`~costmodel.profiles.Scheduling`.

    Raises
    ------
    ProfileError
        If the profile does not say how the engine schedules.
    WorkloadError
        If a number of clients is below 1, or the workload is a batch itself.
    """
    for name, values in (("concurrency", concurrency), ("slots", (slots or 1,)), ("pass_tokens", (pass_tokens or 1,))):
        if not values or min(values) < 1:
            raise WorkloadError(f"{name} is {min(values, default='empty')}, expected 1 or more")
    if workload.batch != 1:
        raise WorkloadError(f"batch is {workload.batch}: under load requests come one by one; expected 1")
    if engine.scheduling is None:
        raise ProfileError(f"engine {engine.key} does not say how it serves several requests; expected scheduling")
    chosen = engine.scheduling
    server = Server(chosen.policy, slots or chosen.slots, pass_tokens or chosen.pass_tokens)
    alone = estimate(
        model,
        hardware,
        engine,
        workload,
        dtype=dtype,
        kv_dtype=kv_dtype,
        quantization=quantization,
        num_devices=num_devices,
        chunk_tokens=server.chunk_tokens if server.policy == "mixed" else None,
    )
    asked = _Asked(model, workload, Options(dtype, kv_dtype or dtype, engine.fused, quantization, num_devices), alone)
    held = _held(alone.memory)
    server = replace(server, slots=max(min(server.slots, held), 1))
    points = tuple(_point(asked, server, clients, held, interval) for clients in concurrency)
    return Load(
        model=model.name,
        hardware=hardware.key,
        engine=engine.key,
        dtype=dtype,
        quantization=quantization,
        num_devices=num_devices,
        interval=interval,
        workload=workload,
        prompt_tokens_total=alone.prompt_tokens,
        policy=server.policy,
        slots=server.slots,
        pass_tokens=server.chunk_tokens,
        points=points,
        sources=alone.pricer.sources,
        warnings=tuple(alone.pricer.warnings),
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request by itself, and what it takes to price it beside others."""

    model: ModelSpec
    workload: Workload
    options: Options
    alone: Forecast

    def costs(self) -> RequestCosts:
        stages, steps = self.alone.stages, max(self.workload.output_tokens - 1, 1)
        single = stages["decode"].scaled(1 / steps)
        return RequestCosts(
            host=stages["preprocess"],
            encode=stages["encode"],
            prefill=stages["prefill"],
            step=cache(lambda running: single if running == 1 else self._step(running)),
            mixed=cache(self._mixed),
            prompt_tokens=self.alone.prompt_tokens - self.workload.cached_prefix_tokens,
            output_tokens=self.workload.output_tokens,
        )

    @property
    def _mean_context(self) -> float:
        """Of a request between its first token and its last."""
        return self.alone.prompt_tokens + self.workload.output_tokens / 2

    @property
    def _cross_tokens(self) -> int:
        return cross_tokens(self.alone.layouts, self.options)

    def _step(self, running: int) -> Estimate:
        stage = decode_step(
            self.model,
            context_tokens=self._mean_context,
            batch=running,
            options=self.options,
            cross_tokens=self._cross_tokens,
        )
        return self.alone.pricer.stage(stage)

    def _mixed(self, tokens: float, running: int) -> Estimate:
        """A piece at its mean place in the prompt."""
        cached = self.workload.cached_prefix_tokens
        rest = self.alone.prompt_tokens - cached - tokens
        stage = mixed_step(
            self.model,
            new_tokens=tokens,
            cached_tokens=cached + max(rest, 0.0) / 2,
            running=running,
            context_tokens=self._mean_context,
            options=self.options,
            cross_tokens=self._cross_tokens,
        )
        return self.alone.pricer.stage(stage)


def _held(memory: Memory) -> int:
    """Requests whose caches fit beside the weights; prompts are read one at a time, so activations count once."""
    free = memory.capacity_bytes - memory.weights_bytes - memory.activations_bytes
    return max(int(free // max(memory.kv_cache_bytes, 1.0)), 0)


def _point(asked: _Asked, server: Server, clients: int, held: int, interval: float) -> LoadPoint:
    steady = steady_state(asked.costs(), server, clients)
    first = total((steady.host, steady.engine.first))
    whole = total((first, steady.engine.rest))
    tokens = asked.workload.output_tokens
    hardware = asked.alone.pricer.hardware

    def quantity(value: Estimate) -> Quantity:
        noisy = value.on_device(hardware.run_log_sd, hardware.device_log_sd)
        return Quantity.from_log_sd(float(noisy.value_s), float(noisy.log_sd()), interval=interval)

    def rate(amount: float) -> Quantity:
        time = quantity(whole)
        return Quantity(value=amount / time.value, low=amount / time.high, high=amount / time.low)

    return LoadPoint(
        concurrency=clients,
        running=steady.in_engine,
        host_s=quantity(steady.host),
        ttft_s=quantity(first),
        tpot_s=quantity(steady.engine.rest.scaled(1 / max(tokens - 1, 1))),
        total_s=quantity(whole),
        requests_per_s=rate(float(clients)),
        output_tokens_per_s=rate(float(clients * tokens)),
        limit=_limit(steady, server, held),
    )


def _limit(steady: Steady, server: Server, held: int) -> Limit:
    if server.policy == "serial" or steady.in_engine > server.slots:
        return "memory" if server.slots == held else "slots"
    return "host" if steady.host_share > _HOST_BUSY else "clients"
