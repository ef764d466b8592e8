"""A chat server on loopback that answers by script, rightly or wrongly; for tests of clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

__all__ = ["ChatServer", "Reply", "drop", "events", "serving", "status", "stream", "token"]

Reply = Callable[[asyncio.StreamWriter], Awaitable[None]]
"""Writes one response to a connection."""


def token(text: str = "a", **choice: Any) -> str:
    return _data({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None, **choice}]})


def _data(event: object) -> str:
    return f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n"


def events(
    tokens: int, *, prompt_tokens: int = 9, output_tokens: int | None = None, finish: str = "length"
) -> list[str]:
    """A well-formed answer: so many pieces, an end, a usage."""
    usage = {"prompt_tokens": prompt_tokens, "completion_tokens": tokens if output_tokens is None else output_tokens}
    return [
        _data({"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}}]}),
        *[token(f"w{i} ") for i in range(tokens)],
        _data({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}),
        _data({"choices": [], "usage": usage}),
        _data("[DONE]"),
    ]


def stream(parts: list[str | float]) -> Reply:
    """Write texts; a number is a pause in seconds."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in parts:
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            payload = part.encode()
            writer.write(f"{len(payload):x}\r\n".encode() + payload + b"\r\n")
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    return reply


def drop(parts: list[str]) -> Reply:
    """Write texts, then hang up in the middle of the response."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in parts:
            writer.write(f"{len(part):x}\r\n{part}\r\n".encode())
        await writer.drain()
        writer.transport.abort()

    return reply


def status(code: int, body: object = None, **headers: str) -> Reply:
    """A response without a stream; a number of a header is written with dashes."""

    async def reply(writer: asyncio.StreamWriter) -> None:
        payload = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(payload)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + payload)

    return reply


@dataclass
class ChatServer:
    """Answers each chat request with the next reply; the last one again and again.

    Attributes
    ----------
    seen
        Bodies of the chat requests.
    headers
        Head of every request, as text.
    """

    replies: list[Reply]
    owner: str = "someone"
    port: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)
    hung_up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.headers.append(head)
                length = next(
                    (int(x.split(":")[1]) for x in head.split("\r\n") if x.lower().startswith("content-length")), 0
                )
                body = await reader.readexactly(length)
                await self._reply(head, body)(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            self.hung_up.set()
        finally:
            writer.close()

    def _reply(self, head: str, body: bytes) -> Reply:
        if head.startswith("GET"):
            return status(200, {"object": "list", "data": [{"id": "tiny", "owned_by": self.owner}]})
        self.seen.append(json.loads(body))
        return self.replies[min(len(self.seen), len(self.replies)) - 1]


@asynccontextmanager
async def serving(*replies: Reply, owner: str = "someone") -> AsyncIterator[ChatServer]:
    """A server on a free port of loopback."""
    chat = ChatServer(list(replies), owner)
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            tasks.add(task)
        await chat._serve(reader, writer)

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    chat.port = server.sockets[0].getsockname()[1]
    try:
        yield chat
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
