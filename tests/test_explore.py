"""The page without a browser: what it takes from outside, what it computes, what it hands out."""

from __future__ import annotations

import base64
import csv
import io
import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from conftest import REPO
from hypothesis import given
from hypothesis import strategies as st
from made_profiles import preset, request
from typer.testing import CliRunner

pytest.importorskip("dash", reason="dash is not installed (extra: web)")

from costmodel import cli, plots
from costmodel.breakeven import BreakEven
from costmodel.errors import CostModelError, TraceError, UnknownKeyError
from costmodel.explore.app import LOOPBACK, make_app
from costmodel.explore.catalogue import Catalogue
from costmodel.explore.export import command_lines, csv_text, json_text, python_call, report_text
from costmodel.explore.results import Results
from costmodel.explore.state import DEFAULTS, FIELDS, State, parse_query, parse_values, to_query
from costmodel.explore.summary import first_paint
from costmodel.explore.uploads import MOST_BYTES, Uploads
from costmodel.explore.views import ALL_VIEWS
from costmodel.families.sources import preset_names
from costmodel.predict import Prediction, estimate, predict
from costmodel.profiles import load_engine, load_hardware, profile_keys
from costmodel.roofline import STAGES, roofline_of
from costmodel.words import bound_words, emphasised

CATALOGUE = Catalogue()
TRACES = REPO / "examples" / "synthetic_traces.jsonl"
H100, VLLM = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")

STATES = st.builds(
    State,
    small=st.sampled_from(preset_names()),
    large=st.sampled_from(preset_names()),
    hardware=st.sampled_from(profile_keys("gpus")),
    devices=st.lists(st.sampled_from(profile_keys("gpus")), max_size=7, unique=True).map(tuple),
    engine=st.sampled_from(profile_keys("engines")),
    quantization=st.sampled_from(("none", "w4a16")),
    tp=st.integers(1, 64),
    width=st.integers(1, 8192),
    height=st.integers(1, 8192),
    images=st.integers(0, 64),
    prompt_tokens=st.integers(0, 262144),
    batch=st.integers(1, 1024),
    large_output=st.integers(1, 65536),
    small_output=st.integers(1, 65536),
    view=st.sampled_from([view.key for view in ALL_VIEWS]),
    role=st.sampled_from(("small", "large")),
    stage=st.sampled_from(STAGES),
    budget_s=st.none() | st.integers(1, 3600).map(float),
    percentile=st.integers(1, 99).map(float),
)
CONFIGURED = DEFAULTS.model_copy(
    update={"quantization": "w4a16", "tp": 2, "batch": 3, "images": 2, "width": 640, "hardware": "a100-sxm-80gb"}
)


@pytest.fixture(scope="module")
def results() -> Results:
    return Results(CATALOGUE)


@pytest.fixture(scope="module")
def token(results: Results) -> str:
    return results.uploads.add(TRACES.read_bytes(), TRACES.name)


@given(state=STATES)
def test_an_address_brings_the_state_back(state: State) -> None:
    assert parse_query("?" + to_query(state), CATALOGUE) == (state, [])


def test_every_field_of_the_state_has_a_control_and_back() -> None:
    assert list(FIELDS) == list(State.model_fields)


@given(
    values=st.dictionaries(
        st.sampled_from(sorted(FIELDS)) | st.text(max_size=8),
        st.text(max_size=30) | st.integers().map(str) | st.floats().map(str),
    )
)
def test_no_address_breaks_the_page(values: dict[str, str]) -> None:
    state, problems = parse_query(urlencode(values), CATALOGUE)
    assert parse_query(to_query(state), CATALOGUE) == (state, [])
    assert len(problems) <= len(values) + 1
    assert all(len(problem) < 600 and problem.isprintable() for problem in problems)


@pytest.mark.parametrize("query", ["small=" + "a" * 5000, "&".join(f"x{i}=1" for i in range(100)), "%ff%00=%zz", "?"])
def test_odd_addresses_give_the_defaults(query: str) -> None:
    assert parse_query(query, CATALOGUE)[0] == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("small", "Qwen/Qwen3-VL-2B", "nearest: Qwen/Qwen3-VL-2B-Instruct"),
        ("small", str(REPO / "README.md"), "unknown model"),
        ("hardware", "../../etc/passwd", "unknown GPU"),
        ("width", "1e9", "expected a whole number from 1 to"),
        ("width", None, "got nothing"),
        ("tp", "1.5", "Tensor parallelism: got '1.5', expected a whole number"),
        ("tp", "nan", "expected a whole number"),
        ("percentile", "inf", "expected a number from 1 to 99"),
        ("devices", ",".join(profile_keys("gpus")[:9]), "got 9 of them, expected 7 or fewer"),
        ("devices", {"a": 1}, "expected names"),
    ],
)
def test_a_value_that_cannot_be_is_told_and_replaced(name: str, value: Any, said: str) -> None:
    state, (problem,) = parse_values({name: value}, CATALOGUE)
    assert said in problem
    assert problem.endswith("Using " + (FIELDS[name].write(getattr(DEFAULTS, name))) + ".")
    assert state == DEFAULTS


def test_names_from_the_page_are_never_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the library would load is not loaded by name from the page, unless it was given at the start."""
    spec = tmp_path / "mine.json"
    spec.write_text(preset("Qwen/Qwen3-VL-2B-Instruct").model_copy(update={"name": "mine"}).model_dump_json())
    monkeypatch.chdir(tmp_path)
    for find in (CATALOGUE.model, CATALOGUE.hardware, CATALOGUE.engine):
        for path in (str(spec), "mine.json", "./mine.json"):
            with pytest.raises(UnknownKeyError):
                find(path)
    given_at_start = Catalogue.with_files(models=[spec])
    assert given_at_start.model("mine").name == "mine"
    assert "mine" in given_at_start.model_names


def test_uploads_are_bounded_parsed_and_forgotten() -> None:
    uploads = Uploads()
    raw = TRACES.read_bytes()
    first = uploads.add(raw, "a.jsonl")
    assert len(uploads.traces(first)) == 1200
    with pytest.raises(TraceError, match=r"got 8.0 MiB, expected 8 or less"):
        uploads.add(b"x" * (MOST_BYTES + 1), "big.jsonl")
    for bad, said in ((b"\xff\xfe", "not a text file"), (b"{}", "field item_id"), (b"", "no traces in it")):
        with pytest.raises(TraceError, match=said):
            uploads.add_encoded("data:;base64," + base64.b64encode(bad).decode(), "bad.jsonl")
    with pytest.raises(TraceError, match="not a file"):
        uploads.add_encoded("data:;base64,***", "bad.jsonl")
    for index in range(4):
        uploads.add(raw + b"\n" * (index + 1), "more.jsonl")
    with pytest.raises(TraceError, match="load it again"):
        uploads.traces(first)


def test_totals_over_many_lengths_are_those_of_one_by_one() -> None:
    model, lengths = preset("Qwen/Qwen3-VL-2B-Instruct"), np.array([1.0, 2.0, 37.0, 900.0])
    together = estimate(model, H100, VLLM, request(64, 5)).with_output(lengths)
    for index, tokens in enumerate(lengths):
        alone = estimate(model, H100, VLLM, request(64, int(tokens))).total
        assert together.value_s[index] == pytest.approx(float(alone.value_s), rel=1e-12)
        assert together.log_sd()[index] == pytest.approx(float(alone.log_sd()), rel=1e-9)


@pytest.mark.parametrize("stage", STAGES)
def test_a_roofline_holds_the_whole_stage_and_nothing_beats_the_device(stage: str) -> None:
    forecast = estimate(preset("Qwen/Qwen3-VL-8B-Instruct"), H100, VLLM, request(256, 100))
    roofline = roofline_of(forecast, stage)
    (program,) = (each.stage for each in forecast.passes[stage])
    assert sum(point.share for point in roofline.points) == pytest.approx(1)
    assert sum(point.flops for point in roofline.points) == pytest.approx(float(np.mean(program.flops())))
    assert sum(point.bytes for point in roofline.points) == pytest.approx(float(np.mean(program.bytes())))
    for point in roofline.points:
        assert point.flops / point.time_s <= H100.datasheet.flops_per_s(point.dtype), point
        if point.kind in ("gemm", "attention_generation"):
            # A cache holds what an elementwise kernel or a prompt's attention reads again; weights it does not.
            assert point.bytes / point.time_s <= H100.datasheet.memory_bytes_per_s, point
    (marks,) = {len(trace.x) for trace in plots.roofline_figure(roofline).data if trace.name == "attention"}
    assert marks == sum(point.kind.startswith("attention") for point in roofline.points)


def test_an_unknown_stage_is_refused() -> None:
    forecast = estimate(preset("Qwen/Qwen3-VL-2B-Instruct"), H100, VLLM, request(64, 5))
    with pytest.raises(UnknownKeyError, match="stage 'decod'; nearest: decode"):
        roofline_of(forecast, "decod")


def test_memory_and_device_figures_hold_the_predictions(results: Results) -> None:
    both = results.predictions(DEFAULTS)
    bars = {trace.name: trace for trace in plots.memory_figure(both).data}
    for index, each in enumerate(both):
        stacked = sum(bar.x[index] for bar in bars.values()) * 1024**3
        assert stacked == pytest.approx(each.memory.total_bytes)
    found, problems = results.across_devices(DEFAULTS.model_copy(update={"devices": ("t4", "l40s")}))
    assert [line.split(":")[0] for line in problems] == ["t4"]
    figure = plots.devices_figure(found)
    assert list(figure.layout.yaxis.ticktext) == ["h100-sxm", "l40s"]
    assert [list(trace.x) for trace in figure.data] == [
        [each.latency.total_s.value for each in found if each.model == model]
        for model in (DEFAULTS.small, DEFAULTS.large)
    ]


def test_words_name_the_longest_stage_and_what_it_waits_for(results: Results) -> None:
    small, _ = results.predictions(DEFAULTS.model_copy(update={"small_output": 2000}))
    first = bound_words(small)[0]
    assert first.startswith("Qwen3-VL-2B-Instruct: decode is ")
    assert ("memory" if small.bound["decode"] == "memory" else "the host") in dict(emphasised(first))


def arguments(line: str) -> list[str]:
    """What a shell would pass; shlex keeps the ends of continued lines."""
    return shlex.split(line.replace("\\\n", ""))[1:]


@pytest.mark.parametrize("state", [DEFAULTS, CONFIGURED], ids=["defaults", "configured"])
def test_the_command_lines_give_the_numbers_of_the_page(state: State, results: Results) -> None:
    small, large, crossing = (
        CliRunner().invoke(cli.app, [*arguments(line), "--format", "json"], standalone_mode=False).stdout
        for line in command_lines(state)
    )
    both = results.predictions(state)
    assert (Prediction.model_validate_json(small), Prediction.model_validate_json(large)) == both
    assert BreakEven.model_validate_json(crossing) == results.break_even(state)


@pytest.mark.parametrize("state", [DEFAULTS, CONFIGURED], ids=["defaults", "configured"])
def test_the_python_call_gives_the_numbers_of_the_page(
    state: State, results: Results, capsys: pytest.CaptureFixture[str]
) -> None:
    names: dict[str, Any] = {}
    exec(python_call(state), names)
    assert (names["small_prediction"], names["large_prediction"]) == results.predictions(state)
    assert names["crossing"] == results.break_even(state)
    assert "value=" in capsys.readouterr().out


def test_files_hold_the_results(results: Results, token: str) -> None:
    content = json.loads(json_text(results, DEFAULTS, token))
    assert Prediction.model_validate(content["small"]) == results.prediction(DEFAULTS, "small")
    assert content["policy"]["items"] == 150
    rows = list(csv.DictReader(io.StringIO(csv_text(results, DEFAULTS))))
    totals = [row for row in rows if row["model"] == DEFAULTS.large and row["stage"] == "total"]
    assert float(totals[0]["value_s"]) == results.prediction(DEFAULTS, "large").latency.total_s.value
    assert len(totals) == 1 + len(results.break_even(DEFAULTS).latencies)


def test_the_report_has_the_figures_of_the_page(results: Results, token: str) -> None:
    text = report_text(results, DEFAULTS, token)
    assert "default-src 'none'" in text
    for heading in ("Predicted latency", "Break-even", "Roofline", "Other devices", "Policies", "Device", "Commands"):
        assert f"<h2>{heading}</h2>" in text
    drawn = json.loads(text.split('id="figure-2">')[1].split("</script>")[0])
    latency = next(view for view in ALL_VIEWS if view.key == "latency").render(results, DEFAULTS, "")
    assert drawn["data"] == latency[3]["data"]


@pytest.mark.parametrize("view", ALL_VIEWS, ids=[view.key for view in ALL_VIEWS])
@pytest.mark.parametrize("state", [DEFAULTS, CONFIGURED], ids=["defaults", "configured"])
def test_every_view_fills_its_outputs(view: Any, state: State, results: Results, token: str) -> None:
    for loaded in ("", token):
        assert len(view.render(results, state, loaded)) == len(view.outputs)


def test_results_are_computed_once(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    results.predictions(DEFAULTS)

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("computed again")

    monkeypatch.setattr("costmodel.explore.results.predict", fail)
    results.predictions(DEFAULTS.model_copy(update={"view": "share", "devices": ()}))
    with pytest.raises(AssertionError, match="computed again"):
        results.predictions(DEFAULTS.model_copy(update={"prompt_tokens": 7}))


def test_the_same_prediction_as_the_library(results: Results) -> None:
    expected = predict(
        preset(DEFAULTS.small), H100, VLLM, DEFAULTS.workload(DEFAULTS.small_output), quantization="w4a16"
    )
    assert results.prediction(DEFAULTS.model_copy(update={"quantization": "w4a16"}), "small") == expected


def test_what_cannot_run_is_said(results: Results) -> None:
    state = DEFAULTS.model_copy(update={"small": "Qwen/Qwen3-0.6B"})
    with pytest.raises(CostModelError, match="image"):
        results.predictions(state)
    assert "No prediction" in first_paint(results, to_query(state))


def test_the_server_answers_this_machine_only_and_lets_no_request_out(results: Results) -> None:
    client = make_app(results, hosts=LOOPBACK).server.test_client()
    page = client.get("/?large_output=64", base_url="http://127.0.0.1:8050")
    assert page.status_code == 200
    assert "64 output tokens of Qwen/Qwen3-VL-8B-Instruct" in page.text
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "connect-src 'self'" in page.headers["Content-Security-Policy"]
    assert client.get("/", base_url="http://rebound.example:8050").status_code == 403
    assert client.get("/assets/../../cli.py", base_url="http://localhost").status_code == 404
    body = b'"' + b"x" * (2 * MOST_BYTES) + b'"'
    where = {"base_url": "http://localhost", "content_type": "application/json"}
    too_large = client.post("/_dash-update-component", data=body, **where)
    assert too_large.status_code == 413
    hostile = client.get("/?small=<script>alert(1)</script>", base_url="http://127.0.0.1:8050").text
    assert "alert(1)" not in hostile
