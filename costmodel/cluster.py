"""A Ray cluster: other machines, reached through the one engine that most of them run already."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any

from costmodel.errors import InputError

__all__ = ["connected"]


@contextmanager
def connected(address: str) -> Iterator[Any]:
    """Ray, connected to a cluster.

    Parameters
    ----------
    address
        ``HOST:PORT``, ``ray://HOST:PORT``, ``auto``, or ``local`` for a cluster of this machine alone.

    Raises
    ------
    InputError
        If Ray is not installed, or there is no cluster.
    """
    # Ray reports usage to its makers unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise InputError("--ray needs the package ray: pip install 'vlm-costmodel[ray]'") from None
    ours = not ray.is_initialized()
    # Ray prints what its nodes report; standard output is for data.
    with redirect_stdout(sys.stderr):
        yield from _session(ray, address, ours)


def _session(ray: Any, address: str, ours: bool) -> Iterator[Any]:
    try:
        if ours:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, ValueError, RuntimeError) as error:
        first = str(error).strip().splitlines()
        raise InputError(f"no Ray cluster at {address!r}: {first[0][:200] if first else 'no answer'}") from None
    try:
        yield ray
    finally:
        if ours:
            ray.shutdown()
