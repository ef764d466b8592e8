"""Hardware and engine profiles: data files read from ``hardware_profiles/`` or a path, validated, never executed."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from costmodel.documents import SCHEMA_VERSION, read_document
from costmodel.errors import ProfileError, UnknownKeyError
from costmodel.files import existing_file
from costmodel.specs.base import Frozen, Shown

__all__ = [
    "Coefficient",
    "ComponentFit",
    "Datasheet",
    "EngineProfile",
    "HardwareProfile",
    "LawFit",
    "Provenance",
    "SliceProfile",
    "load_engine",
    "load_hardware",
    "profile_keys",
]

_ROOT = Path(__file__).parent.parent / "hardware_profiles"

Source = Literal["datasheet", "measured", "fitted", "assumed"]


class Coefficient(Frozen):
    """A number, how sure we are of it, and where it comes from."""

    value: NonNegativeFloat
    stderr: NonNegativeFloat
    source: Source


class Datasheet(Frozen):
    """Peaks of one device, as its maker states them (CPU: as measured).

    Attributes
    ----------
    peak_flops_per_s
        Dense peak by number format; a format that the device lacks is absent.
    link_bytes_per_s
        To peer devices, one direction; ``None`` where there is no such link or no figure.
    references
        Where the figures come from.
    """

    kind: Literal["cuda", "cpu", "rocm", "xpu", "hpu", "mps"]
    peak_flops_per_s: dict[str, PositiveFloat]
    memory_bytes_per_s: PositiveFloat
    memory_bytes: PositiveFloat
    cache_bytes: PositiveFloat
    multiprocessors: PositiveInt
    host_link_bytes_per_s: PositiveFloat | None = None
    link_bytes_per_s: PositiveFloat | None = None
    power_w: PositiveFloat | None = None
    references: tuple[str, ...]

    def flops_per_s(self, dtype: str) -> float:
        """Dense peak at a number format.

        Raises
        ------
        ProfileError
            If the device has no peak for it: none is ever made up.
        """
        if dtype not in self.peak_flops_per_s:
            known = ", ".join(sorted(self.peak_flops_per_s))
            raise ProfileError(f"this device has no peak for dtype {dtype!r}; it has {known}")
        return self.peak_flops_per_s[dtype]


class LawFit(Frozen):
    """Coefficients of one operator law at one number format.

    Attributes
    ----------
    covariance
        Of the coefficients in the order of ``coefficients``, in the scale that the law fits them in.
    residual_log_sd
        Spread of log(measured / predicted) over the rows of the fit.
    rows
        Rows that the fit used.
    fitted_on
        Shapes of those rows, by size of the operator: never scored again as held out; their range is the calibrated
        one.
    """

    law: str
    coefficients: dict[str, Coefficient]
    covariance: tuple[tuple[FiniteFloat, ...], ...] = ()
    residual_log_sd: NonNegativeFloat
    rows: int = Field(ge=0)
    fitted_on: dict[str, tuple[FiniteFloat, ...]] = Field(default_factory=dict)

    @property
    def lowest(self) -> dict[str, float]:
        """Smallest of each size that the fit used."""
        return {name: min(values) for name, values in self.fitted_on.items() if values}

    @property
    def highest(self) -> dict[str, float]:
        """Largest of each size that the fit used."""
        return {name: max(values) for name, values in self.fitted_on.items() if values}

    @property
    def values(self) -> dict[str, float]:
        """Coefficient values alone."""
        return {name: coefficient.value for name, coefficient in self.coefficients.items()}


class ComponentFit(Frozen):
    """Coefficients of one component of one model size: time = Σ coefficient · feature (equation 13).

    Attributes
    ----------
    covariance
        Of the coefficients, in their order: they are told apart by few sizes, so that their errors go together.
    residual_log_sd
        Spread of measured / predicted over the sizes of the fit.
    lowest, highest
        Range of every feature over those sizes.
    """

    coefficients: dict[str, Coefficient] = Field(min_length=1)
    covariance: tuple[tuple[FiniteFloat, ...], ...]
    residual_log_sd: NonNegativeFloat
    rows: int = Field(ge=0)
    lowest: dict[str, FiniteFloat]
    highest: dict[str, FiniteFloat]

    @model_validator(mode="after")
    def _covariance_is_of_the_coefficients(self) -> ComponentFit:
        size = len(self.coefficients)
        if [len(row) for row in self.covariance] != [size] * size:
            raise ValueError(f"covariance: expected {size} rows of {size} numbers, one a coefficient")
        return self


class SliceProfile(Frozen):
    """Components of one model size, measured as slices under one engine and number format."""

    model: str
    fingerprint: str
    engine: str
    dtype: str
    components: dict[str, ComponentFit]


class Provenance(Frozen):
    """Where measurements come from."""

    measured_by: str
    date: str
    driver: str = ""
    software: dict[str, str] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class HardwareProfile(Shown):
    """One device: its datasheet, operator-law coefficients (tier 1) and model slices (tier 2).

    Attributes
    ----------
    run_log_sd
        How much the device varies from run to run.
    device_log_sd
        How much devices of this kind differ from each other; two models on one device have it in common.
    """

    schema_version: int = SCHEMA_VERSION
    key: str
    name: str
    vendor: str
    datasheet: Datasheet
    laws: dict[str, LawFit] = Field(default_factory=dict)
    slices: tuple[SliceProfile, ...] = ()
    run_log_sd: NonNegativeFloat = 0.0
    device_log_sd: NonNegativeFloat = 0.0
    provenance: Provenance

    def slice_of(self, fingerprint: str, *, engine: str, dtype: str) -> SliceProfile | None:
        """Slices of a model size under an engine, where they were calibrated."""
        for entry in self.slices:
            if (entry.fingerprint, entry.engine, entry.dtype) == (fingerprint, engine, dtype):
                return entry
        return None


class EngineProfile(Shown):
    """One software stack: what the host costs and how layers become kernels.

    Attributes
    ----------
    request_s, image_s, megapixel_s
        Host time per request, per image and per 10⁶ input pixels, before the device starts.
    step_s
        Host time per forward pass.
    launch_s
        Host time per kernel launch; hidden behind the device as far as ``overlap`` allows.
    overlap
        Exponent of the smooth maximum of device time and launch time (1: they add, large: they hide).
    fused
        Whether q/k/v and gate/up are one GEMM each, and a norm, rotation or activation one kernel.
    """

    schema_version: int = SCHEMA_VERSION
    key: str
    name: str
    request_s: Coefficient
    image_s: Coefficient
    megapixel_s: Coefficient
    step_s: Coefficient
    launch_s: Coefficient
    overlap: float = Field(ge=1)
    fused: bool
    references: tuple[str, ...]


_P = TypeVar("_P", HardwareProfile, EngineProfile)


@cache
def profile_keys(kind: Literal["gpus", "engines"]) -> tuple[str, ...]:
    """Keys of the profiles shipped."""
    return tuple(sorted(path.stem for path in (_ROOT / kind).glob("*.json")))


def load_hardware(source: str | Path) -> HardwareProfile:
    """Load a hardware profile by its exact key, or from a path.

    Raises
    ------
    UnknownKeyError
        If it is neither a file nor a key; names the nearest keys.
    ProfileError
        If the file is malformed or of a newer schema.
    """
    return _load(source, kind="gpus", label="hardware", cls=HardwareProfile)


def load_engine(source: str | Path) -> EngineProfile:
    """Load an engine profile by its exact key, or from a path; errors as :func:`load_hardware`."""
    return _load(source, kind="engines", label="engine", cls=EngineProfile)


def _load(source: str | Path, *, kind: Literal["gpus", "engines"], label: str, cls: type[_P]) -> _P:
    known = str(source) in profile_keys(kind)
    path = existing_file(_ROOT / kind / f"{source}.json" if known else Path(source))
    if path is None:
        raise UnknownKeyError(label, str(source), profile_keys(kind))
    return read_document(path, cls)
