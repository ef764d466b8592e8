"""Rows of the kernel tables that the package ``aiconfigurator-core`` ships (Apache-2.0).

The tables are read where the package keeps them and never copied. Their times are in milliseconds, the KV length of a
generation row is ``isl + step``, the message size of a collective is in elements. A row without counterpart here is
dropped, named and counted.
"""

from __future__ import annotations

import importlib.util
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from calibrate.tables.columns import TEXTS, Columns, join_columns, read_parquet
from costmodel.errors import MeasurementError, UnknownKeyError
from costmodel.units import MILLI

__all__ = ["GPU_FOLDERS", "Imported", "gpu_folders", "import_tables", "tables_version"]

GPU_FOLDERS = {
    "a100-sxm-80gb": "a100_sxm",
    "h100-sxm": "h100_sxm",
    "h200-sxm": "h200_sxm",
    "b200-sxm": "b200_sxm",
    "b300-sxm": "b300_sxm",
    "gb200": "gb200",
    "gb300": "gb300",
    "l40s": "l40s",
    "rtx-pro-6000": "rtx_pro_6000_server",
    "arc-b60": "b60",
}
_PACKAGE = "aiconfigurator_core"
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "int4_wo": "w4a16", "int8_wo": "w8a16"}
_BLOCK_SCALED = {"fp8_block": "fp8-block"}
# These cards multiply fp8 weights in 16 bits.
_NO_FP8_UNITS = ("a100_sxm", "b60")
# Of the expert loads that all tables share, the one nearest to an even random choice.
_EXPERT_LOAD = "power_law_1.01"
# The collectors run a GEMM on this many sets of weights in turn, so that large ones are cold.
_WEIGHT_COPIES = 6.0

Raw = Mapping[str, NDArray[np.generic]]
Mask = NDArray[np.bool_]
Texts = NDArray[np.str_]


@dataclass(frozen=True, slots=True)
class Imported:
    """Rows imported for one GPU.

    Attributes
    ----------
    columns
        The rows; ``columns.unreadable`` counts what was left out, by reason.
    sources
        Stack and version of every table read, by operator group.
    device
        Name of the device as the tables state it.
    """

    columns: Columns
    sources: dict[str, str]
    device: str


def gpu_folders() -> tuple[str, ...]:
    """Names of the GPUs in the tables, as the package spells them."""
    return tuple(sorted(GPU_FOLDERS.values()))


def tables_version() -> str:
    """Version of the package that ships the tables."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("aiconfigurator-core")
    except PackageNotFoundError:
        return ""


def import_tables(gpu: str, stack: str, *, data: Path | None = None) -> Imported:
    """Read the newest tables of a GPU and a software stack.

    Parameters
    ----------
    gpu
        As the package spells it (``h200_sxm``) or as our profiles do (``h200-sxm``).
    stack
        ``vllm``, ``sglang`` or ``trtllm``.
    data
        Folder of the tables (``None``: of the installed package).

    Raises
    ------
    UnknownKeyError
        If there is no such GPU or stack.
    MeasurementError
        If the package is not installed.
    """
    folder = _data_folder() if data is None else data
    name = GPU_FOLDERS.get(gpu, gpu)
    gpus = sorted(path.name for path in folder.iterdir() if path.is_dir())
    if name not in gpus:
        raise UnknownKeyError("gpu", gpu, gpus)
    stacks = {path.name for path in folder.glob(f"{name}/*/*") if path.is_dir()}
    if stack not in stacks:
        raise UnknownKeyError("stack", stack, stacks)
    parts, sources, device = [], dict[str, str](), ""
    for group, provider, file, convert in _GROUPS:
        path = _newest(folder / name / group / (provider or stack), file)
        if path is None:
            continue
        raw = _raw(path)
        parts.append(convert(raw, name))
        sources[f"{group}/{file}"] = f"{provider or stack} {path.parent.name}"
        device = device or str(raw["device"][0]) if "device" in raw else device
    if not parts:
        raise MeasurementError(f"{gpu}: the stack {stack} has no tables that can be imported")
    return Imported(join_columns(parts), sources, device)


def _data_folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise MeasurementError("the tables are not installed; pip install aiconfigurator-core (extra 'tables')")
    return Path(spec.submodule_search_locations[0]) / "systems" / "data"


def _newest(folder: Path, file: str) -> Path | None:
    """The table of the newest version that has it."""

    def order(path: Path) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d+", path.parent.name))

    return max(folder.glob(f"*/{file}_perf.parquet"), key=order, default=None)


def _raw(path: Path) -> Raw:
    table = read_parquet(path)
    return {name: np.asarray(table[name].to_numpy()) for name in table.column_names}


def _rows(
    raw: Raw,
    kind: str,
    dropped: Mapping[str, Mask],
    numbers: Mapping[str, NDArray[np.generic]],
    dtype: Texts,
    kv_dtype: Texts | None = None,
) -> Columns:
    """Keep rows that no reason drops; a row is counted under the first reason that it meets."""
    kept = np.ones(len(dtype), dtype=bool)
    counts: Counter[str] = Counter()
    for reason, mask in dropped.items():
        count = int(np.sum(kept & mask))
        if count:
            counts[f"{kind}: {reason}"] += count
        kept &= ~mask
    texts = {"op": np.full(len(dtype), kind), "dtype": dtype, "kv_dtype": dtype if kv_dtype is None else kv_dtype}
    all_numbers = {**numbers, "latency_s": raw["latency"].astype(float) * MILLI}
    return Columns(
        {name: values.astype(float)[kept] for name, values in all_numbers.items()},
        {name: texts[name][kept] for name in TEXTS},
        np.zeros(int(kept.sum()), dtype=bool),
        counts,
    )


def _dtypes(names: NDArray[np.generic], gpu: str = "", **more: str) -> Texts:
    known = {**_DTYPES, **more, **({"fp8": "w8a16"} if gpu in _NO_FP8_UNITS else {})}
    unique, inverse = np.unique(names.astype(str), return_inverse=True)
    return np.array([known.get(name, name) for name in unique])[inverse.reshape(-1)]


def _without_law(dtype: Texts) -> dict[str, Mask]:
    """Formats of experts that are scaled block by block, and mixed ones: every kernel would need a law of its own."""
    names = ("fp8_block", "w4a16_mxfp4", "w4a8_mxfp4_mxfp8")
    return {f"dtype {name} has no law": dtype == name for name in names}


def _gemm(raw: Raw, gpu: str) -> Columns:
    dtype = _dtypes(raw["gemm_dtype"], gpu, **_BLOCK_SCALED)
    sizes = {name: raw[name] for name in ("m", "n", "k")}
    copies = np.full(len(dtype), _WEIGHT_COPIES)
    return _rows(raw, "gemm", _without_law(dtype), {**sizes, "weight_copies": copies}, dtype)


def _heads(raw: Raw) -> dict[str, NDArray[np.generic]]:
    return {
        "batch": raw["batch_size"],
        "num_heads": raw["num_heads"],
        "num_kv_heads": raw["num_key_value_heads"],
        "head_dim": raw["head_dim"],
        "window": raw.get("window_size", np.zeros(len(raw["batch_size"]))),
    }


def _context(raw: Raw, gpu: str) -> Columns:
    del gpu
    new, past = raw["isl"].astype(float), raw["step"].astype(float)
    numbers = {**_heads(raw), "q_len": new, "kv_len": new + past}
    dtypes = _dtypes(raw["attn_dtype"]), _dtypes(raw["kv_cache_dtype"])
    return _rows(raw, "attention_context", {"one new token is a decode step": new == 1}, numbers, *dtypes)


def _generation(raw: Raw, gpu: str) -> Columns:
    del gpu
    kv_len = raw["isl"].astype(float) + raw["step"].astype(float)
    numbers = {**_heads(raw), "kv_len": kv_len, "kv_copies": np.ones(len(kv_len))}
    dtypes = _dtypes(raw["attn_dtype"]), _dtypes(raw["kv_cache_dtype"])
    return _rows(raw, "attention_generation", {}, numbers, *dtypes)


def _encoder(raw: Raw, gpu: str) -> Columns:
    del gpu
    numbers = {
        "batch": raw["batch_size"],
        "q_len": raw["isl"],
        "num_heads": raw["num_heads"],
        "head_dim": raw["head_dim"],
    }
    return _rows(raw, "attention_encoder", {}, numbers, _dtypes(raw["attn_dtype"]))


def _moe(raw: Raw, gpu: str) -> Columns:
    dtype = _dtypes(raw["moe_dtype"], gpu)
    dropped = {
        **_without_law(dtype),
        "experts spread over devices": raw["moe_ep_size"].astype(float) > 1,
        "another expert load": raw["distribution"].astype(str) != _EXPERT_LOAD,
    }
    numbers = {
        "tokens": raw["num_tokens"],
        "hidden_size": raw["hidden_size"],
        "intermediate_size": raw["inter_size"].astype(float) / raw["moe_tp_size"].astype(float),
        "num_experts": raw["num_experts"],
        "top_k": raw["topk"],
    }
    return _rows(raw, "moe", dropped, numbers, dtype)


def _all_reduce(raw: Raw, gpu: str) -> Columns:
    """All-reduce of the stack itself, replayed from a graph."""
    del gpu
    dtype = _dtypes(raw["allreduce_dtype"])
    source = raw["kernel_source"].astype(str)
    eager = np.char.find(source, "eager") >= 0
    numbers = {"bytes": 2.0 * raw["message_size"].astype(float), "num_devices": raw["num_gpus"]}
    dropped = {"not replayed from a graph": eager} if not eager.all() else {}
    return _rows(raw, "all_reduce", dropped, numbers, dtype)


def _nccl(raw: Raw, gpu: str) -> Columns:
    del gpu
    names = raw["op_name"].astype(str)
    dropped = {
        "collective without counterpart": names != "all_gather",
        "one byte an element": raw["nccl_dtype"].astype(str) == "int8",
    }
    numbers = {"bytes": 2.0 * raw["message_size"].astype(float), "num_devices": raw["num_gpus"]}
    return _rows(raw, "all_gather", dropped, numbers, np.full(len(names), "bf16"))


_Converter = Callable[[Raw, str], Columns]
_GROUPS: tuple[tuple[str, str, str, _Converter], ...] = (
    ("gemm", "", "gemm", _gemm),
    ("attention", "", "context_attention", _context),
    ("attention", "", "generation_attention", _generation),
    ("encoder_attention", "", "encoder_attention", _encoder),
    ("moe", "", "moe", _moe),
    ("comm", "", "custom_allreduce", _all_reduce),
    ("comm", "nccl", "nccl", _nccl),
)
