"""``costmodel policy``: which policy of a small and a large model to deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.options import DType, Engine, Hardware, Interval, Output, complete_model
from costmodel.progress import progress_bar
from costmodel.render import Format, emit, note

if TYPE_CHECKING:
    from costmodel.policy.plan import Plan
    from costmodel.policy.results import PolicyChoice

__all__ = ["policy"]


def policy(
    small: Annotated[str, typer.Option(help="The small model, as for predict --model.", autocompletion=complete_model)],
    large: Annotated[str, typer.Option(help="The large model.", autocompletion=complete_model)],
    traces: Annotated[Path, typer.Option(help="Recorded answers of both (JSON Lines).")],
    hardware: Hardware,
    engine: Engine,
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
    price_per_hour: Annotated[float | None, typer.Option(help="Of one device, for the cost of an answer.")] = None,
    dtype: DType = "bf16",
    interval: Interval = 0.9,
    seed: Annotated[int, typer.Option(help="Of the bootstrap.")] = 0,
    sensitivity: Annotated[bool, typer.Option(help="Look for what makes the choice flip.")] = True,
    plot: Annotated[Path | None, typer.Option(help="Write the Pareto front to this .html, .png, .svg or .pdf.")] = None,
    output: Output = Format.TABLE,
) -> None:
    """Choose between policies of a small and a large model, from answers that were recorded once.

    Exit status 1: no policy reaches the goal.

    Example: costmodel policy --small Qwen/Qwen3-VL-2B-Instruct --large Qwen/Qwen3-VL-8B-Instruct
    --traces traces.jsonl --hardware h100-sxm --engine vllm-0.7.2 --budget-s 2
    """
    from costmodel import load_engine, load_hardware, load_model
    from costmodel.policy.choose import choose_policy
    from costmodel.policy.goals import Goal
    from costmodel.policy.latency import Deployment
    from costmodel.policy.traces import TraceSet, read_traces

    goal = Goal(budget_s=budget_s, min_accuracy=min_accuracy, percentile=percentile)
    deployment = Deployment(devices=devices, reuse_prefix=reuse_prefix)
    small_spec, large_spec = load_model(small), load_model(large)
    with progress_bar("replaying"):
        recorded = TraceSet.of(
            read_traces(traces),
            small=small_name or small_spec.name,
            large=large_name or large_spec.name,
            common_items=common_items,
        )
        result = choose_policy(
            small_spec,
            large_spec,
            recorded,
            load_hardware(hardware),
            load_engine(engine),
            goal=goal,
            plans=_plans(candidate),
            deployment=deployment,
            dtype=dtype,
            interval=interval,
            price_per_hour=price_per_hour,
            with_sensitivity=sensitivity,
            seed=seed,
        )
    _show(result, output, plot)


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
