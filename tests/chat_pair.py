"""A chat server that answers by the prompt, so that a run has one right result; and the files of such a run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from misbehaving_server import ChatServer, Reply, status, stream

__all__ = ["Answering", "answered", "answering", "reply_text", "write_run"]

WORDS = ("red", "green", "blue")


def reply_text(prompt: str, model: str) -> str:
    """What a model says: a function of the words that it was sent, so that any two runs say the same."""
    number = int(next(word for word in prompt.replace("\n", " ").split() if word.isdigit()))
    if "step by step" in prompt:
        return f"<think> item {number} looks {WORDS[number % 3]} . so it is . </think> {WORDS[number % 3]}"
    if "Notes" in prompt:
        return "green"
    # The small model is wrong at every third item, the large one at every second.
    wrong = number % (3 if model == "small" else 2) == 0
    return WORDS[(number + wrong * (1 if model == "small" else 2)) % 3]


def answered(text: str, *, logprobs: bool) -> Reply:
    """A stream of the words of a text."""
    pieces = [word if i == 0 else f" {word}" for i, word in enumerate(text.split(" "))]
    events: list[str | float] = []
    for piece in pieces:
        choice: dict[str, Any] = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
        if logprobs:
            choice["logprobs"] = {"content": [{"token": piece, "logprob": -0.1 * len(piece)}]}
        events.append(f"data: {json.dumps({'choices': [choice]})}\n\n")
    events.append(f"data: {json.dumps({'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n")
    usage = {"prompt_tokens": 9 + len(text), "completion_tokens": len(pieces)}
    events += [f"data: {json.dumps({'choices': [], 'usage': usage})}\n\n", "data: [DONE]\n\n"]
    return stream(events)


@dataclass
class Answering(ChatServer):
    """Answers every request by its prompt; ``misbehave`` may take a request over."""

    model: str = "small"
    pause_s: float = 0.0
    misbehave: Callable[[int, dict[str, Any]], Reply | None] = lambda number, body: None

    def _reply(self, head: str, body: bytes) -> Reply:
        if head.startswith("GET"):
            return status(200, {"object": "list", "data": [{"id": self.model, "owned_by": "vllm"}]})
        request = json.loads(body)
        self.seen.append(request)
        other = self.misbehave(len(self.seen), request)
        if other is not None:
            return other
        content = request["messages"][0]["content"]
        prompt = content if isinstance(content, str) else content[-1]["text"]
        reply = answered(reply_text(prompt, self.model), logprobs=bool(request.get("logprobs")))

        async def slowly(writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(self.pause_s)
            await reply(writer)

        return slowly


@asynccontextmanager
async def answering(*servers: Answering) -> AsyncIterator[None]:
    """Serve on free ports of loopback."""
    tasks: set[asyncio.Task[None]] = set()

    def handler(server: Answering) -> Callable[..., Any]:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                tasks.add(task)
            await server._serve(reader, writer)

        return connected

    listening = [await asyncio.start_server(handler(server), "127.0.0.1", 0) for server in servers]
    for server, each in zip(servers, listening, strict=True):
        server.port = each.sockets[0].getsockname()[1]
    try:
        yield
    finally:
        for each in listening:
            each.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def write_run(folder: Path, items: int) -> Path:
    """A file of questions about numbers; returns it."""
    rows = [
        {"item_id": f"q{i}", "question": f"Which colour has number {i} ?", "answer": WORDS[i % 3]} for i in range(items)
    ]
    path = folder / "items.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
