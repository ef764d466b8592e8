"""Server-sent events: from bytes to the JSON objects they carry. Bounded, for the sender is not trusted."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from costmodel.errors import EndpointStreamError

__all__ = ["read_events"]

# Longest line; an event of a chat completion is a few hundred bytes, with log-probabilities a few thousand.
_MAX_LINE_BYTES = 4 * 1024 * 1024


async def read_events(chunks: AsyncIterator[bytes]) -> AsyncIterator[dict[str, Any]]:
    """Objects of the ``data:`` lines, until ``[DONE]`` or the end of the stream.

    Comments (the pings of some servers) and other fields are passed over.

    Raises
    ------
    EndpointStreamError
        If a line is longer than any event, or its data is not a JSON object.
    """
    async for line in _lines(chunks):
        field, _, value = line.partition(b":")
        payload = value.strip()
        if field != b"data" or not payload:
            continue
        if payload == b"[DONE]":
            return
        yield _object(payload)


async def _lines(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest = b""
    async for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield line.rstrip(b"\r")
        if len(rest) > _MAX_LINE_BYTES:
            raise EndpointStreamError(f"an event is longer than {_MAX_LINE_BYTES} bytes; expected a chat completion")
    if rest:
        yield rest


def _object(payload: bytes) -> dict[str, Any]:
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        raise EndpointStreamError(f"an event of the stream is not JSON: {payload[:60]!r}") from None
    if not isinstance(event, dict):
        raise EndpointStreamError(f"an event of the stream is {type(event).__name__}, expected an object")
    return event
