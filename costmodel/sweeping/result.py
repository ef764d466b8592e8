"""``sweep`` in Python: the outer product of all axes, as named arrays in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from costmodel.errors import UnknownKeyError, WorkloadError
from costmodel.predict import set_up
from costmodel.profiles import EngineProfile, HardwareProfile
from costmodel.specs.model import ModelSpec
from costmodel.sweeping.axes import AXES, Axes, blocks
from costmodel.sweeping.plane import Columns, Plane
from costmodel.units import GIB

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["BLOCK", "Sweep", "sweep"]

BLOCK = 1 << 15
"""Configurations worked out at once: their arrays stay in the cache of a core."""

_MOST_BYTES = 16 * GIB


@dataclass(frozen=True)
class Sweep:
    """Latency and memory of every configuration.

    Attributes
    ----------
    axes
        Values along each axis, in the order of :data:`~costmodel.sweeping.AXES`.
    columns
        Arrays by name, each with all axes; of length 1 along those that it does not depend on.
    sources, warnings
        As of :class:`~costmodel.predict.Prediction`, of all configurations together.
    """

    model: str
    hardware: str
    engine: str
    interval: float | None
    axes: Axes
    columns: Columns
    sources: dict[str, str]
    warnings: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""
        return self.axes.shape

    def __len__(self) -> int:
        return self.axes.size

    def __getitem__(self, name: str) -> NDArray[np.generic]:
        """Read-only array of the whole shape.

        Raises
        ------
        UnknownKeyError
            If there is no such column.
        """
        if name not in self.columns:
            raise UnknownKeyError("column", name, self.columns)
        return np.broadcast_to(self.columns[name], self.shape)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Every configuration with its results, in row-major order."""
        names = list(self.columns)
        arrays = [self[name] for name in names]
        for place in np.ndindex(*self.shape):
            entry: dict[str, Any] = {name: getattr(self.axes, name)[i] for name, i in zip(AXES, place, strict=True)}
            entry |= {name: array[place] for name, array in zip(names, arrays, strict=True)}
            yield {name: value.item() if isinstance(value, np.generic) else value for name, value in entry.items()}

    def to_table(self) -> pa.Table:
        """All configurations as a table of Arrow, one a row in row-major order; needs pyarrow."""
        from costmodel.sweeping.arrow import table_of

        constants = {"model": self.model, "hardware": self.hardware, "engine": self.engine}
        return table_of(constants, self.axes, tuple(slice(0, n) for n in self.shape), self.columns)


def sweep(
    model: ModelSpec,
    hardware: HardwareProfile,
    engine: EngineProfile,
    *,
    prompt_tokens: ArrayLike,
    output_tokens: ArrayLike,
    images: Iterable[object] = ((),),
    batch: ArrayLike = 1,
    cached_prefix_tokens: ArrayLike = 0,
    interval: float | None = None,
    exact: bool = False,
    **options: Any,
) -> Sweep:
    """Predict every combination of the given values.

    Parameters
    ----------
    prompt_tokens, output_tokens, batch, cached_prefix_tokens
        A number or an array each; the axes of the result.
    images
        Image sizes of a request, for each entry of the axis: ``"640x480"``, ``"640x480+800x600"`` for two images,
        ``()`` or ``"none"`` for text only.
    interval
        Probability that the intervals should hold; values alone where not given, which is faster.
    exact
        Price the decode steps of every configuration as :func:`~costmodel.predict` does, several times slower, instead
        of interpolating between contexts a sixteenth of an octave apart.
    options
        ``dtype``, ``kv_dtype``, ``quantization``, ``num_devices``, ``chunk_tokens`` as for
        :func:`~costmodel.predict`.

    Raises
    ------
    WorkloadError
        If a request does not fit the model, or the result would not fit into memory: ``costmodel sweep`` writes files
        of any size.
    ProfileError, UnknownKeyError
        As of :func:`~costmodel.predict`.
    """
    axes = Axes.of(images, prompt_tokens, cached_prefix_tokens, output_tokens, batch)
    pricer, how = set_up(model, hardware, engine, **options)
    plane = Plane(model, pricer, how, axes, interval, exact)
    # Decode, time per token, total and memory depend on every axis.
    needed = axes.size * 8 * (4 if interval is None else 10)
    if needed > _MOST_BYTES:
        raise WorkloadError(
            f"{axes.size} configurations need {needed / GIB:.0f} GiB; costmodel sweep writes them to files"
        )
    columns: Columns = {}
    for block in blocks(axes.shape, BLOCK):
        _store(columns, plane.block(block), block, axes.shape)
    return Sweep(
        model=model.name,
        hardware=hardware.key,
        engine=engine.key,
        interval=interval,
        axes=axes,
        columns=columns,
        sources=dict(pricer.sources),
        warnings=tuple(pricer.warnings),
    )


def _store(
    columns: Columns, found: Mapping[str, NDArray[np.generic]], block: tuple[slice, ...], shape: tuple[int, ...]
) -> None:
    """Put a block into its place; a column has an axis only if it varies along it."""
    for name, values in found.items():
        varies = _VARIES.get(name.removesuffix("_low").removesuffix("_high"), (True,) * len(shape))
        if name not in columns:
            own = tuple(n if along else 1 for n, along in zip(shape, varies, strict=True))
            columns[name] = np.empty(own, dtype=values.dtype)
        place = tuple(part if along else slice(0, 1) for part, along in zip(block, varies, strict=True))
        columns[name][place] = values


# Along which axes a column varies, where not along all.
_BEFORE_OUTPUT = (True, True, True, False, True)
_VARIES = {
    "preprocess_s": _BEFORE_OUTPUT,
    "encode_s": _BEFORE_OUTPUT,
    "prefill_s": _BEFORE_OUTPUT,
    "ttft_s": _BEFORE_OUTPUT,
    "within_context": (True, True, True, True, False),
}
