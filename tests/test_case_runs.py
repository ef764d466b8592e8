"""Runs of many requests: every outcome is written down, what is good is kept, the rest goes on."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path

import pytest

pytest.importorskip("httpx", reason="httpx is not installed (extra: serve)")

from misbehaving_server import ChatServer, Reply, drop, events, serving, status, stream, token

from calibrate.engines.case_runs import CaseRequest, outcome_counts, run_requests
from calibrate.engines.openai_endpoint import Endpoint, OpenAIEndpoint, Timeouts
from calibrate.engines.protocol import Answer, Request
from calibrate.engines.retry import RetryPolicy
from calibrate.measure.journal import Journal, read_journal
from costmodel.errors import EndpointAuthError, EndpointError, EndpointUnreachableError

ONCE = RetryPolicy(attempts=1)
QUICK = Timeouts(connect_s=1.0, first_token_s=0.25, next_token_s=0.2, total_s=2.0)
HERE = {"engine": "test"}


def cases(count: int) -> list[CaseRequest]:
    return [
        CaseRequest(f"case-{i}", Request(f"{i}", max_output_tokens=4, ignore_eos=True), {"prompt_tokens": 3})
        for i in range(count)
    ]


def run(path: Path, todo: Sequence[CaseRequest], *replies: Reply, repeats: int = 1, concurrency: int = 1) -> ChatServer:
    async def main() -> ChatServer:
        async with serving(*replies) as server:
            client = OpenAIEndpoint(Endpoint(server.url, timeouts=QUICK, retry=ONCE))
            try:
                with Journal(path, HERE) as journal:
                    await run_requests(client, todo, journal, repeats=repeats, concurrency=concurrency)
            finally:
                await client.close()
            return server

    return asyncio.run(main())


GOOD = stream(events(4))
FAULTS = [
    status(500),
    status(429, retry_after="100"),
    stream([token(), 3.0]),
    drop([token()]),
    stream(["data: {\n\n"]),
    stream(events(4, output_tokens=900)),
    stream(events(2, finish="stop")),
    GOOD,
]
OUTCOMES = {
    "server_error": 1,
    "busy": 1,
    "timeout": 1,
    "broken_stream": 2,
    "wrong_usage": 1,
    "stopped_early": 1,
    "ok": 2,
}


def test_every_fault_has_an_outcome_and_the_rest_resumes(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    run(path, cases(9), *FAULTS)
    rows = read_journal(path)[1]
    assert outcome_counts(rows) == OUTCOMES
    assert all(row["reason"] for row in rows if row["outcome"] != "ok")

    again = run(path, cases(9), GOOD)
    assert len(again.seen) == 7, "what was good is not asked again"
    rows = read_journal(path)[1]
    assert outcome_counts(rows) == {"ok": 9}
    assert len(rows) == 9 + 7

    assert not run(path, cases(9), GOOD).seen
    assert len(run(path, cases(9), GOOD, repeats=2).seen) == 9


def test_rows_hold_what_was_measured(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    run(path, cases(1), stream(events(4, prompt_tokens=17)))
    (row,) = read_journal(path)[1]
    assert (row["prompt_tokens"], row["prompt_tokens_total"], row["output_tokens"]) == (3, 17, 4)
    assert 0 < row["ttft_s"] <= row["total_s"] == pytest.approx(row["ttft_s"] + row["decode_s"])
    assert len(row["piece_s"]) == 4


def test_a_refused_key_ends_the_run_at_once_and_keeps_what_there_is(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    with pytest.raises(EndpointAuthError):
        run(path, cases(5), GOOD, GOOD, status(401))
    assert outcome_counts(read_journal(path)[1]) == {"ok": 2}
    assert len(run(path, cases(5), GOOD).seen) == 3


def test_nobody_there_ends_the_run_at_once(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def main() -> None:
        client = OpenAIEndpoint(Endpoint(f"http://127.0.0.1:{port}", retry=ONCE))
        with Journal(tmp_path / "r.jsonl", HERE) as journal:
            await run_requests(client, cases(3), journal)

    with pytest.raises(EndpointUnreachableError):
        asyncio.run(main())


def test_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"

    class Stopping:
        """Answers twice, then the user has had enough."""

        name, asked = "stopping", 0

        async def ask(self, request: Request) -> Answer:
            self.asked += 1
            if self.asked == 3:
                raise KeyboardInterrupt
            return Answer("a b c d", "length", (0.1, 0.2, 0.3, 0.4), 0.4, prompt_tokens=3, output_tokens=4)

        async def close(self) -> None:
            pass

    with pytest.raises(KeyboardInterrupt), Journal(path, HERE) as journal:
        asyncio.run(run_requests(Stopping(), cases(4), journal))
    assert outcome_counts(read_journal(path)[1]) == {"ok": 2}
    assert len(run(path, cases(4), GOOD).seen) == 2


def test_requests_may_run_side_by_side(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    slow = stream([0.15, *events(4)])
    run(path, cases(4), slow, concurrency=4)
    rows = read_journal(path)[1]
    assert outcome_counts(rows) == {"ok": 4}

    class Counting:
        name, now, most = "counting", 0, 0

        async def ask(self, request: Request) -> Answer:
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.01)
            self.now -= 1
            raise EndpointError("never mind")

        async def close(self) -> None:
            pass

    engine = Counting()
    with Journal(tmp_path / "n.jsonl", HERE) as journal:
        asyncio.run(run_requests(engine, cases(8), journal, concurrency=3))
    assert engine.most == 3
    assert outcome_counts(list(journal)) == {"failed": 8}


def test_rows_are_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    run(path, cases(1), GOOD)
    for line in path.read_text().splitlines():
        assert isinstance(json.loads(line), dict)


def test_a_key_that_servers_send_back_reaches_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = "sk-do-not-tell-0123456789abcdef"
    monkeypatch.setenv("OPENAI_API_KEY", key)
    echo = {"error": {"message": f"wrong key {key}"}}
    told = stream([f'data: {{"error": "{key}"}}\n\n'])
    path = tmp_path / "runs.jsonl"
    server = run(path, cases(4), status(400, echo), status(500, echo), told, GOOD)
    assert all(key in head for head in server.headers if head.startswith("POST")), "the server got it"
    assert outcome_counts(read_journal(path)[1]) == {"ok": 1, "refused": 1, "server_error": 2}
    assert key not in path.read_text()
