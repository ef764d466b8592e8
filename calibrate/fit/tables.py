"""Fit every operator of a table set: sample, try the laws, keep the best, say what was refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from calibrate.fit.best_law import fit_best_law
from calibrate.fit.law import Prior
from calibrate.fit.sampling import MAX_SAMPLES, sample_table
from calibrate.tables.domain import select_domain
from calibrate.tables.operators import TableSet
from costmodel.errors import FitError, ProfileError
from costmodel.laws import laws_for
from costmodel.laws.base import Law
from costmodel.laws.collective import COLLECTIVE
from costmodel.laws.roofline import ROOFLINE
from costmodel.laws.streaming import LAUNCH, STREAMING
from costmodel.profiles import Datasheet, LawFit

__all__ = ["Fitted", "fit_tables", "sampling_law"]

# Collectives have two sizes: 24 points determine them.
_SAMPLES_OF_COLLECTIVE = 24


@dataclass(frozen=True, slots=True)
class Fitted:
    """Laws by operator and number format, why the others have none, and how many rows were too fast to be true."""

    laws: dict[str, LawFit]
    refused: dict[str, str]
    impossible: dict[str, int]


def sampling_law(kind: str) -> Law:
    """The law whose start coefficients spread the samples of an operator kind."""
    if kind in ("all_reduce", "all_gather"):
        return COLLECTIVE
    return {"elementwise": STREAMING, "copy": STREAMING, "launch": LAUNCH}.get(kind, ROOFLINE)


def fit_tables(
    tables: TableSet,
    datasheet: Datasheet,
    *,
    max_samples: int = MAX_SAMPLES,
    seed: int = 0,
    priors: Mapping[str, Mapping[str, Prior]] | None = None,
) -> Fitted:
    """Fit each table on at most ``max_samples`` of its rows, chosen by the sampling design.

    Parameters
    ----------
    max_samples
        Rows per operator and number format.
    seed
        Of the sampling design.
    priors
        By law name, then by coefficient name.
    """
    laws: dict[str, LawFit] = {}
    refused: dict[str, str] = {}
    impossible: dict[str, int] = {}
    for key, table in select_domain(tables).tables.items():
        kind, dtype = table.op.kind, table.op.dtype
        count = min(max_samples, _SAMPLES_OF_COLLECTIVE) if kind.startswith("all_") else max_samples
        try:
            sample, _ = sample_table(table, sampling_law(kind), datasheet, count=count, seed=seed)
            candidates = laws_for(kind, dtype, device_kind=datasheet.kind)
            laws[key] = fit_best_law(sample, candidates, datasheet, priors=priors)
            if laws[key].rows < sample.rows:
                impossible[key] = sample.rows - laws[key].rows
        except (FitError, ProfileError) as error:
            refused[key] = str(error)
    for key in [key for key in laws if key.split("/")[1].startswith("bf16")]:
        other = key.replace("bf16", "fp16")
        # The same kernels run both 16-bit formats.
        laws.setdefault(other, laws[key])
    return Fitted(laws, refused, impossible)
