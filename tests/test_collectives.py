"""Collectives measured by two real gloo processes, in the schema that tables are read from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the extra 'calibrate'")

from calibrate.tables.operators import read_tables


@pytest.mark.slow
def test_two_processes_write_rows_that_fit_reads(tmp_path: Path) -> None:
    out = tmp_path / "collectives.jsonl"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    options = ["--out", str(out), "--most-bytes", "1048576", "--sizes", "4", "--dtype", "fp32"]
    done = subprocess.run(
        [*command, "-m", "calibrate.measure.collectives", *options],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    tables = read_tables([out]).tables
    assert set(tables) == {"all_reduce/fp32", "all_gather/fp32"}
    for table in tables.values():
        assert table.rows == 4
        assert (table.latency_s > 0).all()
        assert (table.op.num_devices == 2).all()
    assert tables["all_reduce/fp32"].op.num_bytes.max() == 1048576
