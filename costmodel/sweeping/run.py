"""A sweep from a plan to its file: what is there already is kept, what is missing is computed, then all is joined."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from costmodel.errors import InputError
from costmodel.sweeping.compute import part_tables
from costmodel.sweeping.folder import Folder, merge, my_parts, remove, write_part
from costmodel.sweeping.plan import Job

__all__ = ["Outcome", "run_sweep"]

Progress = Callable[[float, str], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run has done.

    Attributes
    ----------
    path
        The file, or the folder of parts where they are not joined.
    kept, computed, missing
        Parts that were there, that were computed now, and that other shards have yet to compute.
    """

    path: Path
    kept: int
    computed: int
    missing: int


def run_sweep(
    job: Job,
    out: Path,
    *,
    shard: tuple[int, int] | None = None,
    ray: str | None = None,
    progress: Progress,
) -> Outcome:
    """Compute a sweep, or a shard of it.

    Parameters
    ----------
    out
        A ``.parquet`` or ``.csv`` file; any other name is a folder that keeps its parts as they are. The parts of a
        file are in a folder ``OUT.parts`` until all are there.
    shard
        ``(i, n)``: this run computes the i-th of n shares only, and joins nothing.
    ray
        Address of a Ray cluster that computes the parts.

    Raises
    ------
    InputError
        If the folder holds another sweep, or something can't be written.
    """
    joined = out.suffix in (".parquet", ".csv")
    if joined and out.is_dir():
        raise InputError(f"{out} is a folder, expected the name of a file")
    mine = my_parts(len(job.plan.parts), shard or (1, 1))
    folder = Folder.open(out.with_name(f"{out.name}.parts") if joined else out, job)
    todo = folder.missing(mine)
    if ray is not None and todo:
        from costmodel.sweeping.on_ray import run_on_ray

        run_on_ray(ray, job, folder, todo, progress)
    else:
        for done, part in enumerate(todo, start=1):
            write_part(part_tables(job, part), folder.file(part))
            progress(done / len(todo), f"part {part}")
    missing = folder.missing(range(folder.manifest.parts)) if shard else []
    if joined and not shard:
        merge([folder.path], out, progress)
        remove(folder)
    return Outcome(out if joined and not shard else folder.path, len(mine) - len(todo), len(todo), len(missing))
