"""The client of OpenAI-compatible servers, against a server that behaves, and one that does not."""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import time
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import TypeVar

import pytest

pytest.importorskip("httpx", reason="httpx is not installed (extra: serve)")

from misbehaving_server import ChatServer, Reply, drop, events, serving, status, stream, token

from calibrate.engines.openai_endpoint import Endpoint, OpenAIEndpoint, Timeouts
from calibrate.engines.outcomes import judge
from calibrate.engines.pictures import data_url, load_picture, random_picture
from calibrate.engines.protocol import Answer, Request
from calibrate.engines.retry import RetryPolicy, retry_after_s
from costmodel import errors
from costmodel.errors import EndpointError, InputError
from costmodel.specs.images import ImageSize

T = TypeVar("T")
KEY = "sk-do-not-tell-0123456789abcdef"
QUICK = Timeouts(connect_s=1.0, first_token_s=0.3, next_token_s=0.2, total_s=2.0)
IMPATIENT = RetryPolicy(attempts=3, first_wait_s=0.01, longest_wait_s=1.0)
ASK = Request("hello", max_output_tokens=5, ignore_eos=True, reuse_prefix=False)


def talk(
    work: Callable[[OpenAIEndpoint, ChatServer], Awaitable[T]],
    *replies: Reply,
    owner: str = "someone",
    timeouts: Timeouts = QUICK,
    **fields: str,
) -> T:
    """Run ``work`` with a client of a server that gives these replies."""

    async def main() -> T:
        async with serving(*replies, owner=owner) as server:
            client = OpenAIEndpoint(Endpoint(server.url, timeouts=timeouts, retry=IMPATIENT, **fields))  # type: ignore[arg-type]
            try:
                return await work(client, server)
            finally:
                await client.close()

    return asyncio.run(main())


def ask(*replies: Reply, request: Request = ASK, **fields: str) -> Answer:
    return talk(lambda client, _: client.ask(request), *replies, **fields)


def test_a_good_answer() -> None:
    answer = ask(stream(events(5, prompt_tokens=11)))
    assert answer.text == "w0 w1 w2 w3 w4 "
    assert (answer.prompt_tokens, answer.output_tokens, answer.finish_reason) == (11, 5, "length")
    assert answer.attempts == 1
    assert judge(ASK, answer) == ("ok", "")


def test_times_are_the_clients() -> None:
    pause_s = 0.08
    parts: list[str | float] = [pause_s, *events(1)[:2], pause_s, *events(1)[1:]]
    answer = ask(stream(parts))
    assert pause_s <= answer.ttft_s <= answer.total_s - pause_s + 0.02
    assert answer.decode_s == pytest.approx(answer.total_s - answer.piece_s[0])
    assert answer.piece_s == tuple(sorted(answer.piece_s))


def test_text_split_across_packets_and_pings_is_put_together() -> None:
    whole = ": ping\r\n\r\n" + "".join(events(3)).replace("\n", "\r\n")
    answer = ask(stream([whole[i : i + 7] for i in range(0, len(whole), 7)]))
    assert answer.text == "w0 w1 w2 "


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_counts_as_text(name: str) -> None:
    thought = 'data: {"choices": [{"delta": {"' + name + '": "hm "}}]}\n\n'
    answer = ask(stream([thought, *events(2, output_tokens=3)]))
    assert answer.text == "hm w0 w1 "
    assert len(answer.piece_s) == 3


TIMINGS = {
    "llama.cpp": ('"timings": {"prompt_n": 7, "prompt_ms": 250.0, "predicted_ms": 80}', (0.25, 0.08, None)),
    "vllm": (
        '"metrics": {"arrival_time": 9.5, "first_scheduled_time": 10, "first_token_time": 10.5, "last_token_time": 12}',
        (0.5, 1.5, 2.5),
    ),
    "sglang": ('"meta_info": {"e2e_latency": 1.5}', (None, None, 1.5)),
    "nonsense": ('"timings": {"prompt_ms": "fast", "predicted_ms": NaN}', (None, None, None)),
}


@pytest.mark.parametrize("kind", sorted(TIMINGS))
def test_the_servers_own_times(kind: str) -> None:
    text, expected = TIMINGS[kind]
    server = ask(stream([*events(2)[:-1], 'data: {"choices": [], ' + text + "}\n\n"])).server
    assert (server.prefill_s, server.decode_s, server.total_s) == expected


WORDS = {
    "someone": {"stream_options"},
    "vllm": {"stream_options", "ignore_eos", "cache_salt"},
    "sglang": {"stream_options", "ignore_eos"},
    "llamacpp": {"stream_options", "ignore_eos", "cache_prompt"},
}


@pytest.mark.parametrize("owner", sorted(WORDS))
def test_servers_are_asked_in_their_own_words(owner: str) -> None:
    async def work(client: OpenAIEndpoint, server: ChatServer) -> dict[str, object]:
        await client.ask(ASK)
        return server.seen[0]

    body = talk(work, stream(events(5)), owner=owner)
    assert body["model"] == "tiny"
    assert body["max_tokens"] == 5
    assert set(body) - {"model", "messages", "max_tokens", "temperature", "stream"} == WORDS[owner]


def test_images_travel_inside_the_request(tmp_path: Path) -> None:
    picture = random_picture(ImageSize(width=40, height=24), seed=3)
    (tmp_path / "a.jpg").write_bytes(picture)
    request = Request("what?", max_output_tokens=5, images=(load_picture(tmp_path / "a.jpg"),))

    async def work(client: OpenAIEndpoint, server: ChatServer) -> object:
        await client.ask(request)
        return server.seen[0]["messages"][0]["content"]

    image, text = talk(work, stream(events(5)))  # type: ignore[misc]
    assert text == {"type": "text", "text": "what?"}
    assert load_picture(image["image_url"]["url"]) == picture
    pil = pytest.importorskip("PIL.Image", reason="pillow is not installed")
    assert pil.open(io.BytesIO(picture)).size == (40, 24)


@pytest.mark.parametrize(
    "source",
    [
        "http://127.0.0.1:9/a.png",
        "https://example.org/a.png",
        "ftp://x/y",
        "absent.png",
        "data:image/png,abc",
        "data:image/png;base64,@@@",
        "data:image/png;base64,AAAA",
    ],
)
def test_what_is_no_local_image_is_refused(source: str) -> None:
    with pytest.raises(InputError):
        load_picture(source)


def test_a_data_url_holds_the_file() -> None:
    assert data_url(b"\xff\xd8\xff\xe0x").startswith("data:image/jpeg;base64,")


ERROR = {"error": {"message": "it broke", "type": "server_error"}}

FAILURES: dict[str, tuple[Reply, type[EndpointError], str, int]] = {
    "401": (status(401, ERROR), errors.EndpointAuthError, "OPENAI_API_KEY is not set", 1),
    "400": (status(400, {"detail": "no such model"}), errors.EndpointRequestError, "400: no such model", 1),
    "404 with a page": (status(404, b"<html>\n nothing </html>"), errors.EndpointRequestError, "nothing", 1),
    "redirect": (status(307, location="http://127.0.0.1:1/"), errors.EndpointRequestError, "status 307", 1),
    "429": (status(429, ERROR, retry_after="0"), errors.EndpointBusyError, "429: it broke .attempt 3", 3),
    "429 for long": (status(429, ERROR, retry_after="3600"), errors.EndpointBusyError, "it broke", 1),
    "500": (status(500, ERROR), errors.EndpointServerError, "500: it broke .attempt 3", 3),
    "500 deep": (status(500, b"[" * 60_000), errors.EndpointServerError, "status 500", 3),
    "error in the stream": (
        stream([token(), 'data: {"error": "out of memory"}\n\n']),
        errors.EndpointServerError,
        "out of memory",
        3,
    ),
    "stall before": (stream([2.0]), errors.EndpointTimeoutError, "in the time allowed", 1),
    "stall between": (stream([token(), 2.0]), errors.EndpointTimeoutError, "in the time allowed", 1),
    "pings only": (stream([*[": ping\n\n", 0.05] * 30]), errors.EndpointTimeoutError, "in the time allowed", 1),
    "drop": (drop([token(), token()]), errors.EndpointStreamError, "broke off", 3),
    "end without an end": (stream([token()]), errors.EndpointStreamError, "broke off after 1 piece", 3),
    "nothing": (stream([]), errors.EndpointStreamError, "broke off after 0 piece", 3),
    "broken JSON": (stream([token(), 'data: {"choices": [{"del\n\n']), errors.EndpointStreamError, "not JSON", 3),
    "deep JSON": (stream(["data: " + "[" * 100_000 + "\n\n"]), errors.EndpointStreamError, "not JSON", 3),
    "a list": (stream(["data: [1]\n\n"]), errors.EndpointStreamError, "expected an object", 3),
    "odd choices": (stream(['data: {"choices": 3}\n\n']), errors.EndpointStreamError, "no list of choices", 3),
    "no end in sight": (stream([token()] * 40), errors.EndpointStreamError, "length asked for is ignored", 3),
    "a long line": (stream(["data: " + "x" * 5_000_000]), errors.EndpointStreamError, "longer than", 3),
}


@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_failures_have_a_type_and_one_line(kind: str) -> None:
    reply, error, words, attempts = FAILURES[kind]

    async def work(client: OpenAIEndpoint, server: ChatServer) -> int:
        with pytest.raises(error, match=words) as caught:
            await client.ask(ASK)
        assert type(caught.value) is error
        assert "\n" not in str(caught.value)
        return len(server.seen)

    assert talk(work, reply) == attempts


def test_a_refused_connection() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    client = OpenAIEndpoint(Endpoint(f"http://127.0.0.1:{port}", retry=IMPATIENT, timeouts=QUICK))

    async def main() -> None:
        with pytest.raises(errors.EndpointUnreachableError, match=r"nothing answers .* \(attempt 3\)"):
            await client.ask(ASK)
        await client.close()

    asyncio.run(main())


IMAGE_REFUSALS = {
    "llama.cpp": status(500, {"error": {"message": "image input is not supported - hint: mmproj"}}),
    "vllm": status(400, {"message": "tiny is not a multimodal model"}),
}


@pytest.mark.parametrize("kind", sorted(IMAGE_REFUSALS))
def test_a_server_without_eyes(kind: str) -> None:
    request = Request("what?", max_output_tokens=5, images=(random_picture(ImageSize(width=8, height=8), seed=0),))

    async def work(client: OpenAIEndpoint, server: ChatServer) -> int:
        with pytest.raises(errors.ImageUnsupportedError):
            await client.ask(request)
        return len(server.seen)

    assert talk(work, IMAGE_REFUSALS[kind]) == 1


def test_a_passing_failure_passes() -> None:
    answer = ask(status(500), status(429, retry_after="0"), stream(events(5)))
    assert (answer.attempts, answer.output_tokens) == (3, 5)


def test_retry_after_is_honoured() -> None:
    start = time.perf_counter()
    answer = ask(status(429, retry_after="0.4"), stream(events(5)))
    assert time.perf_counter() - start >= 0.4
    assert answer.total_s < 0.4, "waiting is no part of the answer's time"


def test_retry_after_as_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=30)
    waited = retry_after_s(format_datetime(later, usegmt=True))
    assert waited is not None
    assert 20 < waited <= 30
    assert retry_after_s("Mon, 01 Jan 2001 00:00:00 GMT") == 0.0
    assert [retry_after_s(text) for text in (None, "", "soon", "-1", "nan", "inf")] == [None] * 6


def test_backoff_grows_and_stays_within_bounds() -> None:
    policy = RetryPolicy(attempts=9, first_wait_s=1.0, longest_wait_s=10.0)
    for attempt in range(1, 9):
        wait_s = policy.wait_s(attempt, None)
        assert wait_s is not None
        assert min(2 ** (attempt - 1), 10) / 2 <= wait_s <= min(2 ** (attempt - 1), 10)
    assert policy.wait_s(9, None) is None
    assert policy.wait_s(1, 7.0) == 7.0
    assert policy.wait_s(1, 11.0) is None


def test_cancelling_hangs_up() -> None:
    async def work(client: OpenAIEndpoint, server: ChatServer) -> None:
        task = asyncio.create_task(client.ask(ASK))
        while not server.seen:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.hung_up.wait(), 5)

    slow = Timeouts(first_token_s=30, next_token_s=30)
    talk(work, stream([token(), *[token(), 0.02] * 200]), timeouts=slow)


USAGES = {
    "too few": (events(5, output_tokens=3), "wrong_usage"),
    "too many": (events(5, output_tokens=500), "wrong_usage"),
    "none of it": (events(5, output_tokens=0), "wrong_usage"),
    "negative": (events(5, prompt_tokens=-4), "wrong_usage"),
    "cut too early": (events(3), "wrong_usage"),
    "stops early": (events(3, finish="stop"), "stopped_early"),
    "overruns": (events(8), "overran"),
    "no usage": ([part for part in events(5) if "usage" not in part], "no_usage"),
    "usage of another kind": ([*events(5)[:-2], 'data: {"usage": {"completion_tokens": "5"}}\n\n'], "no_usage"),
    "empty": (events(0, finish="stop"), "empty"),
}


@pytest.mark.parametrize("kind", sorted(USAGES))
def test_answers_that_are_no_measurement(kind: str) -> None:
    parts, expected = USAGES[kind]
    outcome, reason = judge(ASK, ask(stream(list(parts))))
    assert outcome == expected
    assert reason


def test_an_image_that_is_ignored_is_seen_by_its_tokens() -> None:
    request = Request("what?", max_output_tokens=5, images=(random_picture(ImageSize(width=8, height=8), seed=0),))
    answer = ask(stream(events(5, prompt_tokens=9)), request=request)
    assert judge(request, answer, least_prompt_tokens=40)[0] == "image_ignored"
    assert judge(request, answer, least_prompt_tokens=9)[0] == "ok"


def test_keys_come_from_the_environment_and_stay_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", KEY)
    caplog.set_level(logging.DEBUG)
    echo = {"error": {"message": f"Incorrect API key provided: {KEY}"}}
    told: list[str] = []

    async def work(client: OpenAIEndpoint, server: ChatServer) -> None:
        told.extend([repr(client), repr(client.endpoint), client.name])
        for _ in range(3):
            try:
                await client.ask(ASK)
            except EndpointError as error:
                told.extend(["".join(traceback.format_exception(error)), repr(error)])
        assert all(f"Bearer {KEY}" in head for head in server.headers)

    broken = stream([f'data: {{"error": "{KEY}"}}\n\n'])
    talk(work, status(401, echo), status(400, echo), broken, api_key_env="SOME_KEY")
    assert len(told) == 9
    assert not [text for text in (*told, caplog.text) if KEY in text]


def test_no_key_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)

    async def work(client: OpenAIEndpoint, server: ChatServer) -> str:
        await client.ask(ASK)
        return "".join(server.headers).lower()

    assert "authorization" not in talk(work, stream(events(5)))


@pytest.mark.parametrize("bad", [f"{KEY}\nX-Other: 1", f"{KEY} {KEY}", f"{KEY}é"])
def test_keys_that_no_header_can_hold(monkeypatch: pytest.MonkeyPatch, bad: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", bad)
    with pytest.raises(InputError, match="OPENAI_API_KEY") as caught:
        OpenAIEndpoint(Endpoint("http://127.0.0.1:1"))
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "127.0.0.1:80",
        "ftp://x",
        "http://",
        f"http://u:{KEY}@h/v1",
        f"http://h/v1?key={KEY}",
        "http://h:99999",
        "http://[::1",
    ],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(InputError, match=r"^endpoint: ") as caught:
        OpenAIEndpoint(Endpoint(url))
    assert KEY not in str(caught.value)


def test_a_bare_host_gets_the_usual_path() -> None:
    assert Endpoint("http://h:8000").base_url == "http://h:8000/v1"
    assert Endpoint("http://h:8000/api/v2/").base_url == "http://h:8000/api/v2"
