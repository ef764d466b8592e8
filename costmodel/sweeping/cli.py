"""``costmodel sweep``: every combination of lists and ranges of options, to a file, a shard at a time if wanted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from costmodel.errors import InputError, WorkloadError
from costmodel.progress import progress_bar
from costmodel.render import Format, Table, emit, note

if TYPE_CHECKING:
    from costmodel.sweeping.plan import Job

__all__ = ["app"]

app = typer.Typer(help="Predict every combination of lists and ranges of options.", rich_markup_mode=None)

# More rows than anybody reads on a terminal.
_MOST_PRINTED = 100_000

Texts = list[str] | None
_LIST = "A,B or repeated."
_RANGE = "N, A,B, FIRST:LAST:STEP, FIRST:LAST:x2 or FIRST:LAST:log9."


@app.callback(invoke_without_command=True)
def sweep(
    context: typer.Context,
    model: Annotated[Texts, typer.Option(help=f"Preset name, folder, config.json or spec file. {_LIST}")] = None,
    hardware: Annotated[Texts, typer.Option(help=f"Key of a device, or path of its profile. {_LIST}")] = None,
    engine: Annotated[Texts, typer.Option(help=f"Key of an engine, or path of its profile. {_LIST}")] = None,
    prompt_tokens: Annotated[Texts, typer.Option(help=f"Text tokens of the prompt. {_RANGE}")] = None,
    output_tokens: Annotated[Texts, typer.Option(help=f"Tokens generated. {_RANGE}")] = None,
    image: Annotated[
        Texts, typer.Option(help="WIDTHxHEIGHT; several of one request joined by +; none for text only. " + _LIST)
    ] = None,
    batch: Annotated[Texts, typer.Option(help=f"Equal requests served together. {_RANGE}")] = None,
    dtype: Annotated[Texts, typer.Option(help=f"Number format: bf16, fp16, fp32, fp8, … {_LIST}")] = None,
    kv_dtype: Annotated[Texts, typer.Option(help=f"Number format of the KV cache. {_LIST}")] = None,
    quantization: Annotated[Texts, typer.Option(help=f"none, w8a8-fp8, w4a16, … {_LIST}")] = None,
    tp: Annotated[Texts, typer.Option(help=f"Devices that share each layer. {_RANGE}")] = None,
    prefill_chunk: Annotated[
        Texts, typer.Option(help=f"Most tokens of a request in one prefill pass. {_RANGE}")
    ] = None,
    cached_prefix: Annotated[Texts, typer.Option(help=f"Leading tokens already in the KV cache. {_RANGE}")] = None,
    interval: Annotated[float | None, typer.Option(help="Give intervals that hold with this probability.")] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Every decode to predict's last digit, several times slower.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help=".parquet or .csv file; another name is a folder of Parquet parts.")
    ] = None,
    shard: Annotated[str | None, typer.Option(help="I/N: compute the I-th of N shares only; join with merge.")] = None,
    ray: Annotated[str | None, typer.Option(help="Address of a Ray cluster: HOST:PORT, auto or local.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print the result, without --out.")] = Format.TABLE,
) -> None:
    """Predict every combination of the values given; options as for predict, each a list or a range.

    A sweep that was stopped goes on where it was when the same command is given again.

    Example: costmodel sweep --model Qwen/Qwen3-VL-2B-Instruct,Qwen/Qwen3-VL-8B-Instruct --hardware h100-sxm,l40s
    --engine vllm-0.7.2 --image none,1024x768 --prompt-tokens 128:4096:x2 --output-tokens 1,16:512:16 --batch 1:64:x2
    --out sweep.parquet
    """
    if context.invoked_subcommand is not None:
        return
    from costmodel.sweeping.plan import Job, SweepPlan
    from costmodel.sweeping.values import counts, words

    def needed(name: str, texts: Texts) -> list[str]:
        if not texts:
            raise typer.BadParameter(f"missing option --{name}")
        return texts

    plan = SweepPlan(
        model=words(needed("model", model)),
        hardware=words(needed("hardware", hardware)),
        engine=words(needed("engine", engine)),
        dtype=words(dtype or ["bf16"]),
        kv_dtype=words(kv_dtype) if kv_dtype else (None,),
        quantization=words(quantization or ["none"]),
        tp=counts("--tp", tp or ["1"]),
        prefill_chunk=counts("--prefill-chunk", prefill_chunk) if prefill_chunk else (None,),
        images=words(image or ["none"]),
        prompt_tokens=counts("--prompt-tokens", needed("prompt-tokens", prompt_tokens)),
        cached_prefix_tokens=counts("--cached-prefix", cached_prefix or ["0"]),
        output_tokens=counts("--output-tokens", needed("output-tokens", output_tokens)),
        batch=counts("--batch", batch or ["1"]),
        interval=interval,
        exact=exact,
    )
    note(plan.text)
    job = Job.load(plan)
    if out is None:
        _print(job, output, alone=shard is None and ray is None)
        return
    _write(job, out, shard, ray)


def _write(job: Job, out: Path, shard: str | None, ray: str | None) -> None:
    from costmodel.sweeping.run import run_sweep

    _needs_pyarrow()
    with progress_bar("sweep") as progress:
        outcome = run_sweep(job, out, shard=_shard(shard) if shard else None, ray=ray, progress=progress)
    kept = f", {outcome.kept} were there" if outcome.kept else ""
    missing = f"; {outcome.missing} parts are still missing" if outcome.missing else ""
    note(f"{outcome.path}: {outcome.computed} parts computed{kept}{missing}")


def _print(job: Job, output: Format, *, alone: bool) -> None:
    if not alone or job.plan.size > _MOST_PRINTED:
        raise InputError(f"{job.plan.size:,} configurations: give --out FILE (.parquet or .csv)")
    _needs_pyarrow()
    import json

    from costmodel.sweeping.compute import part_tables

    rows = [row for part in range(len(job.plan.parts)) for table in part_tables(job, part) for row in table.to_pylist()]
    columns = tuple(rows[0])
    text = [tuple(_text(row[name]) for name in columns) for row in rows]
    shown = [i for i, name in enumerate(columns) if output is not Format.TABLE or len({row[i] for row in text}) > 1]
    table = Table(job.plan.text, tuple(columns[i] for i in shown), tuple(tuple(row[i] for i in shown) for row in text))
    emit([table], json.dumps(rows, indent=1), output)


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    try:
        return int(index), int(count)
    except ValueError:
        raise WorkloadError(f"shard is {text!r:.40}, expected I/N, for example 2/8") from None


def _needs_pyarrow() -> None:
    try:
        import pyarrow as _  # noqa: F401
    except ImportError:
        raise InputError("sweep needs the package pyarrow: pip install 'vlm-costmodel[sweep]'") from None


@app.command("merge")
def merge_parts(
    folders: Annotated[list[Path], typer.Argument(help="Folders of parts; several where shards wrote to several.")],
    out: Annotated[Path, typer.Option(help=".parquet or .csv file to write.")],
) -> None:
    """Join the parts that the shards of a sweep have written.

    Example: costmodel sweep merge sweep.parquet.parts --out sweep.parquet
    """
    _needs_pyarrow()
    from costmodel.sweeping.folder import merge

    if out.suffix not in (".parquet", ".csv"):
        raise InputError(f"--out is {out}, expected a .parquet or .csv file")
    with progress_bar("merge") as progress:
        rows = merge(folders, out, progress)
    note(f"{out}: {rows:,} configurations")
