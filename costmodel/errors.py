"""Errors that a caller can act on.

::

    CostModelError
    ├── InputError               bad input: one line, exit code 2
    │   ├── UnknownKeyError      a name that is not in a catalogue (lists the nearest)
    │   ├── ConfigError          a field of a model config (names its path)
    │   │   └── UnsupportedArchitectureError
    │   ├── ProfileError         a hardware or engine profile
    │   ├── WorkloadError        images, token counts, batch
    │   ├── MeasurementError     a measurement table or case table
    │   ├── PolicyError          a plan, a budget, or a choice that cannot be made
    │   └── TraceError           recorded answers that do not fit together
    ├── FitError                 data that cannot determine the coefficients
    └── DeviceError              a device that cannot be measured
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = [
    "ConfigError",
    "CostModelError",
    "DeviceError",
    "FitError",
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
    """

    def __init__(self, kind: str, got: str, known: Iterable[str]) -> None:
        names = sorted(known)
        lowered = {name.lower(): name for name in names}
        inside = [name for name in lowered if got and got.lower() in name]
        close = inside + difflib.get_close_matches(got.lower(), lowered, n=3, cutoff=0.4)
        nearest = [lowered[name] for name in dict.fromkeys(close)][:3] or names[:3]
        hint = f"nearest: {', '.join(nearest)}" if nearest else "the catalogue is empty"
        super().__init__(f"unknown {kind} {got!r}; {hint}")


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
