"""Hardware and engine profiles: data files read from ``hardware_profiles/`` or a path, validated, never executed."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from costmodel.documents import SCHEMA_VERSION, read_document
from costmodel.errors import ProfileError, UnknownKeyError
from costmodel.files import existing_file
from costmodel.specs.base import Frozen, Shown

__all__ = [
    "DECODED",
    "Coefficient",
    "ComponentFit",
    "Correction",
    "Datasheet",
    "EngineProfile",
    "HardwareProfile",
    "LawFit",
    "Provenance",
    "Scheduling",
    "SliceProfile",
    "datasheets",
    "load_engine",
    "load_hardware",
    "profile_keys",
]

_ROOT = Path(__file__).parent.parent / "hardware_profiles"

DECODED = "jpeg"
"""Name among processors of the decoding of a file."""

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
    architecture
        Chip design that calibrated devices may share with it; their coefficients are its priors.
    peak_flops_per_s
        Dense peak by number format; a format that the device lacks is absent.
    link_bytes_per_s
        To peer devices, one direction; ``None`` where there is no such link or no figure.
    references
        Where the figures come from.
    """

    kind: Literal["cuda", "cpu", "rocm", "xpu", "hpu", "mps"]
    architecture: str | None = None
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


class Correction(Frozen):
    """Smooth factor on a law's time: Σ weight · kernel(shape, centre) is its logarithm (equation 95).

    The centres are the shapes that the law was fitted on.

    Attributes
    ----------
    length_scales
        Of every coordinate, in octaves: sizes of the operator by name, and the law's time (``time_s``).
    ranges
        Ends at which a coordinate is held: the sizes of the work, and the law's time.
    law_s
        The law's time of every centre, in seconds.
    weights
        One a centre.
    """

    length_scales: dict[str, PositiveFloat] = Field(min_length=1)
    ranges: dict[str, tuple[PositiveFloat, PositiveFloat]]
    law_s: tuple[PositiveFloat, ...]
    weights: tuple[FiniteFloat, ...]


class LawFit(Frozen):
    """Coefficients of one operator law at one number format.

    Attributes
    ----------
    covariance
        Of the coefficients in the order of ``coefficients``, in the scale that the law fits them in.
    residual_log_sd
        Spread of log(measured / predicted) over the rows of the fit.
    correction
        What the law leaves over, where it was worth keeping.
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
    correction: Correction | None = None
    rows: int = Field(ge=0)
    fitted_on: dict[str, tuple[FiniteFloat, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _correction_is_of_these_shapes(self) -> LawFit:
        if self.correction is None:
            return self
        known = {**self.fitted_on, "time_s": self.correction.law_s}
        unknown = sorted({*self.correction.length_scales, *self.correction.ranges} - set(known))
        if unknown:
            raise ValueError(
                f"correction: coordinates {', '.join(unknown)} unknown; expected some of {', '.join(known)}"
            )
        lengths = {len(self.correction.weights), *(len(known[name]) for name in self.correction.length_scales)}
        if len(lengths) > 1 or min(min(known[name]) for name in self.correction.length_scales) <= 0:
            raise ValueError(f"correction: expected a weight, a time and positive sizes for each of {self.rows} shapes")
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> LawFit:
        """Copy without what was worked out from the fields of the original."""
        copied = super().model_copy(update=update, deep=deep)
        for name in ("centres", "weights"):
            copied.__dict__.pop(name, None)
        return copied

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """Centres of the correction in units of its length scales, ``(centres, coordinates)``."""
        if self.correction is None:
            return np.empty((0, 0))
        known = {**self.fitted_on, "time_s": self.correction.law_s}
        return np.stack(
            [np.log2(known[name]) / scale for name, scale in self.correction.length_scales.items()], axis=-1
        )

    @cached_property
    def weights(self) -> NDArray[np.float64]:
        """Weights of those centres."""
        return np.array(() if self.correction is None else self.correction.weights)

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
    processors
        What an image costs the host: by image rule for the processors of transformers, and :data:`DECODED` for the
        decoding of its file.
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
    processors: dict[str, ComponentFit] = Field(default_factory=dict)
    run_log_sd: NonNegativeFloat = 0.0
    device_log_sd: NonNegativeFloat = 0.0
    provenance: Provenance

    def slice_of(self, fingerprint: str, *, engine: str, dtype: str) -> SliceProfile | None:
        """Slices of a model size under an engine, where they were calibrated."""
        for entry in self.slices:
            if (entry.fingerprint, entry.engine, entry.dtype) == (fingerprint, engine, dtype):
                return entry
        return None


class Scheduling(Frozen):
    """How an engine serves several requests at once.

    Attributes
    ----------
    policy
        ``serial``: one after the other. ``prefill-first``: running requests wait while a prompt is read.
        ``mixed``: a prompt is read in pieces, each in one pass with the next tokens of running requests.
    slots
        Requests that run together at most.
    pass_tokens
        Tokens in one mixed pass at most.
    """

    policy: Literal["serial", "prefill-first", "mixed"]
    slots: PositiveInt
    pass_tokens: PositiveInt
    source: Source


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
    graph_captured
        Stages that are replayed as one graph: their launches cost the host nothing.
    attention
        Family of attention kernels, by stage; for the reader.
    fused_attention_tokens
        Longest sequence whose attention is one kernel, by stage; longer ones write their scores to memory and read them
        again. No limit where a stage is not named.
    quantised
        Parts that a quantised checkpoint holds quantised (vocabulary: token table and head); the others stay at the
        number format of activations.
    chunk_tokens
        Most tokens of a prompt in one pass of the prefill; ``None``: all of them.
    prefix_cache, encoder_cache
        Whether it can keep the cache of a prompt's beginning, and the tower's output for an image, between requests.
    kernels
        Laws of operators that this engine has kernels of its own for, on any device that has none of its own.
    device_kernels
        Laws by device, where whole requests were measured; they count more than those of the device's kernels.
    scheduling
        ``None`` where it is not known: such an engine has no prediction under load.
    image_processor
        ``transformers`` where the host's work on an image is decoding and the processor of transformers, no more:
        then measured processors replace ``image_s`` and ``megapixel_s`` as long as these are assumptions.
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
    graph_captured: tuple[Literal["encode", "prefill", "decode"], ...] = ()
    attention: dict[Literal["encode", "prefill", "decode"], str] = Field(default_factory=dict)
    fused_attention_tokens: dict[Literal["encode", "prefill"], int] = Field(default_factory=dict)
    quantised: tuple[Literal["decoder", "vocabulary"], ...] = ("decoder",)
    chunk_tokens: PositiveInt | None = None
    prefix_cache: bool = False
    encoder_cache: bool = False
    kernels: dict[str, LawFit] = Field(default_factory=dict)
    device_kernels: dict[str, dict[str, LawFit]] = Field(default_factory=dict)
    scheduling: Scheduling | None = None
    image_processor: Literal["transformers", "own"] = "own"
    references: tuple[str, ...]


_P = TypeVar("_P", HardwareProfile, EngineProfile)


@cache
def profile_keys(kind: Literal["gpus", "engines"]) -> tuple[str, ...]:
    """Keys of the profiles shipped."""
    return tuple(sorted(path.stem for path in (_ROOT / kind).glob("*.json")))


@cache
def datasheets() -> Mapping[str, Datasheet]:
    """Datasheets of all devices shipped, by their keys."""
    return {key: load_hardware(key).datasheet for key in profile_keys("gpus")}


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
