"""Models by their hub id, from a server on this machine that answers as the hub does."""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tiny_families import TINY

from costmodel.checkpoints.hub import parse_id
from costmodel.errors import CheckpointError, ConfigError, InputError, UnknownKeyError
from costmodel.families import read_config
from costmodel.families.sources import load_model


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


CONFIG = TINY["llama"].config
PATH = "/{repo_id}/resolve/{revision}/{filename}"
BROKEN = [b"", b"[]", b"\xff", b"[" * 100_000, b"{}", _json({"model_type": "mamba"}), _json({**CONFIG, "head_dim": -1})]
NO_IDS = ["a", "a/b/c", "/a", "../b", "a/..", "a/b@", "-a/b", "a/b c", "a/" + "b" * 97, "a\n/b"]


@dataclass
class Hub:
    """What the server has, and what was asked of it."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    status: int = 200
    code: str = ""
    knows_ranges: bool = True
    endless: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list)
    sent: int = 0


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = self.path.rpartition("/resolve/")[2].partition("/")[2]
            hub.asked.append((self.path, self.headers.get("Range", "")))
            content = hub.files.get(name)
            if hub.status != 200 or content is None:
                self.send_response(404 if hub.status == 200 else hub.status)
                if code := hub.code or ("EntryNotFound" if hub.status == 200 else ""):
                    self.send_header("X-Error-Code", code)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            last = int(self.headers["Range"].rpartition("-")[2])
            whole = content if not hub.knows_ranges else content[: last + 1]
            self.send_response(206 if hub.knows_ranges else 200)
            self.send_header("Content-Length", str(10**12 if hub.endless else len(whole)))
            self.end_headers()
            self._send(whole)

        def _send(self, content: bytes) -> None:
            try:
                self.wfile.write(content)
                hub.sent += len(content)
                while hub.endless:
                    self.wfile.write(bytes(2**16))
                    hub.sent += 2**16
            except OSError:
                pass

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub", reason="huggingface_hub is not installed (extra: hub)")
    from huggingface_hub import constants

    state = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(state))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", state.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", state.url + PATH)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _shard(tensors: dict[str, list[int]], *, data: int | None = None) -> bytes:
    entries, at = {}, 0
    for name, shape in tensors.items():
        size = 2
        for side in shape:
            size *= side
        entries[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries).encode()
    return struct.pack("<Q", len(header)) + header + bytes(at if data is None else data)


def test_a_config_alone(hub: Hub) -> None:
    hub.files = {"config.json": _json(CONFIG)}
    spec = load_model("someone/tiny")
    assert spec.decoder == read_config(CONFIG, name="x").decoder
    assert (spec.name, spec.source) == ("someone/tiny", f"{hub.url}/someone/tiny")
    assert spec.stored is None
    assert {path.rpartition("/")[2] for path, _ in hub.asked} >= {"config.json", "preprocessor_config.json"}


def test_image_settings_are_read_beside_it(hub: Hub) -> None:
    config = {**TINY["qwen2_vl"].config}
    settings = {"min_pixels": 1024, "max_pixels": 4096, "patch_size": 4, "merge_size": 2, "temporal_patch_size": 2}
    hub.files = {"config.json": _json(config), "preprocessor_config.json": _json(settings)}
    assert load_model("someone/tiny") == read_config(
        config, name="someone/tiny", image_settings=settings, source=f"{hub.url}/someone/tiny"
    )


def test_a_revision(hub: Hub) -> None:
    hub.files = {"config.json": _json(CONFIG)}
    load_model("someone/tiny@v1.0")
    assert all("/resolve/v1.0/" in path for path, _ in hub.asked)


def test_headers_are_read_and_weights_are_not(hub: Hub) -> None:
    # The longer of the two headers does not fit into the first request.
    long = {f"model.layers.0.mlp.experts.{i}.up_proj.weight": [8, 8] for i in range(3000)}
    shards = {
        "model-00001-of-00002.safetensors": _shard({"model.embed_tokens.weight": [160, 64]}, data=2**24),
        "model-00002-of-00002.safetensors": _shard(long, data=2**24),
    }
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    hub.files = {"config.json": _json(CONFIG), "model.safetensors.index.json": _json(index), **shards}
    stored = load_model("someone/tiny").stored
    assert stored is not None
    assert stored.embedding.wide_elements == 160 * 64
    assert stored.experts.wide_elements == 3000 * 64
    assert hub.sent < 2**20
    assert all(asked for path, asked in hub.asked)


def test_a_server_without_ranges_is_cut_off(hub: Hub) -> None:
    hub.knows_ranges = False
    hub.files = {"config.json": _json(CONFIG), "model.safetensors": _shard({"lm_head.weight": [160, 64]}, data=2**26)}
    stored = load_model("someone/tiny").stored
    assert stored is not None
    assert stored.head.wide_elements == 160 * 64


def test_a_config_without_end_is_refused(hub: Hub) -> None:
    hub.files, hub.endless = {"config.json": b"{"}, True
    with pytest.raises(CheckpointError, match=r"config\.json is larger than"):
        load_model("someone/tiny")


@pytest.mark.parametrize(
    ("status", "code", "error", "word"),
    [
        (404, "RepoNotFound", UnknownKeyError, "no such model"),
        (401, "", UnknownKeyError, "no such model"),
        (403, "GatedRepo", CheckpointError, "accept its terms"),
        (404, "RevisionNotFound", CheckpointError, "has no revision"),
        (404, "EntryNotFound", CheckpointError, "has no config.json"),
        (404, "nothing known", CheckpointError, "has no config.json"),
        (500, "", CheckpointError, "answered 500"),
        (429, "", CheckpointError, "answered 429"),
    ],
)
def test_refusals_are_one_line(hub: Hub, status: int, code: str, error: type[InputError], word: str) -> None:
    hub.status, hub.code = status, code
    with pytest.raises(error) as caught:
        load_model("someone/tiny@main")
    assert word in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_hub_that_is_not_there_is_said_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9" + PATH)
    started = time.monotonic()
    with pytest.raises(UnknownKeyError, match=r"127\.0\.0\.1:9 can't be reached.*nearest: Qwen/Qwen3-VL-8B-Instruct"):
        load_model("Qwen/Qwen3-VL-8B")
    assert time.monotonic() - started < 10


def test_without_a_hub_the_cache_serves(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    snapshot = tmp_path / "cache" / "models--someone--tiny" / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(_json(CONFIG))
    refs = tmp_path / "cache" / "models--someone--tiny" / "refs"
    refs.mkdir()
    (refs / "main").write_text("abc")
    assert load_model("someone/tiny").decoder == read_config(CONFIG, name="x").decoder
    assert hub.asked == []


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnknownKeyError, match=r"install vlm-costmodel\[hub\]; nearest: Qwen/Qwen3-VL-8B-Instruct"):
        load_model("Qwen/Qwen3-VL-8B")


@pytest.mark.parametrize("content", BROKEN)
def test_what_is_not_a_config(hub: Hub, content: bytes) -> None:
    hub.files = {"config.json": content}
    with pytest.raises(InputError) as caught:
        load_model("someone/tiny")
    assert str(caught.value).isprintable()
    assert isinstance(caught.value, ConfigError) == content.startswith(b"{")


@pytest.mark.parametrize("text", NO_IDS)
def test_what_is_no_id(text: str) -> None:
    assert parse_id(text) is None
