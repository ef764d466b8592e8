"""``costmodel policy``: which policy of a small and a large model to deploy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.render import Format, emit, note

if TYPE_CHECKING:
    from costmodel.policy.plan import Plan
    from costmodel.policy.results import PolicyChoice
    from costmodel.policy.serving import Serving

__all__ = ["policy"]

_BOTH = "both models"


def policy(
    context: typer.Context,
    small: Annotated[str, typer.Option(help="The small model, as for predict --model.")],
    large: Annotated[str, typer.Option(help="The large model.")],
    traces: Annotated[Path, typer.Option(help="Recorded answers of both (JSON Lines).")],
    hardware: Annotated[str | None, typer.Option(help="Device of both: a key, or path of a profile.")] = None,
    engine: Annotated[str | None, typer.Option(help="Engine of both: a key, or path of a profile.")] = None,
    budget_s: Annotated[float | None, typer.Option(help="Most latency: the most accurate within it.")] = None,
    min_accuracy: Annotated[float | None, typer.Option(help="Least accuracy, 0 to 1: the fastest above it.")] = None,
    percentile: Annotated[float, typer.Option(help="Of latency over items.")] = 95.0,
    candidate: Annotated[
        list[str] | None, typer.Option("--policy", help="Name, or JSON file of a plan; repeatable. All if not given.")
    ] = None,
    devices: Annotated[int, typer.Option(help="1: both models share one device. 2: one each.")] = 1,
    reuse_prefix: Annotated[bool, typer.Option(help="A model's second request finds the prompt in its cache.")] = False,
    small_name: Annotated[str | None, typer.Option(help="The small model's name in the traces, if another.")] = None,
    large_name: Annotated[str | None, typer.Option(help="The large model's name in the traces.")] = None,
    common_items: Annotated[bool, typer.Option(help="Leave out items that lack an answer.")] = False,
    dtype: Annotated[str, typer.Option(help="Number format: bf16, fp16 or fp32.")] = "bf16",
    quantization: Annotated[str, typer.Option(help=f"As for predict; {_BOTH}.")] = "none",
    kv_dtype: Annotated[str | None, typer.Option(help=f"Number format of the KV cache; {_BOTH}.")] = None,
    tp: Annotated[int, typer.Option(help=f"Devices a model is spread over; {_BOTH}.")] = 1,
    price_per_hour: Annotated[float | None, typer.Option(help="Of one device, for the cost of an answer.")] = None,
    small_hardware: Annotated[str | None, typer.Option(help="Device of the small model, if another.")] = None,
    large_hardware: Annotated[str | None, typer.Option(help="Device of the large model.")] = None,
    small_engine: Annotated[str | None, typer.Option(help="Engine of the small model, if another.")] = None,
    large_engine: Annotated[str | None, typer.Option(help="Engine of the large model.")] = None,
    small_quantization: Annotated[str | None, typer.Option(help="Of the small model, if another.")] = None,
    large_quantization: Annotated[str | None, typer.Option(help="Of the large model.")] = None,
    small_tp: Annotated[int | None, typer.Option(help="Of the small model, if another.")] = None,
    large_tp: Annotated[int | None, typer.Option(help="Of the large model.")] = None,
    small_price: Annotated[float | None, typer.Option(help="Per hour of a device of the small model.")] = None,
    large_price: Annotated[float | None, typer.Option(help="Per hour of a device of the large model.")] = None,
    interval: Annotated[float, typer.Option(help="Probability that the intervals hold.")] = 0.9,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    sensitivity: Annotated[bool, typer.Option(help="Look for what makes the choice flip.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Write the Pareto front to this .html, .png, .svg or .pdf.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Choose between policies of a small and a large model, from answers that were recorded once.

    Exit status 1: no policy reaches the goal.

    Example: costmodel policy --small Qwen/Qwen3-VL-2B-Instruct --large Qwen/Qwen3-VL-8B-Instruct
    --traces traces.jsonl --hardware h100-sxm --engine vllm-0.7.2 --budget-s 2
    """
    _choose(SimpleNamespace(**context.params))


def _choose(given: SimpleNamespace) -> None:
    """Load what the options name, choose, show."""
    from costmodel import load_engine, load_hardware, load_model
    from costmodel.policy.choose import choose_policy
    from costmodel.policy.goals import Goal
    from costmodel.policy.latency import Deployment
    from costmodel.policy.traces import TraceSet, read_traces

    goal = Goal(budget_s=given.budget_s, min_accuracy=given.min_accuracy, percentile=given.percentile)
    deployment = Deployment(devices=given.devices, reuse_prefix=given.reuse_prefix)
    small, large = load_model(given.small), load_model(given.large)
    hardware = load_hardware(_needed("hardware", given.hardware, given.small_hardware, given.large_hardware))
    engine = load_engine(_needed("engine", given.engine, given.small_engine, given.large_engine))
    recorded = TraceSet.of(
        read_traces(given.traces),
        small=given.small_name or small.name,
        large=given.large_name or large.name,
        common_items=given.common_items,
    )
    result = choose_policy(
        small,
        large,
        recorded,
        hardware,
        engine,
        goal=goal,
        plans=_plans(given.candidate),
        deployment=deployment,
        serving={"small": _serving(given, "small"), "large": _serving(given, "large")},
        dtype=given.dtype,
        interval=given.interval,
        price_per_hour=given.price_per_hour,
        with_sensitivity=given.sensitivity,
        seed=given.seed,
    )
    _show(result, given.output, given.plot)


def _needed(what: str, common: str | None, small: str | None, large: str | None) -> str:
    """The one for both models, or that of either where each has its own."""
    from costmodel.errors import PolicyError

    if common is None and (small is None or large is None):
        raise PolicyError(f"no {what} is given: expected --{what}, or --small-{what} and --large-{what}")
    return common or small or ""


def _serving(given: SimpleNamespace, role: str) -> Serving:
    """What one model has of its own, and the number formats of both."""
    from costmodel import load_engine, load_hardware
    from costmodel.policy.serving import Serving

    own = {name: getattr(given, f"{role}_{name}") for name in ("hardware", "engine", "quantization", "tp", "price")}
    return Serving(
        hardware=None if own["hardware"] is None else load_hardware(own["hardware"]),
        engine=None if own["engine"] is None else load_engine(own["engine"]),
        quantization=own["quantization"] or given.quantization,
        kv_dtype=given.kv_dtype,
        num_devices=given.tp if own["tp"] is None else own["tp"],
        price_per_hour=own["price"],
    )


def _show(result: PolicyChoice, output: Format, plot: Path | None) -> None:
    """Result on standard output, doubts on standard error; status 1 where a goal is not reached."""
    from costmodel.policy.tables import policy_tables

    if plot is not None:
        from costmodel.plots import pareto_figure, write_figure

        write_figure(plot, pareto_figure(result))
        note(f"figure: {plot}")
    tables = policy_tables(result)
    emit(tables[:1] if output is Format.CSV else tables, result.model_dump_json(indent=1), output)
    for warning in result.warnings:
        note(f"warning: {warning}")
    if result.chosen is None and (result.goal.budget_s is not None or result.goal.min_accuracy is not None):
        note(f"no policy reaches the goal; the fastest is {result.pareto[0]}, the most accurate {result.pareto[-1]}")
        raise typer.Exit(1)


def _plans(candidates: list[str] | None) -> list[Plan] | None:
    from costmodel.documents import read_document
    from costmodel.files import existing_file
    from costmodel.policy.catalog import plan_named
    from costmodel.policy.plan import Plan

    if not candidates:
        return None
    return [
        read_document(path, Plan) if (path := existing_file(Path(text))) else plan_named(text) for text in candidates
    ]
