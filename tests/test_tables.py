"""Tables of measurements: what is read, what is dropped by name and number, what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibrate.tables.columns import Columns, read_columns, write_columns
from calibrate.tables.domain import in_domain, select_domain
from calibrate.tables.operators import read_tables, shape_matrix
from costmodel.errors import InputError, MeasurementError
from costmodel.ops import ContextAttention, Gemm, GenerationAttention

HEADER = "op,dtype,m,n,k,latency_s\n"


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def gemm_rows(count: int = 30, dtype: str = "bf16") -> str:
    rows = [f"gemm,{dtype},{16 * (i + 1)},4096,4096,{1e-5 * (i + 1)}" for i in range(count)]
    return HEADER + "\n".join(rows) + "\n"


def test_one_table_per_operator_and_format(tmp_path: Path) -> None:
    text = gemm_rows(4) + gemm_rows(3, "fp8").removeprefix(HEADER)
    tables = read_tables([write(tmp_path / "t.csv", text)])
    assert {key: table.rows for key, table in tables.tables.items()} == {"gemm/bf16": 4, "gemm/fp8": 3}
    assert not tables.dropped
    assert tables.rows == 7


def test_all_rows_of_one_format_make_one_table(tmp_path: Path) -> None:
    assert list(read_tables([write(tmp_path / "t.csv", gemm_rows())]).tables) == ["gemm/bf16"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("gemm,bf16,1,256,256,-1e-5", "latency_s is not positive"),
        ("gemm,bf16,1,256,256,0", "latency_s is not positive"),
        ("gemm,bf16,1,256,256,nan", "latency_s is not a number"),
        ("gemm,bf16,1,256,256,", "latency_s is not a number"),
        ("gemm,bf16,1,256,256,inf", "latency_s is not a number"),
        ("gemm,bf16,0,256,256,1e-5", "gemm: m is not positive"),
        ("gemm,bf16,1,,256,1e-5", "gemm: n is not positive"),
        ("gemm,bfloat16,1,256,256,1e-5", "gemm: unknown dtype 'bfloat16'"),
        ("gem,bf16,1,256,256,1e-5", "unknown operator 'gem'"),
    ],
)
def test_bad_rows_are_named_and_counted(tmp_path: Path, line: str, reason: str) -> None:
    tables = read_tables([write(tmp_path / "t.csv", gemm_rows() + f"{line}\n{line}\n")])
    assert tables.dropped == {reason: 2}
    assert tables.tables["gemm/bf16"].rows == 30


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("op,dtype,m,n,k,latency\ngemm,bf16,1,2,3,4\n", "'latency' is not in seconds"),
        ("op,dtype,m,n,k,latency_ms\ngemm,bf16,1,2,3,4\n", "'latency_ms' is not in seconds"),
        ("op,dtype,m,n,k,latency_s,latency_ms\ngemm,bf16,1,2,3,4,5\n", "'latency_ms' is not in seconds"),
        ("op,dtype,m,n,k\ngemm,bf16,1,2,3\n", "lacks column latency_s"),
        ("dtype,m,n,k,latency_s\nbf16,1,2,3,4\n", "lacks column op"),
        ("op,dtype,m,n,latency_s\ngemm,bf16,1,2,3\n", "rows of gemm lack column k"),
        (HEADER, "no usable row is left"),
        (HEADER + "gemm,bf16,1,2,3,-4\n", "no usable row is left (1 rows: latency_s is not positive)"),
    ],
)
def test_useless_tables_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(MeasurementError) as caught:
        read_tables([write(tmp_path / "t.csv", text)])
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MeasurementError, match=r"got ending '\.pkl'"):
        read_tables([write(tmp_path / "t.pkl", "x")])
    with pytest.raises(MeasurementError, match="no such file"):
        read_tables([tmp_path / "absent.csv"])
    with pytest.raises(MeasurementError, match="at least one file"):
        read_tables([])
    (tmp_path / "t.csv").write_bytes(b"\xff\xfe\x00op")
    with pytest.raises(InputError, match="not a text file"):
        read_tables([tmp_path / "t.csv"])
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    with pytest.raises(MeasurementError, match="no readable Parquet"):
        read_tables([write(tmp_path / "t.parquet", "PAR1 no")])


def test_repeats_become_their_median(tmp_path: Path) -> None:
    lines = [f"gemm,bf16,8,256,256,{time}" for time in (3e-6, 1e-6, 2e-6)]
    lines += [f"gemm,bf16,9,256,256,{time}" for time in (1e-6, 2e-6)]
    table = read_tables([write(tmp_path / "t.csv", HEADER + "\n".join(lines))]).tables["gemm/bf16"]
    np.testing.assert_allclose(table.latency_s, [2e-6, 1.5e-6])
    np.testing.assert_allclose(table.op.m, [8, 9])


def test_repeats_in_two_units_are_dropped(tmp_path: Path) -> None:
    text = gemm_rows() + "gemm,bf16,8,256,256,1e-6\ngemm,bf16,8,256,256,1e-3\n"
    tables = read_tables([write(tmp_path / "t.csv", text)])
    ((reason, count),) = tables.dropped.items()
    assert "mixed units" in reason
    assert count == 2
    assert tables.tables["gemm/bf16"].rows == 30


def test_journal_lines(tmp_path: Path) -> None:
    rows = [
        {"kind": "header", "environment": {}},
        {"op": "gemm", "dtype": "fp32", "m": 1, "n": 2, "k": 3, "latency_s": 1e-5, "raw_s": [1e-5], "throttled": False},
        {"op": "gemm", "dtype": "fp32", "m": 2, "n": 2, "k": 3, "latency_s": 1e-5, "throttled": True},
        {"op": "slice", "latency_s": 1.0},
        {"op": "anchor", "latency_s": 1.0},
        {"op": "copy", "bytes": 1000, "latency_s": 1e-6},
        {"op": "launch", "latency_s": 1e-6},
        {"op": "launch", "latency_s": 2e-6},
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows) + '{"op": "gemm", "m": 1, "laten'
    tables = read_tables([write(tmp_path / "t.jsonl", text)])
    assert {key: table.rows for key, table in tables.tables.items()} == {
        "copy/fp32": 1,
        "gemm/fp32": 1,
        "launch/fp32": 2,
    }
    assert tables.dropped == {"throttled or contended": 1, "line is not JSON": 1}


def test_attention_rows(tmp_path: Path) -> None:
    text = (
        "op,dtype,kv_dtype,batch,q_len,kv_len,num_heads,num_kv_heads,head_dim,window,latency_s\n"
        "attention_context,bf16,,2,64,64,8,2,128,0,1e-5\n"
        "attention_context,bf16,,2,64,64,8,2,128,32,1e-5\n"
        "attention_generation,bf16,fp8,2,1,512,8,2,128,,1e-5\n"
        "attention_encoder,bf16,,2,64,,8,,72,,1e-5\n"
    )
    tables = read_tables([write(tmp_path / "t.csv", text)]).tables
    assert list(tables) == ["attention_context/bf16", "attention_encoder/bf16", "attention_generation/bf16+fp8"]
    context, generation = tables["attention_context/bf16"].op, tables["attention_generation/bf16+fp8"].op
    assert isinstance(context, ContextAttention)
    assert isinstance(generation, GenerationAttention)
    assert sorted(np.asarray(context.window)) == [32, np.inf]
    assert in_domain(context).sum() == 1
    assert generation.kv_dtype == "fp8"


def test_domain_is_what_layers_use(tmp_path: Path) -> None:
    text = gemm_rows() + "gemm,bf16,8,128,4096,1e-6\ngemm,bf16,32768,4096,4096,1e-2\n"
    selected = select_domain(read_tables([write(tmp_path / "t.csv", text)]))
    assert selected.outside == {"gemm/bf16": 2}
    assert selected.tables["gemm/bf16"].rows == 30


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_written_columns_read_the_same(tmp_path: Path, ending: str) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    columns = read_columns(write(tmp_path / "t.csv", gemm_rows(5)))
    write_columns(columns, tmp_path / f"again{ending}")
    again = read_columns(tmp_path / f"again{ending}")
    for name, values in columns.numbers.items():
        np.testing.assert_array_equal(again.numbers[name], values)
    np.testing.assert_array_equal(again.texts["op"], columns.texts["op"])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3), st.floats(1e-6, 2e-6)), min_size=1, max_size=40))
def test_medians_against_a_slow_reference(rows: Sequence[tuple[int, int, float]]) -> None:
    from calibrate.tables.operators import group_columns

    m, n, latency_s = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    texts = {"op": np.full(len(rows), "gemm"), "dtype": np.full(len(rows), "bf16"), "kv_dtype": np.full(len(rows), "")}
    columns = Columns(
        {"m": m, "n": n, "k": np.full(len(rows), 7.0), "latency_s": latency_s}, texts, np.zeros(len(rows), bool)
    )
    table = group_columns(columns, label="x").tables["gemm/bf16"]
    assert isinstance(table.op, Gemm)
    for shape, median_s in zip(shape_matrix(table.op).tolist(), table.latency_s.tolist(), strict=True):
        same = [time for a, b, time in rows if (a, b) == (shape[0], shape[1])]
        assert median_s == pytest.approx(float(np.median(same)))
