"""Parts of a sweep on a Ray cluster: tasks send their file back, so that workers need no common file system."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from costmodel.cluster import connected
from costmodel.errors import InputError
from costmodel.files import atomic_path
from costmodel.sweeping.compute import part_tables
from costmodel.sweeping.folder import Folder, write_part
from costmodel.sweeping.plan import Job

__all__ = ["run_on_ray"]

# How often a part is tried again when its worker dies.
_RETRIES = 10
# Parts under way for each core: enough that none waits, few enough that their files fit in memory.
_AHEAD = 2


def run_on_ray(
    address: str, job: Job, folder: Folder, parts: Sequence[int], progress: Callable[[float, str], None]
) -> None:
    """Compute parts on a cluster and write each as it comes in.

    A worker that dies takes its part with it; Ray computes that part elsewhere. If this process dies, the parts that
    have come in are there for the next run.

    Raises
    ------
    InputError
        If there is no cluster, or a part keeps failing.
    """
    with connected(address) as ray:
        task = ray.remote(num_cpus=1, max_retries=_RETRIES)(_part_file)
        shared = ray.put(job)
        ahead = max(int(ray.cluster_resources().get("CPU", 1)) * _AHEAD, 1)
        waiting, running = list(reversed(parts)), dict[Any, int]()
        done = 0
        while waiting or running:
            while waiting and len(running) < ahead:
                part = waiting.pop()
                running[task.remote(shared, part)] = part
            (ready,), _ = ray.wait(list(running), num_returns=1)
            part = running.pop(ready)
            try:
                content = ray.get(ready)
            except ray.exceptions.RayError as error:
                raise InputError(f"part {part} failed on the cluster: {str(error).strip().splitlines()[0]}") from None
            with atomic_path(folder.file(part)) as temporary:
                temporary.write_bytes(content)
            done += 1
            progress(done / len(parts), f"part {part}, {len(running)} under way")


def _part_file(job: Job, part: int) -> bytes:
    """Content of the file of a part."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "part.parquet"
        write_part(part_tables(job, part), file)
        return file.read_bytes()
