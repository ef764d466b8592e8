"""Headers of safetensors files: eight bytes of length, then JSON (https://huggingface.co/docs/safetensors).

Read here and not by the library: it maps the whole file, and a hub sends ranges of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from costmodel import strict_json
from costmodel.checkpoints.tensors import StoredTensor
from costmodel.errors import CheckpointError
from costmodel.files import existing_file
from costmodel.specs.base import LARGEST_SIZE

__all__ = ["INDEX", "LENGTH_BYTES", "SINGLE", "folder_tensors", "header_length", "header_tensors", "shard_names"]

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
LENGTH_BYTES = 8

# Headers of published shards stay below 1 MiB, indexes below 10 MiB; 500 shards are more than any model has.
_LONGEST_HEADER, _LONGEST_INDEX, _MOST_SHARDS, _MOST_DIMENSIONS = 2**24, 2**25, 4096, 16

# Bits of a value; those of 16 and more that are floats may be converted by an engine.
_BITS = {
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E4M3": 8, "F8_E5M2": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32, "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
_WIDE = ("F16", "BF16", "F32", "F64")


def folder_tensors(folder: Path) -> list[StoredTensor] | None:
    """Tensors of all safetensors files of a checkpoint; ``None`` where a folder has none.

    Raises
    ------
    CheckpointError
        If a header is cut off or corrupt, or a file that the index names is absent.
    """
    index = existing_file(folder / INDEX)
    if existing_file(folder / SINGLE) is not None:
        names: tuple[str, ...] = (SINGLE,)
    elif index is not None:
        names = shard_names(_read_at_most(index, _LONGEST_INDEX), where=INDEX)
    else:
        return None
    tensors: list[StoredTensor] = []
    for name in names:
        file = existing_file(folder / name)
        if file is None:
            raise CheckpointError(f"{INDEX}: names {name!r}, which is not in the folder; expected every shard")
        tensors += _file_tensors(file)
    return tensors


def shard_names(index: bytes, *, where: str) -> tuple[str, ...]:
    """Names of the files that an index lists, each the plain name of a file.

    Raises
    ------
    CheckpointError
        If the index is corrupt, or names a path.
    """
    weight_map = _json_object(index, where).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{where}: weight_map: got {_short(weight_map)}, expected an object of file names")
    names: dict[str, None] = {}
    for tensor, name in weight_map.items():
        plain = isinstance(name, str) and name.endswith(".safetensors") and name.isprintable() and len(name) < 256
        if not plain or Path(name).name != name or "\\" in name:
            raise CheckpointError(
                f"{where}: weight_map.{_short(tensor)}: got {_short(name)}, expected a .safetensors file"
            )
        names[name] = None
    if len(names) > _MOST_SHARDS:
        raise CheckpointError(f"{where}: names {len(names)} files, expected at most {_MOST_SHARDS}")
    return tuple(sorted(names))


def _file_tensors(path: Path) -> list[StoredTensor]:
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            length = header_length(file.read(LENGTH_BYTES), where=path.name)
            header = file.read(length)
    except OSError as error:
        raise CheckpointError(f"{path.name}: can't be read ({error.strerror})") from None
    return header_tensors(header, length, where=path.name, data_bytes=size - LENGTH_BYTES - length)


def header_length(prefix: bytes, *, where: str) -> int:
    """Length of the JSON after the first eight bytes of a file.

    Raises
    ------
    CheckpointError
        If the file ends before, or the length is absurd.
    """
    if len(prefix) < LENGTH_BYTES:
        raise CheckpointError(f"{where}: got {len(prefix)} bytes, expected a safetensors header")
    length = int.from_bytes(prefix, "little")
    if not 2 <= length <= _LONGEST_HEADER:
        raise CheckpointError(f"{where}: header of {length} bytes, expected 2 to {_LONGEST_HEADER}")
    return length


def header_tensors(header: bytes, length: int, *, where: str, data_bytes: int | None = None) -> list[StoredTensor]:
    """Tensors that a header lists.

    Parameters
    ----------
    header, length
        The JSON, and how long it should be.
    data_bytes
        Bytes of the file behind the header, where they are known.

    Raises
    ------
    CheckpointError
        If it is cut off, is not JSON, or an entry contradicts itself or the file.
    """
    if len(header) != length:
        raise CheckpointError(f"{where}: cut off: the header has {len(header)} bytes, expected {length}")
    entries = _json_object(header, where)
    return list(_tensors(entries, where, LARGEST_SIZE if data_bytes is None else data_bytes))


def _tensors(entries: Mapping[str, Any], where: str, data_bytes: int) -> Iterator[StoredTensor]:
    for name, entry in entries.items():
        if name == "__metadata__":
            continue
        at = f"{where}: {_short(name)}"
        if not isinstance(entry, dict):
            raise CheckpointError(f"{at}: got {_short(entry)}, expected dtype, shape and data_offsets")
        kind, shape = entry.get("dtype"), _counts(entry.get("shape"), f"{at}.shape", _MOST_DIMENSIONS)
        if not isinstance(kind, str) or kind not in _BITS:
            raise CheckpointError(f"{at}.dtype: got {_short(kind)}, expected one of {', '.join(_BITS)}")
        offsets = _counts(entry.get("data_offsets"), f"{at}.data_offsets", 2)
        elements = math.prod(shape)
        num_bytes = -(-elements * _BITS[kind] // 8)
        if len(offsets) != 2 or offsets[1] - offsets[0] != num_bytes:
            raise CheckpointError(f"{at}.data_offsets: got {_short(offsets)}, expected {num_bytes} bytes of {kind}")
        if offsets[1] > data_bytes:
            raise CheckpointError(f"{at}: ends at byte {offsets[1]}, the file has {data_bytes}: it is cut off")
        yield StoredTensor(name, kind, elements, num_bytes, kind in _WIDE)


def _counts(value: Any, at: str, most: int) -> list[int]:
    """A short list of sizes whose product is possible."""
    usable = isinstance(value, list) and len(value) <= most
    if not usable or not all(type(item) is int and 0 <= item <= LARGEST_SIZE for item in value):
        raise CheckpointError(f"{at}: got {_short(value)}, expected at most {most} sizes")
    if math.prod(item or 1 for item in value) > LARGEST_SIZE and most != 2:
        raise CheckpointError(f"{at}: got {_short(value)}, expected at most {LARGEST_SIZE} elements")
    return list(value)


def _json_object(text: bytes, where: str) -> dict[str, Any]:
    try:
        content = strict_json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{where}: not JSON ({_short(str(error))})") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{where}: got a JSON {type(content).__name__}, expected an object")
    return content


def _read_at_most(path: Path, most: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise CheckpointError(f"{path.name}: can't be read ({error.strerror})") from None
    if len(content) > most:
        raise CheckpointError(f"{path.name}: more than {most} bytes, expected an index of tensors")
    return content


def _short(value: object) -> str:
    """A value on one line; huge integers are not written out."""
    if isinstance(value, list | dict) and len(value) > 8:
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
