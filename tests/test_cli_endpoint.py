"""``costmodel validate --endpoint`` as a command, against a server that answers by script."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import made_profiles as made
import pytest
import typer
from typer.testing import CliRunner

pytest.importorskip("httpx", reason="httpx is not installed (extra: serve)")

from misbehaving_server import ChatServer, Reply, events, serving, status, stream

from calibrate.check import endpoint_load
from calibrate.commands.validate import validate
from costmodel.errors import EndpointAuthError, EndpointError, EndpointUnreachableError, InputError
from costmodel.validation import Validation

KEY = "sk-do-not-tell-0123456789abcdef"


@contextmanager
def running(*replies: Reply) -> Iterator[ChatServer]:
    """The server in a thread of its own: commands have an event loop of theirs."""
    loop, ready, ended = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[ChatServer] = []

    async def main() -> None:
        async with serving(*replies) as server:
            found.append(server)
            ready.set()
            await ended.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    try:
        ready.wait(10)
        yield found[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join(10)
        loop.close()


def paced(*, pause_s: float = 0.0) -> Reply:
    """As many tokens as every request of these tests asks for."""
    return stream([pause_s, *events(6, prompt_tokens=40)])


@pytest.fixture
def words(tmp_path: Path) -> Callable[[str], list[str]]:
    spec = tmp_path / "spec.json"
    spec.write_text(made.text_only().model_dump_json())

    def build(url: str) -> list[str]:
        return [
            "--endpoint", url, "--model", str(spec), "--hardware", "h100-sxm", "--engine", "llama.cpp",
            "--dialect", "openai", "--served-model", "tiny",
        ]  # fmt: skip

    return build


def app(command: Callable[..., None]) -> typer.Typer:
    found = typer.Typer()
    found.command()(command)
    return found


@pytest.fixture(autouse=True)
def six_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request asks for six tokens: the server answers by script."""
    import calibrate.check.endpoint_runs as runs

    monkeypatch.setattr(runs, "_between", lambda values, rng: 6)
    monkeypatch.setattr(endpoint_load, "_LOOP_SHAPES", ((4, 6),))
    monkeypatch.setattr(endpoint_load, "_COUNTED", 1)


def test_requests_out_of_reach_fail_with_status_one(words: Callable[[str], list[str]], tmp_path: Path) -> None:
    out, runs, plot = tmp_path / "v.json", tmp_path / "r.jsonl", tmp_path / "parity.html"
    with running(paced(pause_s=0.05)) as server:
        options = ["--requests", "5", "--repeats", "2", "--runs", str(runs), "--out", str(out), "--plot", str(plot)]
        done = CliRunner().invoke(app(validate), [*words(server.url), *options, "--max-error", "0.01"])
        assert done.exit_code == 1, done.output
        asked = len(server.seen)
        again = CliRunner().invoke(app(validate), [*words(server.url), *options, "--no-gate"])
        assert (again.exit_code, len(server.seen)) == (0, asked), "what was measured is not asked again"
    result = Validation.model_validate_json(out.read_text())
    assert 1 <= result.n <= 5  # Runs beside a disturbed anchor do not count.
    assert result.verdict in ("failed", "inconclusive")
    assert "plotly" in plot.read_text()
    assert "mean error" in done.stdout


FAULTS: dict[str, tuple[Reply, type[Exception]]] = {
    "401": (status(401, {"error": {"message": f"bad key {KEY}"}}), EndpointAuthError),
    "400": (status(400, {"error": {"message": f"no such model {KEY}"}}), EndpointError),
}


@pytest.mark.parametrize("kind", sorted(FAULTS))
def test_a_server_that_refuses_ends_the_command(
    kind: str, words: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    reply, error = FAULTS[kind]
    with running(reply) as server:
        done = CliRunner().invoke(app(validate), [*words(server.url), "--runs", str(tmp_path / "r.jsonl")])
    assert isinstance(done.exception, error)
    told = [str(done.exception), done.output, *(path.read_text() for path in tmp_path.iterdir())]
    assert not [text for text in told if KEY in text]


def test_nobody_there(words: Callable[[str], list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from calibrate.engines import retry

    monkeypatch.setattr(retry.random, "uniform", lambda low, high: 0.0)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = CliRunner().invoke(app(validate), [*words(f"http://127.0.0.1:{port}"), "--runs", str(tmp_path / "r.jsonl")])
    assert isinstance(done.exception, EndpointUnreachableError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--concurrency", "1,many"], "expected whole numbers"),
        (["--concurrency", "0"], "expected whole numbers"),
        (["--dialect", "vlm"], "expected one of"),
    ],
)
def test_options_that_can_not_be(words: Callable[[str], list[str]], options: list[str], message: str) -> None:
    done = CliRunner().invoke(app(validate), [*words("http://127.0.0.1:9"), *options])
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception)


def test_an_endpoint_needs_to_know_what_it_is_compared_with() -> None:
    done = CliRunner().invoke(app(validate), ["--endpoint", "http://127.0.0.1:9"])
    assert isinstance(done.exception, InputError)
    assert "--model, --hardware and --engine" in str(done.exception)


def test_runs_are_rows_of_json(words: Callable[[str], list[str]], tmp_path: Path) -> None:
    runs = tmp_path / "r.jsonl"
    with running(paced()) as server:
        CliRunner().invoke(
            app(validate), [*words(server.url), "--requests", "2", "--repeats", "1", "--runs", str(runs), "--no-gate"]
        )
    rows = [json.loads(line) for line in runs.read_text().splitlines()]
    assert sum(row.get("op") == "request" for row in rows) == 2
    # The server is on this machine: anchors stand around every request, where torch is there to time them.
    assert sum(row.get("op") == "anchor" for row in rows) in (0, 3)
