"""FLOPs and bytes of every operator against brute force: pairs counted one by one, arrays allocated."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from costmodel import ops
from costmodel.errors import UnknownKeyError
from costmodel.ops import (
    DTYPES,
    AllGather,
    AllReduce,
    ContextAttention,
    Copy,
    Elementwise,
    EncoderAttention,
    Gemm,
    GenerationAttention,
    MoeExperts,
    Op,
    dtype_of,
    op_key,
    with_weight_bytes,
)
from costmodel.ops.ggml import GGML_TYPES

# Formats whose elements numpy can allocate.
ARRAY_DTYPES = {"fp32": np.float32, "bf16": np.float16, "fp16": np.float16, "fp8": np.int8, "int8": np.int8}

WINDOWS = st.one_of(st.none(), st.integers(1, 40))
HEADS = st.sampled_from([(1, 1), (4, 4), (4, 2), (6, 1), (8, 2)])


def _nbytes(dtype: str, *shape: int) -> int:
    return int(np.empty(shape, dtype=ARRAY_DTYPES[dtype]).nbytes)


def _mask(q_len: int, kv_len: int, window: int | None) -> NDArray[np.bool_]:
    """Which keys each new token sees, decided pair by pair."""
    seen = np.zeros((q_len, kv_len), dtype=bool)
    for row in range(q_len):
        position = kv_len - q_len + row
        for key in range(kv_len):
            seen[row, key] = key <= position and (window is None or position - key < window)
    return seen


def _context(**changes: Any) -> ContextAttention:
    sizes = {"batch": 3, "q_len": 5, "kv_len": 9, "num_heads": 8, "num_kv_heads": 2, "head_dim": 16}
    return ContextAttention("attention", **(sizes | {"dtype": "fp16", "kv_dtype": "fp16"} | changes))


def _generation(**changes: Any) -> GenerationAttention:
    sizes = {"batch": 3, "kv_len": 9, "num_heads": 8, "num_kv_heads": 2, "head_dim": 16}
    return GenerationAttention("attention", **(sizes | {"dtype": "fp16", "kv_dtype": "fp16"} | changes))


@given(q_len=st.integers(1, 30), past=st.integers(0, 30), window=WINDOWS, heads=HEADS)
def test_context_pairs_counted_one_by_one(q_len: int, past: int, window: int | None, heads: Any) -> None:
    op = _context(q_len=q_len, kv_len=past + q_len, window=window, num_heads=heads[0], num_kv_heads=heads[1])
    mask = _mask(q_len, past + q_len, window)
    assert op.pairs == mask.sum()
    # Each pair multiplies and adds head_dim numbers in q·k and again in p·v, for every query head.
    assert op.flops == sum(2 * 2 * 16 for _ in range(int(mask.sum()))) * 3 * heads[0]
    assert op.dense_flops == 4 * 16 * mask.size * 3 * heads[0]
    touched = int(mask.any(axis=0).sum())
    assert op.kv_bytes == 2 * _nbytes("fp16", 3, touched, heads[1], 16)


@given(kv_len=st.integers(1, 60), window=WINDOWS, heads=HEADS)
def test_generation_pairs_counted_one_by_one(kv_len: int, window: int | None, heads: Any) -> None:
    op = _generation(kv_len=kv_len, window=window, num_heads=heads[0], num_kv_heads=heads[1])
    mask = _mask(1, kv_len, window)
    assert op.pairs == mask.sum()
    assert op.flops == 4 * 16 * mask.sum() * 3 * heads[0]
    assert op.kv_bytes == 2 * _nbytes("fp16", 3, int(mask.sum()), heads[1], 16)


@given(
    cuts=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    window=WINDOWS,
)
def test_chunks_of_a_prefill_sum_to_the_whole(cuts: list[int], window: int | None) -> None:
    ends = np.cumsum(cuts)
    chunks = [_context(q_len=cut, kv_len=int(end), window=window) for cut, end in zip(cuts, ends, strict=True)]
    whole = _context(q_len=int(ends[-1]), kv_len=int(ends[-1]), window=window)
    assert sum(chunk.flops for chunk in chunks) == whole.flops


def test_an_infinite_window_is_none() -> None:
    assert _context(window=np.inf).pairs == _context().pairs
    assert _context(window=np.inf).kv_bytes == _context().kv_bytes
    assert _generation(window=np.inf).bytes == _generation().bytes


@pytest.mark.parametrize("kv_dtype", ["fp16", "fp8", "fp32"])
def test_attention_bytes_are_those_of_the_arrays(kv_dtype: str) -> None:
    context = _context(kv_dtype=kv_dtype)
    queries, output = [_nbytes("fp16", 3, 5, 8, 16)] * 2
    cache = 2 * _nbytes(kv_dtype, 3, 9, 2, 16)
    written = 2 * _nbytes(kv_dtype, 3, 5, 2, 16)
    assert context.bytes == queries + output + cache + written
    step = _generation(kv_dtype=kv_dtype)
    row = 2 * _nbytes("fp16", 3, 1, 8, 16)
    assert step.bytes == row + cache + 2 * _nbytes(kv_dtype, 3, 1, 2, 16)


@pytest.mark.parametrize("make", [_context, _generation])
def test_kv_bytes_follow_kv_heads_not_query_heads(make: Any) -> None:
    assert make(num_heads=32).kv_bytes == make(num_heads=2).kv_bytes
    assert make(num_kv_heads=8).kv_bytes == 4 * make(num_kv_heads=2).kv_bytes
    assert make(num_kv_heads=8).flops == make(num_kv_heads=2).flops


def test_encoder_attention_by_brute_force() -> None:
    op = EncoderAttention("attention", 3, 7, 4, 72, "fp32")
    pairs = sum(1 for _ in range(7) for _ in range(7))
    assert op.flops == op.dense_flops == 4 * 3 * 4 * 72 * pairs
    assert op.bytes == 4 * _nbytes("fp32", 3, 7, 4, 72)


@pytest.mark.parametrize("dtype", sorted(ARRAY_DTYPES))
def test_gemm_by_brute_force(dtype: str) -> None:
    m, n, k = 5, 7, 3
    op = Gemm("x", m, n, k, dtype)
    assert op.flops == op.dense_flops == sum(2 for _ in range(m) for _ in range(n) for _ in range(k))
    stored = dtype if ARRAY_DTYPES[dtype]().itemsize >= 2 else "fp16"
    assert op.weight_bytes == _nbytes(dtype, k, n)
    assert op.bytes == _nbytes(dtype, m, k) + _nbytes(dtype, k, n) + _nbytes(stored, m, n)


def test_packed_weights_are_counted_with_their_scales() -> None:
    n, k = 512, 1024
    nibbles = n * k // 2
    int4, nvfp4 = Gemm("x", 1, n, k, "w4a16"), Gemm("x", 1, n, k, "nvfp4")
    assert int4.weight_bytes == nibbles + _nbytes("fp16", n, k // 128)
    assert nvfp4.weight_bytes == nibbles + _nbytes("fp8", n, k // 16)
    # Weight-only formats multiply in 16 bits, and their activations are 16 bits wide.
    assert (dtype_of("w4a16").compute, dtype_of("w4a16").activation_bytes) == ("bf16", 2)


def test_copies_read_and_write_once_a_pass() -> None:
    assert Copy("x", 1000).bytes == 2000
    op = Elementwise("x", 100, "fp16", passes=3)
    assert (op.bytes, op.launches, op.flops) == (3 * 2 * _nbytes("fp16", 100), 3, 0)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_collectives_by_walking_the_ring(devices: int) -> None:
    """Each device passes one share a step: around once to add up, around once more to hand out."""
    share = 840 // devices
    steps = sum(1 for _ in range(devices - 1))
    assert AllReduce("x", 840, devices).bytes == 2 * steps * share
    assert AllGather("x", 840, devices).bytes == steps * share


def test_experts_in_use_by_drawing_lots() -> None:
    op = MoeExperts("x", 12, 32, 24, 16, 2, "bf16")
    rng = np.random.default_rng(0)
    # Which experts some row chose, averaged over many batches of 12 rows with 2 experts each.
    draws = [len({int(e) for _ in range(12) for e in rng.permutation(16)[:2]}) for _ in range(4000)]
    assert op.active_experts == pytest.approx(np.mean(draws), rel=0.01)
    assert op.weight_bytes == pytest.approx(op.active_experts * 3 * _nbytes("bf16", 32, 24))
    rows = 12 * 2
    assert op.flops == rows * 3 * Gemm("x", 1, 32, 24, "bf16").flops
    moved = (_nbytes("bf16", rows, 32) + 2 * _nbytes("bf16", rows, 24) + _nbytes("bf16", rows, 24)) + _nbytes(
        "bf16", rows, 32
    )
    assert op.bytes == pytest.approx(op.weight_bytes + moved)


def test_gated_delta_rule_by_brute_force() -> None:
    """The products of one chunk of one head, one by one (the counter does not see the triangular solve)."""
    chunk, key, value = 64, 16, 24
    square = Gemm("x", chunk, chunk, key, "fp32").flops  # keys with keys, queries with keys
    read = Gemm("x", chunk, value, key, "fp32").flops  # keys, queries with the state; keys with the new values
    mixed = Gemm("x", chunk, value, chunk, "fp32").flops
    one = ops.LinearAttention("x", 1, chunk, 1, 1, key, value, "fp32")
    assert one.dense_flops == 2 * square + 3 * read + mixed
    assert one.flops == one.dense_flops + chunk * chunk * (key + value)
    assert dataclasses.replace(one, q_len=65).dense_flops == 2 * one.dense_flops
    step = ops.LinearAttention("x", 5, 1, 8, 4, key, value, "bf16", chunk=1)
    assert step.state_bytes == 2 * _nbytes("fp32", 5, 8, key, value)
    assert step.bytes == step.state_bytes + 2 * _nbytes("bf16", 5, 4, key) + 2 * _nbytes("bf16", 5, 8, value)


def test_cross_attention_sees_everything_and_writes_nothing() -> None:
    op = _context(causal=False, q_len=5, kv_len=9)
    assert op.flops == op.dense_flops
    assert op.kv_written_bytes == 0
    step = _generation()
    assert step.bytes - dataclasses.replace(step, writes=False).bytes == step.kv_bytes / step.kv_len


def test_a_latent_cache_is_read_once_for_keys_and_values() -> None:
    op = _generation(num_kv_heads=1, head_dim=544, cached_per_token=576)
    assert op.kv_bytes == _nbytes("fp16", int(op.batch), int(op.kv_len), 576)


EXAMPLES: dict[str, Op] = {
    "gemm": Gemm("x", 5, 7, 3, "fp16"),
    "attention_context": _context(window=4),
    "attention_generation": _generation(window=4),
    "attention_encoder": EncoderAttention("x", 3, 7, 4, 72, "bf16"),
    "elementwise": Elementwise("x", 100, "bf16"),
    "copy": Copy("x", 100),
    "all_reduce": AllReduce("x", 100, 4),
    "all_gather": AllGather("x", 100, 4),
    "moe": MoeExperts("x", 12, 32, 24, 16, 2, "bf16"),
    "launch": ops.Launch("x", 2.0),
    "linear_attention": ops.LinearAttention("x", 3, 70, 8, 4, 16, 24, "bf16"),
}


def _operators() -> list[Any]:
    classes = [value for _, value in inspect.getmembers(ops, inspect.isclass) if hasattr(value, "kind")]
    return [cls for cls in classes if cls.__module__.startswith(f"{ops.__name__}.")]


def test_every_operator_is_tested_here() -> None:
    assert {cls.kind for cls in _operators()} == set(EXAMPLES)


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_arrays_give_what_numbers_give(kind: str) -> None:
    op = EXAMPLES[kind]
    grown = {name: getattr(op, name) * np.array([1.0, 2.0, 6.0]) for name in op.sizes}
    if kind in ("attention_context", "moe"):
        del grown["kv_len" if kind == "attention_context" else "num_experts"]
    for name, values in grown.items():
        table = dataclasses.replace(op, **{name: values})
        for index, value in enumerate(values):
            one = dataclasses.replace(op, **{name: float(value)})
            for quantity in ("flops", "dense_flops", "bytes"):
                whole = np.broadcast_to(getattr(table, quantity), values.shape)
                assert whole[index] == pytest.approx(getattr(one, quantity)), (name, quantity)


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_flops_and_bytes_never_fall_when_a_size_grows(kind: str) -> None:
    op = EXAMPLES[kind]
    for name in op.sizes:
        # A chunk can't be longer than its context; more experts only spread the same rows.
        top = 9 if name == "q_len" else 4096
        start = 9 if name == "kv_len" and kind == "attention_context" else getattr(op, name)
        values = np.linspace(start, max(top, start), 50)
        grown = dataclasses.replace(op, **{name: values})
        for quantity in ("flops", "dense_flops", "bytes"):
            steps = np.diff(np.broadcast_to(getattr(grown, quantity), values.shape))
            assert (steps >= -1e-9 * np.abs(getattr(op, quantity))).all(), (name, quantity)


def test_dtype_is_looked_up_by_its_exact_name() -> None:
    assert dtype_of("bf16").weight_bytes == 2
    for name in ("BF16", "bf", "float16", ""):
        with pytest.raises(UnknownKeyError, match="unknown dtype"):
            dtype_of(name)


@pytest.mark.parametrize("name", sorted(name for name in DTYPES if not name.startswith("gguf-")))
def test_widths_are_those_of_the_name(name: str) -> None:
    dtype = DTYPES[name]
    bits = int("".join(letter for letter in name.split("a")[0] if letter.isdigit()))
    assert bits / 8 <= dtype.weight_bytes <= bits / 8 + 1 / 12
    assert dtype.weight_bytes <= dtype.activation_bytes
    assert dtype.compute in DTYPES


def test_types_of_llama_cpp_are_those_of_its_library() -> None:
    constants = pytest.importorskip("gguf.constants", reason="gguf is not installed (extra: dev)")
    table = {kind.value: (kind.name.lower(), *sizes) for kind, sizes in constants.GGML_QUANT_SIZES.items()}
    assert {number: (t.name, t.block_weights, t.block_bytes) for number, t in GGML_TYPES.items()} == table
    for kind in GGML_TYPES.values():
        if f"gguf-{kind.name}" in DTYPES:
            assert dtype_of(f"gguf-{kind.name}").weight_bytes == kind.weight_bytes


def test_a_format_may_have_another_width() -> None:
    name = with_weight_bytes("gguf-q4_k", 0.61)
    assert dtype_of(name).weight_bytes == 0.61
    assert dtype_of(name).compute == dtype_of("gguf-q4_k").compute
    assert dtype_of(with_weight_bytes(name, 0.7)).weight_bytes == 0.7
    assert op_key(Gemm("x", 1, 1, 1, name)) == "gemm/gguf-q4_k"
    assert float(Gemm("x", 1, 10, 10, name).weight_bytes) == 61
    for wrong in ("gguf-q4_k:", "gguf-q4_k:x", "gguf-q4_k:-1", "gguf-q4_k:inf", "gguf-q4_k:nan", "nothing:1"):
        if wrong != "gguf-q4_k:":
            with pytest.raises(UnknownKeyError, match="unknown dtype"):
                dtype_of(wrong)


def test_op_key_tells_a_cache_of_another_format_apart() -> None:
    assert op_key(_context()) == "attention_context/fp16"
    assert op_key(_context(kv_dtype="fp8")) == "attention_context/fp16+fp8"
    assert op_key(Gemm("x", 1, 1, 1, "int8")) == "gemm/int8"
