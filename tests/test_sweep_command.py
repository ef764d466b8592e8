"""``costmodel sweep``: what is written, in shards, after a kill, by whom; lists and ranges."""

from __future__ import annotations

import csv
import io
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPO
from hypothesis import given
from hypothesis import strategies as st
from made_profiles import SMALL, preset
from typer.testing import CliRunner

from costmodel.errors import CostModelError, InputError, UnknownKeyError, WorkloadError
from costmodel.files import atomic_path
from costmodel.profiles import load_engine, load_hardware
from costmodel.sweeping import plan as plan_module
from costmodel.sweeping import sweep
from costmodel.sweeping.cli import app
from costmodel.sweeping.plan import Job, SweepPlan
from costmodel.sweeping.values import counts, words

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is an extra")

COMMAND = [
    "--model", SMALL, "--hardware", "h100-sxm,l40s", "--engine", "vllm-0.7.2", "--image", "none,640x480",
    "--prompt-tokens", "64:256:x2", "--output-tokens", "1,16:64:16", "--batch", "1,8", "--tp", "1,3",
]  # fmt: skip
ROWS = 2 * 2 * 3 * 5 * 2 * 2


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of at most ten rows."""
    monkeypatch.setattr(plan_module, "_LEAST_ROWS", 10)


def _run(*arguments: str) -> str:
    """Standard output and error of a run in this process; its error is raised."""
    result = CliRunner().invoke(app, list(arguments))
    if isinstance(result.exception, CostModelError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def _rows(file: Path) -> list[dict[str, object]]:
    return pq.read_table(file).to_pylist()  # type: ignore[no-any-return]


def test_rows_are_those_of_sweep(tmp_path: Path) -> None:
    out = tmp_path / "all.parquet"
    said = _run(*COMMAND, "--out", str(out))
    assert f"{ROWS} configurations = 2 hardware x 2 tp x 2 images x 3 prompt_tokens" in said
    rows = _rows(out)
    assert len(rows) == ROWS
    assert [path.name for path in tmp_path.iterdir()] == ["all.parquet"]
    engine = load_engine("vllm-0.7.2")
    for key in ("h100-sxm", "l40s"):
        expected = sweep(
            preset(SMALL), load_hardware(key), engine, images=["none", "640x480"], prompt_tokens=[64, 128, 256],
            output_tokens=[1, 16, 32, 48, 64], batch=[1, 8],
        )  # fmt: skip
        mine = [row for row in rows if row["hardware"] == key and row["tp"] == 1]
        for row, one in zip(mine, expected, strict=True):
            del one["images"]
            assert {name: row[name] for name in one} == one
            assert row["problem"] is None
    refused = [row for row in rows if row["tp"] == 3]
    assert len(refused) == ROWS // 2
    assert all("divisor" in str(row["problem"]) and row["total_s"] is row["fits"] is None for row in refused)


def test_csv_and_folders_hold_the_same(tmp_path: Path, small_parts: None) -> None:
    for name in ("a.parquet", "a.csv", "folder"):
        _run(*COMMAND, "--out", str(tmp_path / name))
    whole = _rows(tmp_path / "a.parquet")
    with (tmp_path / "a.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [list(line) for line in lines] == [list(row) for row in whole]
    for line, row in zip(lines, whole, strict=True):
        assert line["total_s"] == "" if row["total_s"] is None else float(line["total_s"]) == row["total_s"]
        assert line["problem"] == (row["problem"] or "")
    parts = sorted((tmp_path / "folder").glob("part-*.parquet"))
    assert len(parts) == len(list(parts)) >= ROWS // 10
    assert [row for part in parts for row in _rows(part)] == whole


def test_shards_join_to_the_whole(tmp_path: Path, small_parts: None) -> None:
    _run(*COMMAND, "--out", str(tmp_path / "whole.parquet"))
    places = [tmp_path / "a" / "x.parquet", tmp_path / "b" / "x.parquet"]
    for index, place in enumerate(places, start=1):
        said = _run(*COMMAND, "--out", str(place), "--shard", f"{index}/2")
        assert "still missing" in said
    folders = [str(place.with_name("x.parquet.parts")) for place in places]
    with pytest.raises(InputError, match=r"of 2\d parts are missing \(1, 3"):
        _run("merge", folders[0], "--out", str(tmp_path / "half.parquet"))
    _run("merge", *folders, "--out", str(tmp_path / "joined.parquet"))
    assert _rows(tmp_path / "joined.parquet") == _rows(tmp_path / "whole.parquet")


_KILLED = """
import os, signal, sys
from costmodel.sweeping import plan, run
plan._LEAST_ROWS = 10
real, seen = run.part_tables, []
def killing(job, part):
    seen.append(part)
    for table in real(job, part):
        yield table
        if len(seen) == 5:
            os.kill(os.getpid(), signal.SIGKILL)
run.part_tables = killing
from costmodel.sweeping.cli import app
app(sys.argv[1:])
"""


def test_a_killed_sweep_goes_on(tmp_path: Path, small_parts: None) -> None:
    """Killed while it writes its fifth part: four are kept, nothing of the fifth is taken for a part."""
    out = tmp_path / "s.parquet"
    command = [sys.executable, "-c", _KILLED, *COMMAND, "--out", str(out)]
    killed = subprocess.run(command, cwd=REPO, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(list(tmp_path.glob("s.parquet.parts/part-*.parquet"))) == 4
    assert not out.exists()
    said = _run(*COMMAND, "--out", str(out))
    assert "4 were there" in said
    _run(*COMMAND, "--out", str(tmp_path / "t.parquet"))
    assert out.read_bytes() == (tmp_path / "t.parquet").read_bytes()
    assert not (tmp_path / "s.parquet.parts" / "sweep.json").exists()


def test_a_part_that_is_not_whole_is_computed_again(tmp_path: Path, small_parts: None) -> None:
    folder = tmp_path / "folder"
    _run(*COMMAND, "--out", str(folder))
    whole = {path.name: path.read_bytes() for path in folder.glob("part-*")}
    (folder / "part-000003.parquet").write_bytes(whole["part-000003.parquet"][:100])
    (folder / "part-000004.parquet").write_bytes(b"")
    (folder / "part-000005.parquet").unlink()
    assert "3 parts computed" in _run(*COMMAND, "--out", str(folder))
    assert {path.name: path.read_bytes() for path in folder.glob("part-*")} == whole


def test_parts_of_another_sweep_are_not_mixed_in(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    _run(*COMMAND, "--out", str(folder))
    with pytest.raises(InputError, match="another sweep"):
        _run(*COMMAND, "--dtype", "fp16", "--out", str(folder))
    (tmp_path / "x.csv").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        _run(*COMMAND, "--out", str(tmp_path / "x.csv"))


def test_a_changed_profile_is_another_sweep(tmp_path: Path) -> None:
    profile = load_hardware("h100-sxm").model_copy(update={"run_log_sd": 0.0})
    plan = SweepPlan(model=(SMALL,), hardware=("p",), engine=("vllm-0.7.2",), prompt_tokens=(5,), output_tokens=(5,))
    digests = set()
    for sd in (0.0, 0.1):
        changed = profile.model_copy(update={"run_log_sd": sd})
        job = Job(plan, {SMALL: preset(SMALL)}, {"p": changed}, {"vllm-0.7.2": load_engine("vllm-0.7.2")})
        digests.add(job.digest)
    assert len(digests) == 2


@pytest.mark.parametrize("output", ["json", "csv", "markdown", "table"])
def test_without_a_file_rows_are_printed(output: str) -> None:
    said = CliRunner().invoke(app, [*COMMAND, "--format", output])
    assert said.exit_code == 0
    text = said.stdout
    if output == "json":
        assert len(json.loads(text)) == ROWS
    elif output == "csv":
        assert len(list(csv.reader(io.StringIO(text)))) == ROWS + 1
    else:
        assert text.count("640x480") == ROWS // 2


@pytest.mark.parametrize(
    ("changed", "error", "said"),
    [
        (["--shard", "3/2", "--out", "x"], WorkloadError, "shard is 3/2"),
        (["--shard", "a", "--out", "x"], WorkloadError, "expected I/N"),
        (["--hardware", "h100"], UnknownKeyError, "h100-sxm"),
        (["--batch", "0"], WorkloadError, "batch is 0"),
        (["--image", "640"], WorkloadError, "WIDTHxHEIGHT"),
        (["--batch", "1:1000000", "--out", "x"], WorkloadError, "FIRST:LAST:STEP"),
        (["--prompt-tokens", "1:100000:1"], InputError, "--out FILE"),
        (["merge", "nowhere", "--out", "x.csv"], InputError, "no sweep.json"),
        (["merge", "nowhere", "--out", "x.txt"], InputError, ".parquet or .csv"),
    ],
)
def test_bad_input_is_one_line(
    changed: list[str], error: type[CostModelError], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=said) as raised:
        _run(*(changed if changed[0] == "merge" else [*COMMAND, *changed]))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "x").exists()


def test_ranges_by_hand() -> None:
    assert counts("--batch", ["1,2", "2,5"]) == (1, 2, 5)
    assert counts("--batch", ["256:1024:256"]) == (256, 512, 768, 1024)
    assert counts("--batch", ["1:100:x3"]) == (1, 3, 9, 27, 81)
    assert counts("--batch", ["1:64:x2"]) == (1, 2, 4, 8, 16, 32, 64)
    assert counts("--batch", ["10:1000:log3"]) == (10, 100, 1000)
    assert counts("--batch", ["7:7:5", " 9 "]) == (7, 9)
    assert words(["a, b", "b,c,"]) == ("a", "b", "c")


@pytest.mark.parametrize(
    "text",
    ["", ",", "x", "1:2", "2:1:1", "1:2:0", "1:2:-1", "0:9:x2", "1:9:x1", "1:9:xnan", "1:9:xinf", "1:9:log1",
     "0:9:log3", "1:9:log", "1:2:3:4", "1.5", "1:9:x", "1:10000000000:1", "1:9:log99999999999"],
)  # fmt: skip
def test_ranges_that_are_none(text: str) -> None:
    with pytest.raises(WorkloadError, match="--batch: got"):
        counts("--batch", [text])


@given(first=st.integers(0, 1000), step=st.integers(1, 50), more=st.integers(0, 40))
def test_a_range_holds_its_ends(first: int, step: int, more: int) -> None:
    last = first + step * more
    found = counts("--batch", [f"{first}:{last}:{step}"])
    assert (found[0], found[-1], len(found)) == (first, last, more + 1)


@given(first=st.integers(1, 10_000), doublings=st.integers(0, 20))
def test_a_geometric_range_holds_its_ends(first: int, doublings: int) -> None:
    last = first * 2**doublings
    assert counts("--batch", [f"{first}:{last}:x2"]) == tuple(first * 2**i for i in range(doublings + 1))


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(UnicodeEncodeError), atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("half\ud800", encoding="utf-8")
    assert list(tmp_path.iterdir()) == []
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("whole")
        assert not (tmp_path / "a").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
