"""Errors that a caller can act on.

::

    CostModelError
    ├── InputError               bad input: one line, exit code 2
    │   ├── UnknownKeyError      a name that is not in a catalogue (lists the nearest)
    │   ├── ConfigError          a field of a model config (names its path)
    │   │   └── UnsupportedArchitectureError
    │   ├── CheckpointError      a file of weights (its header), or a hub that can't be asked
    │   ├── ProfileError         a hardware or engine profile
    │   ├── WorkloadError        images, token counts, batch
    │   ├── MeasurementError     a measurement table or case table
    │   ├── PolicyError          a plan, a budget, or a choice that cannot be made
    │   └── TraceError           recorded answers that do not fit together
    ├── FitError                 data that cannot determine the coefficients
    ├── DeviceError              a device that cannot be measured
    └── EndpointError            a server that gave no usable answer
        ├── EndpointUnreachableError   nothing listens there
        ├── EndpointAuthError          it wants another key
        ├── EndpointBusyError          it says to come back later, and did so until the last attempt
        ├── EndpointServerError        it failed by itself
        ├── EndpointTimeoutError       it did not answer, or stopped answering, in time
        ├── EndpointStreamError        what it sent broke off or is not what was announced
        └── EndpointRequestError       it refuses this request
            └── ImageUnsupportedError  it reads no images
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "CheckpointError",
    "ConfigError",
    "CostModelError",
    "DeviceError",
    "EndpointAuthError",
    "EndpointBusyError",
    "EndpointError",
    "EndpointRequestError",
    "EndpointServerError",
    "EndpointStreamError",
    "EndpointTimeoutError",
    "EndpointUnreachableError",
    "FitError",
    "ImageUnsupportedError",
    "InputError",
    "MeasurementError",
    "PolicyError",
    "ProfileError",
    "TraceError",
    "UnknownKeyError",
    "UnsupportedArchitectureError",
    "WorkloadError",
]


class CostModelError(Exception):
    """Base class of every error raised on purpose."""


class InputError(CostModelError):
    """Input that cannot be used as given."""


class UnknownKeyError(InputError):
    """A name that no catalogue entry has.

    Parameters
    ----------
    kind
        What was looked up, for example ``"hardware"``.
    got
        The name as given.
    known
        Every valid name.
    why
        What else was tried, and what to do about it.
    """

    def __init__(self, kind: str, got: str, known: Iterable[str], *, why: str = "") -> None:
        super().__init__("; ".join(part for part in (f"unknown {kind} {got!r}", why, _nearest(got, known)) if part))


def _nearest(got: str, known: Iterable[str]) -> str:
    """Up to three names that a text may have meant, as the end of a message."""
    names = sorted(known)
    lowered = {name.lower(): name for name in names}
    inside = [name for name in lowered if got and got.lower() in name]
    close = inside + difflib.get_close_matches(got.lower(), lowered, n=3, cutoff=0.4)
    found = [lowered[name] for name in dict.fromkeys(close)][:3] or names[:3]
    return f"nearest: {', '.join(found)}" if found else "the catalogue is empty"


class ConfigError(InputError):
    """A field of a model config that is missing or has an unusable value.

    Parameters
    ----------
    path
        Dotted path of the field, for example ``vision_config.depth``.
    got
        What was found there, in words.
    expected
        What belongs there, in words.
    """

    def __init__(self, path: str, got: str, expected: str) -> None:
        self.path = path
        super().__init__(f"config field {path}: got {got}, expected {expected}")


class UnsupportedArchitectureError(ConfigError):
    """A config of an architecture that no family file covers."""


class CheckpointError(InputError):
    """A checkpoint whose headers can't be used: cut off, corrupt, of an unknown format, or out of reach."""


class ProfileError(InputError):
    """A profile that is malformed, of a newer schema, or lacks what was asked of it."""


class WorkloadError(InputError):
    """A workload that no model could be asked to run."""


class MeasurementError(InputError):
    """A table of measurements or cases that cannot be used."""


class PolicyError(InputError):
    """A plan that cannot be followed, or a choice between plans that cannot be made."""


class TraceError(InputError):
    """Recorded answers that are malformed, incomplete, or not about the same items."""


class FitError(CostModelError):
    """Measurements that cannot determine the coefficients asked for."""


class DeviceError(CostModelError):
    """A device that is absent or cannot be measured."""


class EndpointError(CostModelError):
    """A server that gave no usable answer.

    Attributes
    ----------
    outcome
        The kind of failure in one word, as it is written to files.
    retry_after_s
        How long the server asked to wait, where it did.
    """

    outcome = "failed"

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        self.retry_after_s = retry_after_s
        super().__init__(message)


class EndpointUnreachableError(EndpointError):
    """Nothing listens at the address, or the connection can't be made."""

    outcome = "unreachable"


class EndpointAuthError(EndpointError):
    """The server refuses the key, or wants one. The message never holds it."""

    outcome = "unauthorised"


class EndpointBusyError(EndpointError):
    """The server asks to come back later (429, 503), up to the last attempt."""

    outcome = "busy"


class EndpointServerError(EndpointError):
    """The server failed by itself (5xx, or an error inside a stream)."""

    outcome = "server_error"


class EndpointTimeoutError(EndpointError):
    """No answer in time, or a stream that stalled."""

    outcome = "timeout"


class EndpointStreamError(EndpointError):
    """A stream that broke off, or holds something else than events of a chat completion."""

    outcome = "broken_stream"


class EndpointRequestError(EndpointError):
    """The server refuses this request as it stands: another attempt would fail as well."""

    outcome = "refused"


class ImageUnsupportedError(EndpointRequestError):
    """The server, or its model, reads no images."""

    outcome = "image_unsupported"
