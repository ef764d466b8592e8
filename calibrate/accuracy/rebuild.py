"""Rebuild every shipped profile that was calibrated from public tables, and the priors learned from all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from calibrate.fit.priors import LeftOut, learn_priors
from calibrate.fit.sampling import MAX_SAMPLES
from calibrate.fit.tables import fit_tables
from calibrate.tables.importers.aiconfigurator import GPU_FOLDERS, Imported, import_tables, tables_version
from calibrate.tables.operators import TableSet, group_columns
from costmodel.documents import SCHEMA_VERSION
from costmodel.errors import ProfileError
from costmodel.files import write_atomic
from costmodel.profiles import Datasheet, HardwareProfile, LawFit, Provenance, load_hardware
from costmodel.progress import Progress, no_progress

__all__ = [
    "PRIORS_FILE",
    "base_profile",
    "fitted_profile",
    "imported_tables",
    "profile_text",
    "rebuild_all",
    "rebuild_priors",
]

PRIORS_FILE = "priors.json"
_STACK = "vllm"
_DIGITS = 6
# Number formats without a table take the law of the nearest one that has, and say so.
_STANDS_FOR = {
    "gemm": "gemm/bf16",
    "gemm/int8": "gemm/fp8",
    "attention_context": "attention_context/bf16",
    "attention_encoder": "attention_encoder/bf16",
    "attention_generation": "attention_generation/bf16",
    "moe": "moe/bf16",
    "all_reduce": "all_reduce/bf16",
    "all_gather": "all_gather/bf16",
}


def imported_tables(gpu: str, *, stack: str = _STACK) -> tuple[TableSet, Imported]:
    """Tables of one GPU, and where they come from."""
    imported = import_tables(gpu, stack)
    return group_columns(imported.columns, label=f"{gpu} {stack}"), imported


def fitted_profile(
    base: HardwareProfile,
    tables: TableSet,
    provenance: Provenance,
    *,
    max_samples: int = MAX_SAMPLES,
    progress: Progress = no_progress,
) -> HardwareProfile:
    """Fit all tables of a device; operators that were refused are named in the provenance."""
    fitted = fit_tables(tables, base.datasheet, max_samples=max_samples, progress=progress)
    notes = [f"no law for {key}: {reason}" for key, reason in fitted.refused.items()]
    notes += [f"{key}: {count} rows are faster than the datasheet allows" for key, count in fitted.impossible.items()]
    notes += [f"dropped {count} rows: {reason}" for reason, count in sorted(tables.dropped.items())]
    stated = provenance.model_copy(update={"notes": (*provenance.notes, *notes)})
    return base.model_copy(update={"laws": fitted.laws, "provenance": stated})


def base_profile(source: str) -> HardwareProfile:
    """Profile without laws: of a key, of a profile's path, or of the path of a bare datasheet.

    Raises
    ------
    UnknownKeyError
        If it is neither a file nor a key.
    ProfileError
        If the file is neither a profile nor a datasheet.
    """
    path = Path(source)
    if path.is_file() and _is_datasheet(path):
        try:
            datasheet = Datasheet.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise ProfileError(f"{path.name}: field {where}: {first['msg']}") from None
        stated = Provenance(measured_by="datasheet", date="")
        return HardwareProfile(key=path.stem, name=path.stem, vendor="", datasheet=datasheet, provenance=stated)
    return load_hardware(source).model_copy(update={"laws": {}})


def _is_datasheet(path: Path) -> bool:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return False
    return isinstance(content, dict) and "peak_flops_per_s" in content


def rebuild_all(
    folder: Path, *, date: str, progress: Progress = no_progress
) -> Iterator[tuple[HardwareProfile, TableSet]]:
    """Fit and write the profile of every GPU in the tables, one after the other.

    Parameters
    ----------
    folder
        Of the profiles; its datasheets are kept.
    date
        Stated as the date of the fit.
    """
    for done, key in enumerate(GPU_FOLDERS):
        progress(done / len(GPU_FOLDERS), key)
        tables, imported = imported_tables(key)
        base = load_hardware(folder / "gpus" / f"{key}.json")
        profile = fitted_profile(base, tables, _provenance(imported, date))
        write_atomic(folder / "gpus" / f"{key}.json", profile_text(profile.model_dump(exclude_none=True)))
        yield profile, tables


def rebuild_priors(
    folder: Path, tables: Mapping[str, TableSet], profiles: Mapping[str, HardwareProfile]
) -> dict[str, dict[str, LeftOut]]:
    """Learn the priors of the datasheet tier and write them; operators without tables keep their assumptions."""
    path = folder / PRIORS_FILE
    kept = json.loads(path.read_bytes())["laws"] if path.is_file() else {}
    learned = learn_priors(tables, profiles)
    assumed = ("elementwise", "copy", "launch", "linear_attention")
    content = {
        "schema_version": SCHEMA_VERSION,
        "laws": _stated({key: fit for key, fit in kept.items() if key in assumed}, learned.general),
        "architectures": {name: _stated({}, priors) for name, priors in sorted(learned.architectures.items())},
    }
    write_atomic(path, profile_text(content))
    return learned.left_out


def _stated(kept: Mapping[str, Any], priors: Mapping[str, LawFit]) -> dict[str, Any]:
    """Priors as they are written, with those that stand for a kind or a format without a table."""
    laws = {**kept, **{key: fit.model_dump(exclude_defaults=True) for key, fit in priors.items()}}
    laws |= {key: _assumed(priors[source]) for key, source in _STANDS_FOR.items() if source in priors}
    return dict(sorted(laws.items()))


def _assumed(fit: LawFit) -> dict[str, Any]:
    content = fit.model_dump(exclude_defaults=True)
    for coefficient in content["coefficients"].values():
        coefficient["source"] = "assumed"
    return content


def _provenance(imported: Imported, date: str) -> Provenance:
    return Provenance(
        measured_by=f"kernel tables of aiconfigurator-core {tables_version()} (Apache-2.0), fitted here",
        date=date,
        software=imported.sources,
        notes=(f"device of the tables: {imported.device}",),
    )


def profile_text(content: Mapping[str, Any]) -> str:
    """JSON with six significant digits, lists of numbers and coefficients on one line."""
    text = json.dumps(_rounded(content), indent=1)
    text = re.sub(r'\{\s+("value": [^,{]+),\s+("stderr": [^,{]+),\s+("source": "\w+")\s+\}', r"{\1, \2, \3}", text)
    return re.sub(r"\[\s+([-\d.eE+,\s]+?)\s+\]", lambda m: f"[{' '.join(m.group(1).split())}]", text) + "\n"


def _rounded(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, float | dict | list | tuple):
        return value
    if isinstance(value, dict):
        return {key: _rounded(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(entry) for entry in value]
    # Whole numbers, such as the bytes of a datasheet, stay exact.
    return int(value) if value.is_integer() else float(f"{value:.{_DIGITS}g}")
