"""Whether requests to a server on this machine were disturbed: anchors between them, as for every other measurement."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from calibrate.engines.case_runs import good_request
from calibrate.measure.journal import Journal

__all__ = ["Guard", "Kept", "LocalGuard", "open_guard", "undisturbed", "undisturbed_flags"]

Row = Mapping[str, Any]

_LEAST_QUIET = 2
_LEAST_SHARE_OF_CASES = 0.8
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Guard:
    """Watches nothing: the server is on another machine, or torch is not installed."""

    def mark(self, journal: Journal) -> None:
        """Time the anchors now, while no request runs."""


class LocalGuard(Guard):
    """Times the anchors on this machine."""

    def __init__(self) -> None:
        from calibrate.measure.device import CpuDevice, torch_threads
        from calibrate.measure.telemetry import Anchors

        self._device = CpuDevice(threads=1)
        with torch_threads(self._device):
            self._anchors = Anchors(self._device)

    def mark(self, journal: Journal) -> None:
        """Append a row of anchors."""
        from calibrate.measure.device import torch_threads
        from calibrate.measure.telemetry import anchor_row

        with torch_threads(self._device):
            journal.append(anchor_row(self._anchors, self._device))


def open_guard(url: str) -> Guard:
    """A guard for the machine that a server runs on."""
    local = urlsplit(url).hostname in _LOOPBACK
    return LocalGuard() if local and importlib.util.find_spec("torch") else Guard()


@dataclass(frozen=True, slots=True)
class Kept:
    """Rows of requests that count.

    Attributes
    ----------
    share
        Share of the good requests that were undisturbed; ``None`` where nothing watched.
    enough
        Whether most requests have undisturbed repeats; otherwise disturbed ones count too.
    """

    rows: tuple[Row, ...]
    share: float | None
    enough: bool


def undisturbed(rows: Sequence[Row]) -> Kept:
    """Good requests between quiet anchors; all of them where too few are, or nothing watched."""
    flags = undisturbed_flags(rows)
    good = [row for row in rows if good_request(row)]
    quiet = [row for row, flag in zip(rows, flags, strict=True) if flag and good_request(row)]
    if not any(row.get("op") == "anchor" for row in rows):
        return Kept(tuple(good), None, True)
    runs, counted = Counter(row["case_id"] for row in good), Counter(row["case_id"] for row in quiet)
    known = {case for case, number in runs.items() if counted[case] >= min(_LEAST_QUIET, number)}
    enough = len(known) >= _LEAST_SHARE_OF_CASES * len(runs)
    kept = [row for row in quiet if row["case_id"] in known] if enough else good
    return Kept(tuple(kept), len(quiet) / max(len(good), 1), enough)


def undisturbed_flags(rows: Sequence[Row]) -> list[bool]:
    """For each row whether the anchors around it were quiet; all of them where nothing watched."""
    if not any(row.get("op") == "anchor" for row in rows):
        return [True] * len(rows)
    from calibrate.measure.samples import quiet_flags

    return quiet_flags(rows)
