"""``costmodel traces``: recorded answers from the logs of evaluation toolkits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from costmodel.errors import TraceError, UnknownKeyError
from costmodel.render import Format, Table, emit, note

__all__ = ["app"]

app = typer.Typer(
    help="Recorded answers: import them from the logs of evaluation toolkits, check them.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("import")
def import_(
    logs: Annotated[list[Path], typer.Argument(help="Log files of one model, asked in one way.")],
    toolkit: Annotated[str, typer.Option("--from", help="lmms-eval or vlmevalkit.")],
    model: Annotated[str, typer.Option(help="Name of the model in the traces.")],
    mode: Annotated[str, typer.Option(help="How it was asked: short, reason or transfer.")],
    out: Annotated[Path, typer.Option(help="Traces to write; an existing file is added to.")],
    image: Annotated[list[str] | None, typer.Option(help="WIDTHxHEIGHT of every item's images; repeatable.")] = None,
    image_sizes: Annotated[Path | None, typer.Option(help="CSV of item_id and images, where sizes differ.")] = None,
    text_only: Annotated[bool, typer.Option(help="The items have no images.")] = False,
    tokenizer: Annotated[Path | None, typer.Option(help="The model's tokenizer.json, for missing counts.")] = None,
    prompt_tokens: Annotated[int | None, typer.Option(help="Of every prompt, instead of counting.")] = None,
    metric: Annotated[str | None, typer.Option(help="Field of the log that says what is correct.")] = None,
    matcher: Annotated[str, typer.Option(help="Compares with the reference where there is no metric.")] = "auto",
    task: Annotated[str, typer.Option(help="Goes before the item names; must be the same for both models.")] = "",
    sample: Annotated[int, typer.Option(help="Which of several answers to the same requests.")] = 0,
) -> None:
    """Turn the logs of one model into traces, and add them to a file.

    Example: costmodel traces import --from lmms-eval --model Qwen/Qwen3-VL-2B-Instruct --mode reason --image 1024x768
    --tokenizer tokenizer.json --out traces.jsonl logs/20250101_samples_mmmu_val.jsonl
    """
    from costmodel.policy.importers import READERS, LogOptions, import_logs, tokenizer_counter
    from costmodel.policy.importers.common import read_image_sizes
    from costmodel.policy.traces import read_traces, write_traces
    from costmodel.specs.images import ImageSize

    for kind, got, known in (("toolkit", toolkit, READERS), ("mode", mode, ("short", "reason", "transfer"))):
        if got not in known:
            raise UnknownKeyError(kind, got, known)
    if sum((bool(image), image_sizes is not None, text_only)) != 1:
        raise TraceError("the logs have no image sizes: give one of --image, --image-sizes and --text-only")
    options = LogOptions(
        model=model,
        mode=cast(Literal["short", "reason", "transfer"], mode),
        count=tokenizer_counter(tokenizer) if tokenizer else None,
        prompt_tokens=prompt_tokens,
        images=read_image_sizes(image_sizes) if image_sizes else tuple(ImageSize.parse(text) for text in image or ()),
        matcher=matcher,
        sample=sample,
        metric=metric,
        task=task,
    )
    found = import_logs(READERS[toolkit], logs, options)
    known_traces = read_traces(out) if out.exists() else ()
    write_traces(out, (*known_traces, *found))
    right = sum(trace.correct for trace in found)
    note(f"traces: {out}: {len(found)} added, {right / len(found):.1%} correct")


@app.command()
def check(
    traces: Annotated[Path, typer.Argument(help="Recorded answers (JSON Lines).")],
    small: Annotated[str, typer.Option(help="Name of the small model in the traces.")],
    large: Annotated[str, typer.Option(help="Name of the large model in the traces.")],
    output: Annotated[Format, typer.Option("--format", help="How to print the result.")] = Format.TABLE,
) -> None:
    """Say whether traces fit together, and which policies they cover.

    Example: costmodel traces check traces.jsonl --small Qwen/Qwen3-VL-2B-Instruct --large Qwen/Qwen3-VL-8B-Instruct
    """
    from costmodel.policy.choose import default_plans
    from costmodel.policy.replay import missing_traces
    from costmodel.policy.traces import TraceSet, read_traces

    recorded = TraceSet.of(read_traces(traces), small=small, large=large)
    asked = Table(
        title=f"{len(recorded)} items",
        columns=("asked", "accuracy", "output tokens"),
        rows=tuple(
            (str(key), f"{column.correct.mean():.1%}", f"{column.output_tokens.mean():.1f}")
            for key, column in recorded.columns.items()
        ),
    )
    reasons = [(plan.name, missing_traces(plan, recorded)) for plan in default_plans(recorded)]
    covered = Table(
        title="policies",
        columns=("policy", "covered"),
        rows=tuple((name, "yes" if reason is None else reason) for name, reason in reasons),
    )
    content = {
        "items": len(recorded),
        "asked": {str(key): float(column.correct.mean()) for key, column in recorded.columns.items()},
        "policies": dict(reasons),
    }
    emit([asked] if output is Format.CSV else [asked, covered], json.dumps(content, indent=1), output)
