"""Header of a GGUF file: metadata and tensor infos, as the format's specification has them (ggml, docs/gguf.md).

The weights are never touched, and the tables of a tokenizer are stepped over: a header of hundreds of thousands of
strings takes some ten milliseconds.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.checkpoints.tensors import StoredTensor
from costmodel.errors import CheckpointError
from costmodel.files import existing_file
from costmodel.ops.ggml import GGML_TYPES
from costmodel.specs.base import LARGEST_SIZE

__all__ = ["GgufHeader", "GgufTensor", "Skipped", "read_gguf"]

_VERSIONS = (2, 3)
# Bounds beyond every published file: keys, tensors, entries of all tables of strings together.
_MOST_KEYS, _MOST_TENSORS, _MOST_STRINGS, _MOST_DIMENSIONS, _MOST_SHARDS = 2**14, 2**17, 2**22, 4, 512
_LONGEST_NAME, _LONGEST_TEXT, _LONGEST_LIST = 2**10, 2**20, 2**14

_SCALARS = {
    0: struct.Struct("<B"), 1: struct.Struct("<b"), 2: struct.Struct("<H"), 3: struct.Struct("<h"),
    4: struct.Struct("<I"), 5: struct.Struct("<i"), 6: struct.Struct("<f"), 7: struct.Struct("<?"),
    10: struct.Struct("<Q"), 11: struct.Struct("<q"), 12: struct.Struct("<d"),
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]
_SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\.gguf")


@dataclass(frozen=True, slots=True)
class Skipped:
    """An array that was stepped over."""

    count: int


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """A tensor: its shape with the fastest dimension first, as the file has it."""

    shape: tuple[int, ...]
    stored: StoredTensor


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """What a file says before its weights."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


def read_gguf(path: Path) -> GgufHeader:
    """Read the header of a file, or of all shards of one that was split.

    Raises
    ------
    CheckpointError
        If it is cut off, corrupt, or of another version.
    """
    first = _read_file(path)
    shards = first.metadata.get("split.count", 1)
    if not isinstance(shards, int) or not 0 <= shards <= _MOST_SHARDS:
        raise CheckpointError(f"{path.name}: split.count: got {str(shards)[:40]}, expected up to {_MOST_SHARDS}")
    if shards <= 1:
        return first
    match = _SHARD.fullmatch(path.name)
    if match is None:
        raise CheckpointError(
            f"{path.name}: one of {shards} shards, expected a name that ends in -00001-of-{shards:05}.gguf"
        )
    tensors: dict[str, GgufTensor] = {}
    metadata = first.metadata
    for number in range(1, shards + 1):
        shard = path.with_name(f"{match[1]}-{number:05}-of-{shards:05}.gguf")
        if existing_file(shard) is None:
            raise CheckpointError(f"{path.name}: shard {shard.name} is not beside it")
        header = _read_file(shard)
        tensors |= header.tensors
        metadata = header.metadata if number == 1 else metadata
    return GgufHeader(metadata, tensors)


def _read_file(path: Path) -> GgufHeader:
    try:
        with path.open("rb") as file:
            if path.stat().st_size < 24:
                raise CheckpointError(f"{path.name}: got {path.stat().st_size} bytes, expected a GGUF header")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _Reader(data, path.name).header()
    except OSError as error:
        raise CheckpointError(f"{path.name}: can't be read ({error.strerror})") from None


class _Reader:
    """Reads forward through a file; every size is checked before it is used."""

    def __init__(self, data: mmap.mmap, name: str) -> None:
        self._data, self._name, self._size = data, name, len(data)
        self._at, self._strings = 0, 0

    def header(self) -> GgufHeader:
        if self._data[:4] != b"GGUF":
            raise self._error(f"starts with {self._data[:4]!r}, expected b'GGUF'")
        self._at = 4
        version = self._scalar(_U32)
        if version not in _VERSIONS:
            swapped = int.from_bytes(version.to_bytes(4, "little"), "big")
            order = " of big-endian order" if swapped in _VERSIONS else ""
            raise self._error(f"version {version}{order}, expected 2 or 3 of little-endian order")
        tensors, keys = self._scalar(_U64), self._scalar(_U64)
        for what, got, most in (("tensors", tensors, _MOST_TENSORS), ("keys", keys, _MOST_KEYS)):
            if got > most:
                raise self._error(f"claims {got} {what}, expected at most {most}")
        metadata = self._metadata(keys)
        return GgufHeader(metadata, self._tensors(tensors, self._alignment(metadata)))

    def _metadata(self, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for _ in range(count):
            key = self._text(_LONGEST_NAME, "a key")
            if key in metadata:
                raise self._error(f"key {key[:60]!r} twice")
            metadata[key] = self._value(self._scalar(_U32), key)
        return metadata

    def _value(self, kind: int, key: str) -> Any:
        if kind in _SCALARS:
            return self._scalar(_SCALARS[kind])
        if kind == _TEXT:
            return self._text(_LONGEST_TEXT, key)
        if kind != _ARRAY:
            raise self._error(f"{key[:60]!r}: value of type {kind}, expected 0 to 12")
        inner, count = self._scalar(_U32), self._scalar(_U64)
        if inner == _TEXT:
            self._skip_strings(count, key)
            return Skipped(count)
        if inner not in _SCALARS:
            raise self._error(f"{key[:60]!r}: array of type {inner}, expected numbers or strings")
        scalar = _SCALARS[inner]
        start = self._advance(count * scalar.size, key)
        if count > _LONGEST_LIST:
            return Skipped(count)
        return [value for (value,) in scalar.iter_unpack(self._data[start : self._at])]

    def _skip_strings(self, count: int, key: str) -> None:
        self._strings += count
        if self._strings > _MOST_STRINGS or 8 * count > self._size - self._at:
            raise self._error(f"{key[:60]!r}: claims {count} strings, more than can be there")
        data, at, unpack = self._data, self._at, _U64.unpack_from
        try:
            for _ in range(count):
                at += 8 + unpack(data, at)[0]
        except (struct.error, OverflowError, ValueError):
            at = self._size + 1
        if at > self._size:
            raise self._error(f"{key[:60]!r}: ends beyond the file: it is cut off or corrupt")
        self._at = at

    def _alignment(self, metadata: Mapping[str, Any]) -> int:
        value = metadata.get("general.alignment", 32)
        if not isinstance(value, int) or not 1 <= value <= 2**16 or value & (value - 1):
            raise self._error(f"general.alignment: got {str(value)[:40]}, expected a power of two")
        return value

    def _tensors(self, count: int, alignment: int) -> dict[str, GgufTensor]:
        tensors: dict[str, GgufTensor] = {}
        ends: list[tuple[int, str]] = []
        for _ in range(count):
            name = self._text(_LONGEST_NAME, "a tensor")
            if name in tensors:
                raise self._error(f"tensor {name[:60]!r} twice")
            tensors[name] = self._tensor(name)
            offset = self._scalar(_U64)
            if offset % alignment:
                raise self._error(f"tensor {name[:60]!r}: offset {offset}, expected a multiple of {alignment}")
            ends.append((offset + tensors[name].stored.num_bytes, name))
        start = -(-self._at // alignment) * alignment
        last, name = max(ends, default=(0, ""))
        if start + last > self._size:
            text = f"tensor {name[:60]!r} ends at byte {start + last}, the file has {self._size}: it is cut off"
            raise CheckpointError(f"{self._name}: {text}")
        return tensors

    def _tensor(self, name: str) -> GgufTensor:
        dimensions = self._scalar(_U32)
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise self._error(f"tensor {name[:60]!r}: {dimensions} dimensions, expected 1 to {_MOST_DIMENSIONS}")
        shape = tuple(self._scalar(_U64) for _ in range(dimensions))
        elements, number = math.prod(shape), self._scalar(_U32)
        if not 1 <= elements <= LARGEST_SIZE:
            raise self._error(f"tensor {name[:60]!r}: {str(elements)[:40]} elements, expected 1 to {LARGEST_SIZE}")
        kind = GGML_TYPES.get(number)
        if kind is None:
            raise self._error(f"tensor {name[:60]!r}: type {number}, which llama.cpp does not have")
        blocks, rest = divmod(shape[0], kind.block_weights)
        if rest:
            raise self._error(f"tensor {name[:60]!r}: rows of {shape[0]}, expected a multiple of {kind.block_weights}")
        num_bytes = blocks * kind.block_bytes * (elements // shape[0])
        return GgufTensor(shape, StoredTensor(name, kind.name, elements, num_bytes, wide=False))

    def _scalar(self, scalar: struct.Struct) -> Any:
        start = self._advance(scalar.size, "a number")
        return scalar.unpack_from(self._data, start)[0]

    def _text(self, longest: int, what: str) -> str:
        length = self._scalar(_U64)
        if length > longest:
            raise self._error(f"{what[:60]!r}: text of {length} bytes, expected at most {longest}")
        start = self._advance(length, what)
        return self._data[start : self._at].decode("utf-8", errors="replace")

    def _advance(self, count: int, what: str) -> int:
        start = self._at
        if count > self._size - start:
            raise self._error(f"{what[:60]!r}: ends beyond the file: it is cut off or corrupt")
        self._at = start + count
        return start

    def _error(self, text: str) -> CheckpointError:
        return CheckpointError(f"{self._name}: at byte {self._at}: {text}")
