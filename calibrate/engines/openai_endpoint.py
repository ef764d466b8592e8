"""Any server with the OpenAI chat interface: vLLM, SGLang, llama.cpp, transformers serve, and hosted ones.

Times are the client's: from just before the request is sent to each piece of text. A warm-up request opens the
connection. Proxies and credentials of the environment are not used, except for the key in the variable asked for.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import httpx

from calibrate.engines.chat_stream import ChatStream, error_text
from calibrate.engines.dialects import Dialect, dialect_of, extra_fields
from calibrate.engines.events import read_events
from calibrate.engines.pictures import data_url
from calibrate.engines.protocol import Answer, Request
from calibrate.engines.retry import RetryPolicy, retry_after_s
from costmodel.errors import (
    EndpointAuthError,
    EndpointBusyError,
    EndpointError,
    EndpointRequestError,
    EndpointServerError,
    EndpointStreamError,
    EndpointTimeoutError,
    EndpointUnreachableError,
    ImageUnsupportedError,
    InputError,
)

__all__ = ["Endpoint", "OpenAIEndpoint", "Timeouts"]

# Pieces of text beyond twice the tokens asked for: a server that does not stop.
_PIECES_BEYOND = 16
_LONGEST_ERROR_BODY_BYTES = 64 * 1024
# Failures that may be over by the next attempt.
_PASSING = (EndpointUnreachableError, EndpointBusyError, EndpointServerError, EndpointStreamError)
_IMAGE_WORDS = ("image", "multimodal", "multi-modal", "vision", "mmproj")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Longest waits, in seconds.

    Attributes
    ----------
    connect_s
        For the connection.
    first_token_s, next_token_s
        For the first piece of text and between two of them; pings in between do not count.
    total_s
        For one attempt at a request.
    """

    connect_s: float = 5.0
    first_token_s: float = 120.0
    next_token_s: float = 30.0
    total_s: float = 600.0


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served.

    Attributes
    ----------
    url
        Address up to and without ``/chat/completions``; ``/v1`` is added to a bare host.
    model
        As the server calls it; empty: the first one it lists.
    api_key_env
        Name of the environment variable that holds the key; unset: no key is sent.
    """

    url: str
    model: str = ""
    dialect: Dialect = "auto"
    api_key_env: str = "OPENAI_API_KEY"
    timeouts: Timeouts = field(default_factory=Timeouts)
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def base_url(self) -> str:
        """Address with ``/v1``.

        Raises
        ------
        InputError
            If it is not an HTTP address, or holds a user name, a password or a query.
        """
        try:
            parts = urlsplit(self.url)
            usable = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1)
        except ValueError:
            usable = False
        if not usable:
            raise InputError("endpoint: expected an address such as http://127.0.0.1:8000/v1")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise InputError("endpoint: the address holds more than host and path; a key goes into the environment")
        path = parts.path.rstrip("/") or "/v1"
        return f"{parts.scheme}://{parts.netloc}{path}"


class OpenAIEndpoint:
    """A client of one endpoint.

    Raises
    ------
    InputError
        If the address or the key can't be used; the message does not hold the key.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._base = endpoint.base_url
        self._key = _key(endpoint.api_key_env)
        self._model, self._dialect = endpoint.model, endpoint.dialect
        limits = httpx.Timeout(endpoint.timeouts.total_s, connect=endpoint.timeouts.connect_s)
        self._client = httpx.AsyncClient(timeout=limits, trust_env=False, follow_redirects=False)

    @property
    def name(self) -> str:
        """Address and model."""
        return f"{self._base} {self._model}".strip()

    @property
    def dialect(self) -> Dialect:
        """Which server it is, as far as it is known."""
        return self._dialect

    @property
    def model(self) -> str:
        """The model asked."""
        return self._model

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def connect(self) -> None:
        """Ask which models there are, where the model or the kind of server is not known.

        Raises
        ------
        EndpointError
            If the server does not answer and the model is not known either.
        """
        if self._model and self._dialect != "auto":
            return
        listed: Mapping[str, Any] = {}
        try:
            listed = await self._models()
        except (EndpointRequestError, EndpointServerError):
            if not self._model:
                raise
        if self._dialect == "auto":
            self._dialect = dialect_of(listed)
        if not self._model:
            self._model = self._first_model(listed)

    async def _models(self) -> Mapping[str, Any]:
        async def once() -> Mapping[str, Any]:
            async with asyncio.timeout(self.endpoint.timeouts.first_token_s):
                response = await self._client.get(f"{self._base}/models", headers=self._headers())
            self._check(response, response.content, images=False)
            listed = response.json()
            return listed if isinstance(listed, dict) else {}

        listed, _ = await self._retried(once)
        return listed

    def _first_model(self, listed: Mapping[str, Any]) -> str:
        entries = listed.get("data")
        names = [entry.get("id") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
        if not names or not isinstance(names[0], str):
            raise EndpointRequestError(f"{self._base}: lists no model; name the one to ask")
        return names[0]

    async def ask(self, request: Request) -> Answer:
        """Answer one request; asked again where that may help, see :class:`RetryPolicy`.

        Raises
        ------
        EndpointError
            If there is no usable answer; its class says why.
        """
        await self.connect()
        body = self._body(request)
        answer, attempts = await self._retried(lambda: self._attempt(body, request))
        return replace(answer, attempts=attempts)

    async def _retried(self, once: Callable[[], Awaitable[_T]]) -> tuple[_T, int]:
        """The result of the first attempt that succeeds, and its number."""
        attempt = 1
        while True:
            try:
                return await once(), attempt
            except (EndpointError, TimeoutError, httpx.HTTPError, ValueError) as error:
                found = _typed(error, self._base)
            wait_s = self.endpoint.retry.wait_s(attempt, found.retry_after_s) if isinstance(found, _PASSING) else None
            if wait_s is None:
                times = f" (attempt {attempt})" if attempt > 1 else ""
                raise type(found)(f"{self._clean(str(found))}{times}", retry_after_s=found.retry_after_s)
            await asyncio.sleep(wait_s)
            attempt += 1

    def _body(self, request: Request) -> bytes:
        pictures = [{"type": "image_url", "image_url": {"url": data_url(picture)}} for picture in request.images]
        content: object = request.prompt
        if pictures:
            content = [*pictures, {"type": "text", "text": request.prompt}]
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": request.max_output_tokens,
            "temperature": request.temperature,
            "stream": True,
            **extra_fields(self._dialect, request),
        }
        return json.dumps(body).encode()

    async def _attempt(self, body: bytes, request: Request) -> Answer:
        timeouts = self.endpoint.timeouts
        stream = ChatStream(max_pieces=2 * request.max_output_tokens + _PIECES_BEYOND)
        start = time.perf_counter()
        loop = asyncio.get_running_loop()
        end = loop.time() + timeouts.total_s
        async with (
            asyncio.timeout_at(min(loop.time() + timeouts.first_token_s, end)) as limit,
            self._client.stream(
                "POST", f"{self._base}/chat/completions", content=body, headers=self._headers()
            ) as response,
        ):
            if response.status_code != httpx.codes.OK:
                await self._refuse(response, images=bool(request.images))
            async for event in read_events(response.aiter_bytes()):
                if stream.add(event, time.perf_counter() - start):
                    limit.reschedule(min(loop.time() + timeouts.next_token_s, end))
        return stream.answer()

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        return headers

    async def _refuse(self, response: httpx.Response, *, images: bool) -> NoReturn:
        content = b""
        async for chunk in response.aiter_bytes():
            content += chunk
            if len(content) > _LONGEST_ERROR_BODY_BYTES:
                break
        self._check(response, content, images=images)
        raise EndpointStreamError(f"{self._base}: status {response.status_code}, expected 200")

    def _check(self, response: httpx.Response, content: bytes, *, images: bool) -> None:
        """Raise what a status means; a server that can't read images says so under several."""
        if response.is_success:
            return
        status, text = response.status_code, self._clean(_message(content))
        says = f"{self._base}: status {status}" + (f": {text}" if text else "")
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            have = "was refused" if self._key else "is not set"
            raise EndpointAuthError(
                f"{self._base}: status {status}: the key in the environment variable {self.endpoint.api_key_env} {have}"
            )
        if status in (httpx.codes.TOO_MANY_REQUESTS, httpx.codes.SERVICE_UNAVAILABLE):
            raise EndpointBusyError(says, retry_after_s=retry_after_s(response.headers.get("retry-after")))
        if images and any(word in text.lower() for word in _IMAGE_WORDS):
            raise ImageUnsupportedError(says)
        if response.is_server_error:
            raise EndpointServerError(says, retry_after_s=retry_after_s(response.headers.get("retry-after")))
        raise EndpointRequestError(says)

    def _clean(self, text: str) -> str:
        """The text without the key, should a server have sent it back."""
        return text.replace(self._key, "***") if self._key else text


def _key(variable: str) -> str:
    key = os.environ.get(variable, "").strip()
    if not (key.isascii() and key.isprintable() and " " not in key):
        raise InputError(f"the key in the environment variable {variable} holds characters that no key has")
    return key


def _message(content: bytes) -> str:
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return " ".join(content[:200].decode("utf-8", "replace").split())
    return error_text(body) if isinstance(body, dict) else ""


def _typed(error: Exception, where: str) -> EndpointError:
    """The error of ours for one of the HTTP library, by what happened."""
    if isinstance(error, EndpointError):
        return error
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return EndpointUnreachableError(f"{where}: nothing answers at this address")
    if isinstance(error, TimeoutError | httpx.TimeoutException):
        return EndpointTimeoutError(f"{where}: no answer, or no further text, in the time allowed")
    if isinstance(error, httpx.RemoteProtocolError | httpx.ReadError | httpx.DecodingError):
        return EndpointStreamError(f"{where}: the connection broke off")
    if isinstance(error, ValueError):
        return EndpointStreamError(f"{where}: the answer is not JSON")
    return EndpointUnreachableError(f"{where}: {type(error).__name__}")
