"""End-to-end latency of one configuration, stage by stage, with intervals."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from costmodel import program
from costmodel.capacity import Demand, with_limits
from costmodel.errors import WorkloadError
from costmodel.estimate import Estimate, total
from costmodel.memory import Memory
from costmodel.ops import Num, dtype_of
from costmodel.prediction import Latency, Prediction
from costmodel.pricing import Bound, Priced, Pricer
from costmodel.profiles import EngineProfile, HardwareProfile, datasheets
from costmodel.program import Options, Stage
from costmodel.quantity import Quantity
from costmodel.specs.images import ImageLayout
from costmodel.specs.model import ModelSpec, MoeSpec
from costmodel.specs.workload import Workload
from costmodel.units import format_bytes

__all__ = [
    "DECODE_NODES",
    "PIXEL_BYTES",
    "Forecast",
    "Latency",
    "Prediction",
    "check_options",
    "estimate",
    "legendre",
    "predict",
    "set_up",
]

# Context lengths at which a decode step is priced; exact for laws that are polynomials of degree 11 in the context.
DECODE_NODES = 6
# Three channels of a pixel in fp32, as a processor copies it to the device.
PIXEL_BYTES = 12
_BEFORE_DECODE = ("preprocess", "encode", "prefill")


@dataclass(frozen=True, slots=True)
class Forecast:
    """Estimates of one request, before they are turned into quantities with an interval.

    Attributes
    ----------
    passes
        By stage on the device, its priced forward passes: several where a prefill is cut into chunks.
    """

    pricer: Pricer
    model: ModelSpec
    workload: Workload
    options: Options
    layouts: tuple[ImageLayout, ...]
    prompt_tokens: int
    stages: dict[str, Estimate]
    passes: dict[str, tuple[Priced, ...]]
    memory: Memory
    demand: Demand

    def with_output(self, output_tokens: Num, *, errors: bool = True) -> Estimate:
        """Whole request with other output lengths, a number or an array of them: only the decode is priced again."""
        steps = np.asarray(output_tokens, dtype=float) - 1
        stage, weights = _decode(
            self.model, self.layouts, self.prompt_tokens, steps, batch=self.workload.batch, options=self.options
        )
        (priced,) = self.pricer.stages([stage], errors=errors)
        before = [self.stages[name] for name in _BEFORE_DECODE]
        return total([*before, priced.estimate.averaged(weights).scaled(steps)])

    @property
    def bound(self) -> dict[str, Bound]:
        """What each stage on the device waits for."""
        return {name: self.pricer.bound(passes) for name, passes in self.passes.items()}

    @property
    def total(self) -> Estimate:
        """The whole request."""
        return total(self.stages.values())

    def latency(self, interval: float | None) -> Latency:
        """Every stage with its interval; what a device adds from run to run is in all of them."""
        hardware = self.pricer.hardware

        def quantity(estimate: Estimate) -> Quantity:
            if interval is None:
                return Quantity.exactly(float(estimate.value_s))
            noisy = estimate.on_device(hardware.run_log_sd, hardware.device_log_sd)
            return Quantity.from_log_sd(float(noisy.value_s), float(noisy.log_sd()), interval=interval)

        stages = self.stages
        return Latency(
            preprocess_s=quantity(stages["preprocess"]),
            encode_s=quantity(stages["encode"]),
            prefill_s=quantity(stages["prefill"]),
            decode_s=quantity(stages["decode"]),
            ttft_s=quantity(total(stages[name] for name in _BEFORE_DECODE)),
            tpot_s=quantity(stages["decode"].scaled(1 / max(self.workload.output_tokens - 1, 1))),
            total_s=quantity(self.total),
        )


@cache
def legendre(nodes: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Gauss-Legendre nodes and weights on [0, 1]."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return (x + 1) / 2, w / 2


def predict(
    model: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    workload: Workload,
    *,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    quantization: str | None = None,
    num_devices: int = 1,
    chunk_tokens: int | None = None,
    expert_parallel: bool = False,
    interval: float | None = 0.9,
) -> Prediction:
    """Predict the latency of a request.

    Parameters
    ----------
    dtype
        Number format of weights and activations, see :data:`costmodel.ops.DTYPES`.
    kv_dtype
        Number format of the KV cache; as ``dtype`` where not given.
    quantization
        Scheme of the decoder layers' weights, see :data:`costmodel.program.QUANTIZATIONS`; as the checkpoint has it
        where not given.
    num_devices
        Devices that share each layer (tensor parallelism).
    chunk_tokens
        Most tokens of a request in one pass of the prefill; as the engine does it where not given.
    expert_parallel
        Whether the devices share experts out whole instead of cutting each of them.
    interval
        Probability that the intervals should hold. ``None``: values alone, in a third of the time.

    Raises
    ------
    WorkloadError
        If the workload does not fit the model (images on a text-only model, a prefix longer than the prompt), or
        the model's heads can't be shared out evenly.
    ProfileError
        If the device has no peak for the number format.
    UnknownKeyError
        If the number format or the scheme is unknown.
    """
    forecast = estimate(
        model,
        hardware,
        engine,
        workload,
        dtype=dtype,
        kv_dtype=kv_dtype,
        quantization=quantization,
        num_devices=num_devices,
        chunk_tokens=chunk_tokens,
        expert_parallel=expert_parallel,
        errors=interval is not None,
    )
    memory = forecast.memory
    if interval is not None:
        memory = with_limits(forecast.demand, hardware.datasheet, datasheets)
    if memory.would_fit is not None:
        forecast.pricer.warn(f"would fit: {memory.would_fit}")
    return Prediction(
        model=model.name,
        hardware=hardware.key,
        engine=engine.key,
        dtype=dtype,
        quantization=quantization or model.quantization,
        num_devices=num_devices,
        interval=interval,
        workload=workload,
        visual_tokens=tuple(layout.visual_tokens for layout in forecast.layouts),
        prompt_tokens_total=forecast.prompt_tokens,
        latency=forecast.latency(interval),
        memory=memory,
        bound=forecast.bound,
        sources=forecast.pricer.sources,
        warnings=tuple(forecast.pricer.warnings),
    )


def estimate(
    model: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    workload: Workload,
    *,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    quantization: str | None = None,
    num_devices: int = 1,
    chunk_tokens: int | None = None,
    expert_parallel: bool = False,
    errors: bool = True,
) -> Forecast:
    """Estimates by stage, and with ``errors`` their sources of error; parameters and errors as :func:`predict`."""
    pricer, options = set_up(
        model,
        hardware,
        engine,
        dtype=dtype,
        kv_dtype=kv_dtype,
        quantization=quantization,
        num_devices=num_devices,
        chunk_tokens=chunk_tokens,
        expert_parallel=expert_parallel,
    )
    layouts = program.image_layouts(model, workload.images, workload.videos)
    prompt = workload.prompt_tokens + sum(i.visual_tokens + i.extra_text_tokens for i in layouts)
    if workload.cached_prefix_tokens >= prompt:
        raise WorkloadError(
            f"cached_prefix_tokens is {workload.cached_prefix_tokens}, expected fewer than the prompt's {prompt}"
        )
    stages, passes = _stages(pricer, model, workload, layouts, prompt, options, errors=errors)
    demand = Demand(
        model,
        options,
        context_tokens=prompt + workload.output_tokens,
        largest_pass_tokens=min(prompt - workload.cached_prefix_tokens, options.chunk_tokens or prompt),
        patches=sum(layout.patches for layout in layouts),
        cross_tokens=program.cross_tokens(layouts, options),
        batch=workload.batch,
    )
    memory = demand.memory(hardware.datasheet)
    _check_limits(pricer, model, workload, prompt, memory)
    return Forecast(pricer, model, workload, options, layouts, prompt, stages, passes, memory, demand)


def set_up(
    model: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    *,
    dtype: str = "bf16",
    kv_dtype: str | None = None,
    quantization: str | None = None,
    num_devices: int = 1,
    chunk_tokens: int | None = None,
    expert_parallel: bool = False,
) -> tuple[Pricer, Options]:
    """What prices the requests of a model, and how its layers are run; parameters and errors as :func:`predict`."""
    dtype_of(kv_dtype or dtype)
    scheme = quantization or model.quantization
    options = _options(engine, dtype, kv_dtype or dtype, scheme, num_devices, chunk_tokens, expert_parallel)
    options = program.as_stored(options, model)
    for name in (dtype, options.linear_dtype):
        hardware.datasheet.flops_per_s(dtype_of(name).compute)
    check_options(model, options)
    # Slices were measured on one device, with weights that are not quantised.
    plain = num_devices == 1 and scheme == "none"
    fitting = plain and hardware.slices
    slices = hardware.slice_of(model.fingerprint(), engine=engine.key, dtype=dtype) if fitting else None
    return Pricer(hardware, engine, slices), options


def _options(
    engine: EngineProfile,
    dtype: str,
    kv_dtype: str,
    quantization: str,
    num_devices: int,
    chunk_tokens: int | None,
    expert_parallel: bool,
) -> Options:
    return Options(
        dtype=dtype,
        kv_dtype=kv_dtype,
        fused=engine.fused,
        quantization=quantization,
        num_devices=num_devices,
        chunk_tokens=engine.chunk_tokens if chunk_tokens is None else chunk_tokens,
        expert_parallel=expert_parallel,
        quantised_vocabulary="vocabulary" in engine.quantised,
        fused_attention_tokens={str(stage): tokens for stage, tokens in engine.fused_attention_tokens.items()},
    )


def check_options(model: ModelSpec, options: Options) -> None:
    """Refuse devices that can't share the model out evenly, and sizes that are none."""
    num_devices = options.num_devices
    for name, got in (("num_devices", num_devices), ("chunk_tokens", options.chunk_tokens)):
        if got is not None and got < 1:
            raise WorkloadError(f"{name} is {got}, expected 1 or more")
    if options.expert_parallel:
        _check_experts(model, num_devices)
    for group in model.decoder.layers:
        heads = group.attention.query_heads
        if heads % num_devices:
            raise WorkloadError(f"num_devices is {num_devices}, expected a divisor of the model's {heads} heads")


def _check_experts(model: ModelSpec, num_devices: int) -> None:
    counts = [mlp.num_experts for group in model.decoder.layers for mlp in group.mlps if isinstance(mlp, MoeSpec)]
    if num_devices == 1 or not counts or any(count % num_devices for count in counts):
        has = f"{counts[0]} experts" if counts else "no experts"
        raise WorkloadError(
            f"expert_parallel on {num_devices} device(s), expected a divisor above 1; the model has {has}"
        )


def _stages(
    pricer: Pricer,
    model: ModelSpec,
    workload: Workload,
    layouts: tuple[ImageLayout, ...],
    prompt: int,
    options: Options,
    *,
    errors: bool,
) -> tuple[dict[str, Estimate], dict[str, tuple[Priced, ...]]]:
    batch, cached = workload.batch, workload.cached_prefix_tokens
    encode = program.encode(model, layouts, batch=batch, options=options)
    cross = program.cross_tokens(layouts, options)
    chunks = program.prefill_chunks(
        model, new_tokens=prompt - cached, cached_tokens=cached, batch=batch, options=options, cross_tokens=cross
    )
    steps = workload.output_tokens - 1
    decode, weights = _decode(model, layouts, prompt, np.float64(steps), batch=batch, options=options)
    copied = sum(layout.resized_pixels for layout in layouts) * batch * PIXEL_BYTES
    host_work = program.preprocess(workload.images, layouts, workload.videos, batch=batch)
    rule = getattr(model.image_rule, "rule", "")
    preprocess = pricer.preprocess(host_work, copied, image_rule=rule, errors=errors)
    first, *middle, last = pricer.stages([encode, *chunks, decode], errors=errors)
    estimates = {
        "preprocess": preprocess,
        "encode": first.estimate,
        "prefill": total(chunk.estimate for chunk in middle),
        "decode": last.estimate.averaged(weights).scaled(steps),
    }
    return estimates, {"encode": (first,), "prefill": tuple(middle), "decode": (last,)}


def _decode(
    model: ModelSpec,
    layouts: tuple[ImageLayout, ...],
    prompt: int,
    steps: NDArray[np.float64] | np.float64,
    *,
    batch: int,
    options: Options,
) -> tuple[Stage, NDArray[np.float64]]:
    """A decode step at the nodes of every number of steps, on the last axis, and their weights."""
    nodes, weights = legendre(DECODE_NODES)
    # Step i attends to prompt + i tokens, i = 1…steps; the sum over i as an integral of the midpoint rule.
    context = prompt + 0.5 + np.asarray(steps)[..., np.newaxis] * nodes
    cross = program.cross_tokens(layouts, options)
    stage = program.decode_step(model, context_tokens=context, batch=batch, options=options, cross_tokens=cross)
    return stage, weights


def _check_limits(pricer: Pricer, model: ModelSpec, workload: Workload, prompt: int, memory: Memory) -> None:
    context, limit = prompt + workload.output_tokens, model.decoder.max_context_tokens
    if context > limit:
        pricer.warn(f"context of {context} tokens is beyond the model's {limit}")
    if not memory.fits:
        needs, has = format_bytes(memory.total_bytes), format_bytes(memory.capacity_bytes)
        pricer.warn(f"does not fit: needs {needs} of the device's {has}, {format_bytes(memory.missing_bytes)} too much")
    if workload.videos:
        pricer.warn("videos: decoding and sampling frames is not in preprocess; a video costs the host as an image")
    if workload.cached_prefix_tokens and not pricer.engine.prefix_cache:
        pricer.warn(f"{pricer.engine.key} can't keep a prefix between requests")
    if workload.cached_prefix_tokens and (workload.images or workload.videos):
        pricer.warn("images are encoded in full: an encoder cache is not modelled")
