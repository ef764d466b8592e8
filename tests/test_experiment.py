"""The trained experiment: task by hand, pictures, its weights; its local engine against plain forward passes."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import REPO

pytest.importorskip("torch", reason="torch is not installed (extra: calibrate)")
pytest.importorskip("transformers", reason="transformers is not installed (extra: calibrate)")

import torch

from calibrate.engines.checkpoint import Checkpoint
from calibrate.engines.pictures import load_picture
from calibrate.engines.protocol import Answer, Request
from calibrate.measure.device import CpuDevice
from calibrate.policies.attention import attention_to_tokens
from costmodel import load_model
from costmodel.errors import EndpointRequestError, InputError

FOLDER = REPO / "examples" / "experiment"
WEIGHTS = FOLDER / "weights"


@pytest.fixture(scope="module", autouse=True)
def example() -> Iterator[None]:
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory, example: None) -> list[dict[str, Any]]:
    from questions import write_items

    folder = tmp_path_factory.mktemp("items")
    path = write_items(folder, 16, seed=11)
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [{**row, "picture": load_picture(folder / row["images"][0])} for row in rows]


@pytest.fixture(scope="module")
def small() -> Checkpoint:
    if not (WEIGHTS / "small" / "model.safetensors").exists():
        pytest.skip("the pair has not been trained: python examples/experiment/train.py")
    return Checkpoint(WEIGHTS / "small", CpuDevice(threads=1), dtype="fp32", executor=ThreadPoolExecutor(1))


def test_arrows_lead_where_they_point() -> None:
    from task import CELLS, draw, hop, walk

    assert CELLS[hop(CELLS.index("b3"), 0)] == "c3"
    assert CELLS[hop(CELLS.index("b3"), 1)] == "b4"
    pictures = draw(np.random.default_rng(3), 50, noise=0.2)
    for index in range(50):
        for start in range(16):
            cells = walk(pictures.arrows[index], start, 6)
            assert all(0 <= cell < 16 for cell in cells)
            steps = [abs(a // 4 - b // 4) + abs(a % 4 - b % 4) for a, b in pairwise(cells)]
            assert steps == [1] * 6


def test_halving_hides_half_of_a_mark_and_no_colour() -> None:
    """What the small model can't see is in the pictures, not in its training."""
    from task import _MARK_PATTERNS, _RGB, COLOURS, MARKS

    halved = _MARK_PATTERNS.reshape(len(MARKS), 2, 2, 2, 2).mean(axis=(2, 4)).reshape(len(MARKS), -1)
    assert len(np.unique(_MARK_PATTERNS.reshape(len(MARKS), -1), axis=0)) == len(MARKS)
    assert len(np.unique(halved, axis=0)) == 4
    assert len(np.unique(_RGB, axis=0)) == len(COLOURS)


def test_training_sees_what_the_image_processor_gives() -> None:
    from train import check_patches

    for name in ("small", "large"):
        check_patches(name)


def test_the_mask_keeps_questions_apart() -> None:
    from train import LENGTH, VISUAL, _layout, kinds_of_a_row

    positions, mask = _layout()
    total = VISUAL + 2 + sum(LENGTH[kind] for kind in kinds_of_a_row())
    assert positions.shape == (3, total)
    assert mask.shape == (total, total)
    first, second = VISUAL + 2, VISUAL + 2 + LENGTH["short"]
    allowed = mask == 0
    assert allowed[second, :first].all(), "every question sees the picture"
    assert not allowed[second, first:second].any(), "and no other question"
    assert not allowed.triu(1).any()
    assert (positions[:, first] == positions[:, second]).all()


def test_the_checkpoint_is_a_model_of_ours() -> None:
    if not WEIGHTS.exists():
        pytest.skip("the pair has not been trained: python examples/experiment/train.py")
    for name in ("small", "large"):
        spec = load_model(str(WEIGHTS / name))
        assert spec.name == name
        assert spec.visual_tokens(48, 48) == 16
        assert (WEIGHTS / name / "model.safetensors").stat().st_size < 6 * 1024**2


def test_generation_is_the_argmax_of_plain_forward_passes(small: Checkpoint, items: list[dict[str, Any]]) -> None:
    """Oracle: the whole sequence again for every token, no cache, no generate()."""
    from PIL import Image

    for item in items[:3]:
        request = Request(f"reason {item['question']}", 32, images=(item["picture"],), logprobs=True)
        answer = small.answer(request)
        image = Image.open(io.BytesIO(item["picture"]))
        inputs = small.inputs(request.prompt, [image])
        found, logprobs = [], []
        with torch.inference_mode():
            for _ in range(answer.output_tokens or 0):
                row = small.model(**inputs, use_cache=False).logits[0, -1].log_softmax(dim=-1)
                token = int(row.argmax())
                found.append(token)
                logprobs.append(float(row[token]))
                inputs = _longer(inputs, token)
        assert small.tokenizer.decode(found, skip_special_tokens=True) == answer.text
        assert [p for _, p in answer.token_logprobs] == pytest.approx(logprobs, abs=1e-3)
        assert "".join(t for t, _ in answer.token_logprobs).strip() == answer.text
        assert answer.finish_reason == "stop"
        assert list(answer.piece_s) == sorted(answer.piece_s)
        assert len(answer.piece_s) == answer.output_tokens


def _longer(inputs: dict[str, torch.Tensor], token: int) -> dict[str, torch.Tensor]:
    def grown(name: str, value: int) -> torch.Tensor:
        return torch.cat([inputs[name], torch.full((1, 1), value, dtype=inputs[name].dtype)], dim=1)

    return {
        **inputs,
        "input_ids": grown("input_ids", token),
        "attention_mask": grown("attention_mask", 1),
        "mm_token_type_ids": grown("mm_token_type_ids", 0),
    }


def test_attention_is_a_share_of_what_the_answer_looks_at(small: Checkpoint, items: list[dict[str, Any]]) -> None:
    request = Request(f"reason {items[0]['question']}", 32, images=(items[0]["picture"],), logprobs=True)
    answer = small.answer(request)
    weights = attention_to_tokens(small, request, answer)
    assert len(weights) == len(answer.token_logprobs)
    assert all(weight >= 0 for weight in weights)
    assert 0 < sum(weights) <= 1
    # The answer's last token is predicted from the one before it, so nothing attends to it.
    assert weights[-1] == 0
    assert small.model.config._attn_implementation == "sdpa", "the fast attention is back"
    assert small.answer(request).text == answer.text


def test_local_models_stop_sample_and_refuse(small: Checkpoint, items: list[dict[str, Any]]) -> None:
    prompt, images = f"reason {items[0]['question']}", (items[0]["picture"],)
    capped = small.answer(Request(prompt, 3, images=images))
    assert (capped.output_tokens, capped.finish_reason) == (3, "length")
    stopped = small.answer(Request(prompt, 32, images=images, stop=("</think>",)))
    assert "</think>" not in stopped.text
    one, two = (small.answer(Request(prompt, 32, images=images, temperature=3.0, seed=5)) for _ in range(2))
    assert one.text == two.text, "the same seed samples the same"
    others = {small.answer(Request(prompt, 32, images=images, temperature=3.0, seed=s)).text for s in range(5)}
    assert len(others) > 1


def test_folders_that_hold_no_model_are_refused_in_one_line(tmp_path: Path) -> None:
    executor = ThreadPoolExecutor(1)
    with pytest.raises(InputError, match=r"no config.json in it"):
        Checkpoint(tmp_path, CpuDevice(threads=1), dtype="fp32", executor=executor)
    (tmp_path / "config.json").write_text('{"model_type": "qwen3_vl"}')
    with pytest.raises(InputError, match="can't be loaded") as caught:
        Checkpoint(tmp_path, CpuDevice(threads=1), dtype="fp32", executor=executor)
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="dtype 'int3'"):
        Checkpoint(tmp_path, CpuDevice(threads=1), dtype="int3", executor=executor)


def test_the_model_of_the_framework_is_its_own_simulation() -> None:
    """Oracle: the story of the model, told item by item with dice."""
    from model_map import Chances, framework

    chances, rng, items = Chances(0.5, 0.7, 0.6, 0.4, 4), np.random.default_rng(0), 200_000

    def answers(right: float) -> Any:
        return np.where(rng.random(items) < right, 0, rng.integers(1, chances.answers, items))

    small, large, reasoned = (answers(c) for c in (0.5, 0.6, 0.7))
    agree = small == large
    again = ~agree & (reasoned == large)
    transferred = ~agree & ~again
    final_right = np.where(transferred, (reasoned == 0) | (rng.random(items) < chances.seen), large == 0)
    accuracy, asked = framework(chances)
    assert accuracy == pytest.approx(final_right.mean(), abs=0.005)
    assert asked["small-reason"] == pytest.approx((~agree).mean(), abs=0.005)
    assert asked["transferred"] == pytest.approx(transferred.mean(), abs=0.005)


def test_a_model_without_eyes_refuses_pictures(tmp_path: Path, items: list[dict[str, Any]]) -> None:
    from pair import tokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    config = LlamaConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=80, eos_token_id=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    words: PreTrainedTokenizerFast = tokenizer()
    words.chat_template = None
    words.save_pretrained(tmp_path)
    blind = Checkpoint(tmp_path, CpuDevice(threads=1), dtype="fp32", executor=ThreadPoolExecutor(1))
    answer: Answer = blind.answer(Request("short colour 1 b3", 4))
    assert answer.prompt_tokens == 4
    with pytest.raises(EndpointRequestError, match="reads no images"):
        blind.answer(Request("short", 4, images=(items[0]["picture"],)))
