"""``costmodel run``: a policy of a small and a large model on real engines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from costmodel.errors import InputError
from costmodel.render import Format, emit, note

__all__ = ["run"]


def run(
    policy: Annotated[str, typer.Option(help="Name, JSON file of a plan, or record: all requests, for traces.")],
    small: Annotated[str, typer.Option(help="Address of a server, or local:FOLDER of a saved model.")],
    large: Annotated[str, typer.Option(help="The same for the large model.")],
    items: Annotated[Path, typer.Option(help="Questions (JSON Lines): item_id question answer images.")],
    out: Annotated[Path, typer.Option(help="Traces to write; beside it a journal, which is resumed.")],
    small_model: Annotated[str, typer.Option(help="The small model, as for predict --model; local: its folder.")] = "",
    large_model: Annotated[str, typer.Option(help="The large model.")] = "",
    small_served: Annotated[str, typer.Option(help="What the server calls the small model (its first one).")] = "",
    large_served: Annotated[str, typer.Option(help="What the server calls the large model.")] = "",
    prompts: Annotated[Path | None, typer.Option(help="Templates and caps (JSON) instead of the common ones.")] = None,
    matcher: Annotated[str, typer.Option(help="Compares answers with the reference.")] = "auto",
    transfer: Annotated[
        list[str] | None, typer.Option(help="record: SELECTOR:SHARE to hand over; repeatable (all:1).")
    ] = None,
    samples: Annotated[int, typer.Option(help="record: reasoned answers of the small model.")] = 1,
    concurrency: Annotated[int, typer.Option(help="Items in flight at once.")] = 1,
    hardware: Annotated[str | None, typer.Option(help="Compare with predictions for this device.")] = None,
    engine: Annotated[str, typer.Option(help="Engine of the predictions.")] = "hf-eager",
    device: Annotated[str, typer.Option(help="Local models: auto, cpu, cuda or cuda:N.")] = "auto",
    dtype: Annotated[str | None, typer.Option(help="Number format (local, CPU: fp32; else bf16).")] = None,
    threads: Annotated[int, typer.Option(help="Local models: CPU threads.")] = 1,
    dialect: Annotated[str, typer.Option(help="auto, openai, vllm, sglang, llama.cpp or transformers.")] = "auto",
    api_key_env: Annotated[str, typer.Option(help="Variable that holds the key.")] = "OPENAI_API_KEY",
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Follow a policy on every item; write the answers as traces for ``costmodel policy``.

    Killed at any moment it keeps every finished item: run the same command again to go on. Exit status 1: an item has
    no answer.

    Example: costmodel run --policy mutual-verification --items items.jsonl --out traces.jsonl
    --small http://127.0.0.1:8001/v1 --small-model Qwen/Qwen3-VL-2B-Instruct
    --large http://127.0.0.1:8002/v1 --large-model Qwen/Qwen3-VL-8B-Instruct
    """
    from calibrate.policies.session import Session, SideOptions, plan_from, prompts_from
    from costmodel.progress import progress_bar

    session = Session(
        plan=plan_from(policy, transfers=transfer or (), samples=samples),
        small=SideOptions(small, small_model, small_served),
        large=SideOptions(large, large_model, large_served),
        items=items,
        out=out,
        prompts=prompts_from(prompts),
        matcher=matcher,
        concurrency=concurrency,
        device=device,
        threads=threads,
        dtype=dtype,
        dialect=dialect,
        api_key_env=api_key_env,
        hardware=hardware,
        engine=engine,
    )
    from calibrate.policies.summary import run_tables

    with progress_bar("asking") as progress:
        result = session.run(progress)
    if result is None:
        raise InputError("no item has an answer")
    emit(run_tables(result), result.model_dump_json(indent=1), output)
    note(f"traces: {out}")
    if result.failed:
        raise typer.Exit(1)
