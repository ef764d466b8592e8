"""Bytes of checkpoints as their safetensors headers tell them, against state dicts that transformers saved."""

from __future__ import annotations

import copy
import json
import random
import struct
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_families import TINY

from costmodel import program
from costmodel.checkpoints.safetensors import folder_tensors, header_tensors
from costmodel.errors import CheckpointError, ConfigError
from costmodel.families import read_config, supported_model_types
from costmodel.families.sources import load_model
from costmodel.memory import weight_bytes
from costmodel.ops import dtype_of, plain_name
from costmodel.program import Options
from costmodel.specs.model import ModelSpec

NAMES = sorted(name for name in TINY if TINY[name].config["model_type"] in supported_model_types())


@pytest.fixture(scope="module")
def saved(torch: Any, hf_class: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """Folder that transformers writes for a small model of an entry, and the model."""
    built: dict[str, tuple[Path, Any]] = {}

    def build(name: str) -> tuple[Path, Any]:
        if name not in built:
            cls = hf_class(TINY[name].config["model_type"])
            model = cls(cls.config_class(**copy.deepcopy(TINY[name].config)))
            folder = tmp_path_factory.mktemp("checkpoint")
            # Small shards, so that there is an index.
            model.save_pretrained(folder, max_shard_size="200KB")
            built[name] = (folder, model)
        return built[name]

    return build


def _held(model: Any) -> int:
    """Bytes of the state dict, tied tensors once."""
    storages = {tensor.data_ptr(): tensor for tensor in model.parameters()}
    return sum(tensor.numel() * 4 for tensor in storages.values())


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_those_of_the_real_state_dict(name: str, saved: Any) -> None:
    folder, model = saved(name)
    spec = load_model(folder)
    assert spec.stored is not None
    assert spec.quantization == "none"
    options = Options("fp32", "fp32", fused=True)
    assert weight_bytes(spec, options) == pytest.approx(_held(model), rel=0.005)
    # By the config alone the same; only of an audio tower it doesn't say how large it is.
    audio = sum(4 * tensor.numel() for key, tensor in model.named_parameters() if "audio" in key)
    by_config = spec.model_copy(update={"stored": None, "unused_parameters": 0})
    assert weight_bytes(by_config, options) == pytest.approx(_held(model) - audio, rel=0.005)


@pytest.mark.parametrize("name", NAMES)
def test_every_tensor_is_in_its_part(name: str, saved: Any) -> None:
    spec = load_model(saved(name)[0])
    assert spec.stored is not None
    decoder = spec.decoder
    expected = {
        "vision": spec.vision.parameters if spec.vision else 0,
        "connector": spec.connector.parameters if spec.connector else 0,
        "embedding": decoder.embedding_parameters,
        "head": decoder.head_parameters,
        "experts": decoder.expert_parameters,
        "layers": decoder.layer_parameters - decoder.expert_parameters,
    }
    got = {part: entry.wide_elements for part, entry in spec.stored.parts().items()}
    for part, parameters in expected.items():
        # Entries that are no parameters of a part: norms beside a tower, eight image tokens of Llama 3.2.
        assert got[part] == pytest.approx(parameters, rel=0.005, abs=520), part


@pytest.mark.parametrize("name", ["llama", "qwen3_vl_moe"])
def test_dtypes_and_bytes_are_those_of_the_library(name: str, saved: Any) -> None:
    safetensors = pytest.importorskip("safetensors")
    folder, _ = saved(name)
    expected = {}
    for file in folder.glob("*.safetensors"):
        with safetensors.safe_open(file, framework="pt") as content:
            for key in content.keys():  # noqa: SIM118 - not a mapping
                tensor = content.get_tensor(key)
                expected[key] = (content.get_slice(key).get_dtype(), tensor.numel(), tensor.nbytes)
    tensors = folder_tensors(folder)
    assert tensors is not None
    assert {tensor.name: (tensor.format, tensor.elements, tensor.num_bytes) for tensor in tensors} == expected


def _write(path: Path, tensors: dict[str, tuple[str, list[int], int]]) -> None:
    """A file with a header and no data to speak of: a hole in the place of the weights."""
    entries, at = {}, 0
    for name, (kind, shape, size) in tensors.items():
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + at)


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}


def _gptq(folder: Path, *, group: int = 32) -> ModelSpec:
    """A checkpoint of a small Llama in the layout of GPTQ: packed words, scales, zeros and indexes per matrix."""
    config = {**TINY["llama"].config, "quantization_config": GPTQ}
    (folder / "config.json").write_text(json.dumps(config))
    tensors: dict[str, tuple[str, list[int], int]] = {
        "model.embed_tokens.weight": ("BF16", [160, 64], 160 * 64 * 2),
        "lm_head.weight": ("BF16", [160, 64], 160 * 64 * 2),
        "model.norm.weight": ("BF16", [64], 128),
    }
    for layer in range(3):
        at = f"model.layers.{layer}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}.{norm}.weight"] = ("BF16", [64], 128)
        sizes = {"q_proj": (64, 64), "k_proj": (64, 32), "v_proj": (64, 32), "o_proj": (64, 64)}
        sizes |= {"gate_proj": (64, 112), "up_proj": (64, 112), "down_proj": (112, 64)}
        for name, (rows, columns) in sizes.items():
            groups = -(-rows // group)
            tensors[f"{at}.{name}.qweight"] = ("I32", [rows // 8, columns], rows * columns // 2)
            tensors[f"{at}.{name}.qzeros"] = ("I32", [groups, columns // 8], groups * columns // 2)
            tensors[f"{at}.{name}.scales"] = ("F16", [groups, columns], groups * columns * 2)
            tensors[f"{at}.{name}.g_idx"] = ("I32", [rows], rows * 4)
    _write(folder / "model.safetensors", tensors)
    return load_model(folder)


def test_a_quantised_checkpoint_has_its_true_bytes(tmp_path: Path) -> None:
    spec = _gptq(tmp_path)
    assert spec.quantization == "w4a16"
    tensors = folder_tensors(tmp_path)
    assert tensors is not None
    options = Options("bf16", "bf16", fused=True, quantization="w4a16")
    assert weight_bytes(spec, options) == sum(tensor.num_bytes for tensor in tensors)
    nominal = weight_bytes(spec.model_copy(update={"stored": None}), options)
    assert weight_bytes(spec, options) > 1.05 * nominal
    # A step streams the layers as they are stored; head and router keep their 16 bits.
    run = program.as_stored(options, spec)
    layers = sum(t.num_bytes for t in tensors if "layers" in t.name)
    step = program.decode_step(spec, context_tokens=10, batch=1, options=run)
    read = sum(c.count * float(op.weight_bytes) for c in step.components for op in c.ops if hasattr(op, "weight_bytes"))
    assert read == pytest.approx(layers + 160 * 64 * 2, rel=0.02)
    assert plain_name(run.linear_dtype) == "w4a16"
    assert run.head_dtype == "bf16"
    assert dtype_of(run.linear_dtype).weight_bytes > dtype_of("w4a16").weight_bytes


def test_another_scheme_than_the_files_is_counted_by_parameters(tmp_path: Path) -> None:
    spec = _gptq(tmp_path)
    plain = Options("bf16", "bf16", fused=True)
    assert program.as_stored(plain, spec) == plain
    assert weight_bytes(spec, plain) == 2 * spec.parameters


SCHEMES = [
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "w8a8-fp8"),
    ({"quant_method": "awq", "bits": 4}, "w4a16"),
    ({"quant_method": "gptq", "bits": 8}, "w8a16"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "w4a16"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "w8a8-int8"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "w4a4-nvfp4"),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {
                "group_0": {
                    "weights": {"type": "int", "num_bits": 8},
                    "input_activations": {"type": "int", "num_bits": 8},
                }
            },
        },
        "w8a8-int8",
    ),
]


@pytest.mark.parametrize(("quantization", "scheme"), SCHEMES)
def test_schemes_by_the_config(quantization: dict[str, Any], scheme: str) -> None:
    config = {**TINY["llama"].config, "quantization_config": quantization}
    spec = read_config(config, name="x")
    assert spec.quantization == scheme
    assert scheme in program.QUANTIZATIONS
    # The architecture is the same.
    assert spec.fingerprint() == read_config(TINY["llama"].config, name="x").fingerprint()


@pytest.mark.parametrize(
    ("quantization", "path"),
    [
        ({"quant_method": "hqq"}, "quantization_config.quant_method"),
        ({"quant_method": "gptq", "bits": 3}, "quantization_config.bits"),
        ({"quant_method": "bitsandbytes"}, "quantization_config.load_in_8bit"),
        ({"quant_method": "compressed-tensors", "config_groups": {}}, "quantization_config.config_groups"),
        ([], "quantization_config"),
    ],
)
def test_an_unknown_scheme_is_never_taken_for_16_bits(quantization: Any, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_config({**TINY["llama"].config, "quantization_config": quantization}, name="x")
    assert caught.value.path == path


# Untrusted headers.


def _refused(folder: Path, *words: str) -> None:
    started = time.monotonic()
    with pytest.raises(CheckpointError) as caught:
        load_model(folder)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 400
    for word in words:
        assert word in str(caught.value)
    assert time.monotonic() - started < 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(TINY["llama"].config))
    return tmp_path


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "expected a safetensors header"),
        (b"\x10", "expected a safetensors header"),
        (struct.pack("<Q", 2 * 10**9) + b"{}", "header of 2000000000 bytes"),
        (struct.pack("<Q", 2**64 - 1), "header of"),
        (struct.pack("<Q", 100) + b'{"a":', "cut off"),
        (struct.pack("<Q", 6) + b"[1, 2]", "expected an object"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "not JSON"),
        (struct.pack("<Q", 4) + b'{"a\xff', "not JSON"),
    ],
)
def test_hostile_prefixes(folder: Path, content: bytes, word: str) -> None:
    (folder / "model.safetensors").write_bytes(content)
    _refused(folder, "model.safetensors", word)


ENTRY: dict[str, Any] = {"dtype": "BF16", "shape": [2, 3], "data_offsets": [0, 12]}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dtype": "F7"}, "dtype"),
        ({"dtype": None}, "dtype"),
        ({"shape": [-1]}, "shape"),
        ({"shape": [2**40, 2**40]}, "elements"),
        ({"shape": [1] * 1000}, "shape"),
        ({"shape": [True, 6]}, "shape"),
        ({"shape": "6"}, "shape"),
        ({"data_offsets": [0, 13]}, "data_offsets"),
        ({"data_offsets": [12, 0]}, "data_offsets"),
        ({"data_offsets": [0]}, "data_offsets"),
        ({"data_offsets": [2**47, 2**47 + 12]}, "cut off"),
        ({"data_offsets": [0, 10**400]}, "data_offsets"),
    ],
)
def test_entries_that_contradict_themselves(folder: Path, change: dict[str, Any], word: str) -> None:
    header = json.dumps({"model.norm.weight": ENTRY | change}).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(12))
    _refused(folder, "model.norm.weight", word)


@pytest.mark.parametrize(
    ("weight_map", "word"),
    [
        ({"a": "../../etc/passwd.safetensors"}, "expected a .safetensors file"),
        ({"a": "/etc/passwd"}, "expected a .safetensors file"),
        ({"a": 3}, "expected a .safetensors file"),
        ({}, "weight_map"),
        ([], "weight_map"),
        ({"a": "model-00001-of-00002.safetensors"}, "not in the folder"),
        ({str(i): f"model-{i}.safetensors" for i in range(5000)}, "at most 4096"),
    ],
)
def test_hostile_indexes(folder: Path, weight_map: Any, word: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    _refused(folder, "index.json", word)


def test_a_thousand_changed_headers(torch: Any, saved: Any) -> None:
    """Any byte of a real header changed, or any place cut: a list of tensors or one line."""
    file = sorted(saved("qwen3_vl_moe")[0].glob("*.safetensors"))[0]
    raw = file.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header, rng, outcomes = raw[8 : 8 + length], random.Random(3), Counter[str]()
    for _ in range(1000):
        mutant = bytearray(header)
        for _ in range(rng.randint(1, 2)):
            mutant[rng.randrange(length)] = rng.randrange(256)
        if rng.random() < 0.2:
            del mutant[rng.randrange(length) :]
        try:
            header_tensors(bytes(mutant), len(mutant), where="x", data_bytes=len(raw) - 8 - length)
            outcomes["read"] += 1
        except CheckpointError as error:
            outcomes["refused" if str(error).isprintable() else "unreadable"] += 1
    assert "unreadable" not in outcomes
    assert min(outcomes.values()) > 50
