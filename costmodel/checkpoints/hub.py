"""Models on a hub: configs through ``huggingface_hub``, and the first bytes of the files of weights; never weights.

The library's own reader of headers is not used: it takes whatever a server sends, and one that knows no ranges sends
all weights.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.checkpoints.safetensors import (
    INDEX,
    LENGTH_BYTES,
    SINGLE,
    folder_tensors,
    header_length,
    header_tensors,
    shard_names,
)
from costmodel.checkpoints.tensors import StoredTensor
from costmodel.errors import CheckpointError, InputError, UnknownKeyError
from costmodel.files import existing_file, read_bytes

__all__ = ["HubFiles", "HubId", "fetch", "parse_id"]

_ID = re.compile(r"([A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95})(?:@([\w./-]{1,96}))?", re.ASCII)

# Published configs stay below 1 MiB, indexes below 10 MiB; most headers are within the first request.
_LARGEST_JSON, _FIRST_BYTES = 2**25, 2**17
_TIMEOUT_S, _DEADLINE_S, _CONNECTIONS = 10.0, 60.0, 8


@dataclass(frozen=True, slots=True)
class HubId:
    """A model on a hub, and the revision of it that is meant."""

    id: str
    revision: str | None


@dataclass(frozen=True, slots=True)
class HubFiles:
    """What was fetched.

    Attributes
    ----------
    tensors
        Tensors of the safetensors files; ``None`` where there are none.
    """

    endpoint: str
    config: bytes
    image_settings: bytes | None
    tensors: list[StoredTensor] | None


def parse_id(text: str) -> HubId | None:
    """Read ``owner/name`` or ``owner/name@revision``; nothing where the text is neither."""
    match = _ID.fullmatch(text)
    return HubId(match[1], match[2]) if match else None


def fetch(name: HubId, *, known: Iterable[str] = ()) -> HubFiles:
    """Fetch the configs of a model, and the headers of its weights; cached files are not fetched again.

    Parameters
    ----------
    name
        The model.
    known
        Names that need no hub, to name the nearest of in an error.

    Raises
    ------
    UnknownKeyError
        If ``huggingface_hub`` is not installed, the hub can't be reached, or has no such model.
    CheckpointError
        If the hub refuses, the model has no ``config.json``, or a header can't be used.
    """
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors, utils  # noqa: F401 - the library loads its parts when asked
    except ImportError:
        why = "no preset; to fetch it from the hub, install vlm-costmodel[hub]"
        raise UnknownKeyError("model", name.id, known, why=why) from None
    repo = _Repository(huggingface_hub, name, tuple(known))
    config = repo.json_file("config.json")
    if config is None:
        raise CheckpointError(f"{name.id}: has no config.json; expected a checkpoint that transformers loads")
    settings = repo.json_file("preprocessor_config.json")
    return HubFiles(repo.endpoint, config, settings, repo.tensors())


class _Repository:
    """One model on the hub; every failure becomes one line."""

    def __init__(self, library: Any, name: HubId, known: tuple[str, ...]) -> None:
        self._library, self._name, self._known = library, name, known
        self.endpoint: str = library.constants.ENDPOINT
        self._snapshot: Path | None = None

    def json_file(self, file: str) -> bytes | None:
        """Content of a small file, without a hub what the library has cached; ``None`` where the model has none."""
        try:
            content = None if self._snapshot else self._first_bytes(file, _LARGEST_JSON + 1)
        except InputError:
            cached = self._library.try_to_load_from_cache(self._name.id, file, revision=self._name.revision)
            if not isinstance(cached, str):
                raise
            self._snapshot = Path(cached).parent
        if self._snapshot:
            cached_file = existing_file(self._snapshot / file)
            content = None if cached_file is None else read_bytes(cached_file)
        if content is not None and len(content) > _LARGEST_JSON:
            raise CheckpointError(f"{self._name.id}: {file} is larger than {_LARGEST_JSON} bytes, which no config is")
        return content

    def tensors(self) -> list[StoredTensor] | None:
        """Tensors by the headers of all files of weights; those of a cached model only if all files are there."""
        index = self.json_file(INDEX)
        names = (SINGLE,) if index is None else shard_names(index, where=f"{self._name.id}/{INDEX}")
        if self._snapshot:
            folder = self._snapshot
            return folder_tensors(folder) if all(existing_file(folder / name) for name in names) else None
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            headers = list(pool.map(self._file_tensors, names))
        if index is None and headers[0] is None:
            return None
        if missing := [name for name, header in zip(names, headers, strict=True) if header is None]:
            raise CheckpointError(f"{self._name.id}: {INDEX} names {missing[0]!r}, which is not there")
        return [tensor for header in headers for tensor in header or ()]

    def _file_tensors(self, file: str) -> list[StoredTensor] | None:
        first = self._first_bytes(file, _FIRST_BYTES)
        if first is None:
            return None
        where = f"{self._name.id}/{file}"
        length = header_length(first[:LENGTH_BYTES], where=where)
        if len(first) < LENGTH_BYTES + length:
            first = self._first_bytes(file, LENGTH_BYTES + length) or b""
        return header_tensors(first[LENGTH_BYTES : LENGTH_BYTES + length], length, where=where)

    def _first_bytes(self, file: str, count: int) -> bytes | None:
        """Start of a file, at most ``count`` bytes whatever the server sends; ``None`` where there is no such file."""
        library, errors = self._library, self._library.errors
        url = library.hf_hub_url(self._name.id, file, revision=self._name.revision)
        asked = {"Range": f"bytes=0-{count - 1}", "Accept-Encoding": "identity"}
        headers = {**library.utils.build_hf_headers(), **asked}
        content, deadline = bytearray(), time.monotonic() + _DEADLINE_S
        try:
            with library.get_session().stream("GET", url, headers=headers, timeout=_TIMEOUT_S) as response:
                library.utils.hf_raise_for_status(response)
                for chunk in response.iter_bytes():
                    content += chunk
                    if len(content) >= count:
                        break
                    if time.monotonic() > deadline:
                        raise CheckpointError(f"{self._name.id}/{file}: not sent within {_DEADLINE_S:.0f} s")
        except errors.EntryNotFoundError:
            return None
        except (errors.HfHubHTTPError, errors.HTTPError, OSError) as error:
            known = (errors.RepositoryNotFoundError, errors.RevisionNotFoundError)
            if not isinstance(error, known) and _status(error) == 404:
                return None
            raise self._refused(error) from None
        return bytes(content[:count])

    def _refused(self, error: Exception) -> InputError:
        """One line for a failure of the library, which tells its kinds apart by what the hub answered."""
        errors = self._library.errors
        if isinstance(error, errors.GatedRepoError):
            why = "the hub wants you to accept its terms and to log in (hf auth login)"
        elif isinstance(error, errors.RevisionNotFoundError):
            why = f"has no revision {self._name.revision!r}"
        elif isinstance(error, errors.RepositoryNotFoundError) or _status(error) == 401:
            return self._unknown(f"no preset, and no such model on {self.endpoint}, or it is private")
        elif isinstance(error, errors.HfHubHTTPError):
            why = f"{self.endpoint} answered {_status(error)}"
        else:
            return self._unknown(f"no preset, and {self.endpoint} can't be reached: give a folder with its config.json")
        return CheckpointError(f"{self._name.id}: {why}")

    def _unknown(self, why: str) -> UnknownKeyError:
        return UnknownKeyError("model", self._name.id, self._known, why=why)


def _status(error: Exception) -> int | None:
    """What the hub answered, where it did."""
    return getattr(getattr(error, "response", None), "status_code", None)
