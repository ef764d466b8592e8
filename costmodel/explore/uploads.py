"""Trace files that a reader of the page has loaded: parsed, bounded, kept in memory only."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections import OrderedDict
from dataclasses import dataclass, field

from costmodel.errors import TraceError
from costmodel.policy.traces import Trace, parse_traces
from costmodel.units import MEBI

__all__ = ["MOST_BYTES", "Loaded", "Uploads"]

MOST_BYTES = 8 * MEBI
"""Largest trace file that the page takes."""

_KEPT = 4


@dataclass(frozen=True, slots=True)
class Loaded:
    """A trace file by the name it had."""

    name: str
    traces: tuple[Trace, ...]


@dataclass
class Uploads:
    """The last few trace files, by a token of their content."""

    _files: OrderedDict[str, Loaded] = field(default_factory=OrderedDict)

    def add(self, raw: bytes, name: str) -> str:
        """Parse a file and keep it.

        Returns
        -------
        str
            Token to ask for it again.

        Raises
        ------
        TraceError
            If it is too large or not a file of traces.
        """
        if len(raw) > MOST_BYTES:
            raise TraceError(f"{name}: got {len(raw) / MEBI:.1f} MiB, expected {MOST_BYTES // MEBI} or less")
        token = hashlib.sha256(raw).hexdigest()[:16]
        self._files[token] = Loaded(name, parse_traces(raw, name))
        while len(self._files) > _KEPT:
            self._files.popitem(last=False)
        return token

    def add_encoded(self, contents: str, name: str) -> str:
        """As :meth:`add`, from the data URL that a browser sends."""
        _, _, encoded = contents.partition(",")
        try:
            raw = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise TraceError(f"{name}: what arrived is not a file") from None
        return self.add(raw, name)

    def loaded(self, token: str) -> Loaded | None:
        """File of a token, unless it has made place for later ones."""
        return self._files.get(token)

    def traces(self, token: str) -> tuple[Trace, ...]:
        """Traces of a token.

        Raises
        ------
        TraceError
            If it has made place for later ones.
        """
        found = self.loaded(token)
        if found is None:
            raise TraceError("this trace file is no longer kept; load it again")
        return found.traces
