"""``costmodel policy`` and ``costmodel traces``; the example; the figures show the numbers of the results."""

from __future__ import annotations

import csv
import io
import json
import math
import runpy
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import REPO
from made_profiles import LARGE, SMALL

import costmodel
from costmodel import cli
from costmodel.policy.catalog import mutual_verification
from costmodel.policy.choose import choose_policy
from costmodel.policy.goals import Goal
from costmodel.policy.results import PolicyChoice
from costmodel.policy.serving import Served
from costmodel.policy.traces import read_traces, write_traces

TRACES = REPO / "examples" / "synthetic_traces.jsonl"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line with the commands that the project declares, installed or not."""
    declared = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["entry-points"]["costmodel.commands"]
    points = [EntryPoint(name, value, "costmodel.commands") for name, value in declared.items()]
    monkeypatch.setattr(cli, "entry_points", lambda group: points)
    monkeypatch.setattr(cli, "app", typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False))

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["costmodel", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def words(*more: str, **changes: str) -> list[str]:
    given = {"small": SMALL, "large": LARGE, "traces": str(TRACES), "hardware": "h100-sxm", "engine": "vllm-0.7.2"}
    return ["policy", *(part for name, value in {**given, **changes}.items() for part in (f"--{name}", value)), *more]


def choice(**goal: float) -> PolicyChoice:
    found: PolicyChoice = choose_policy(
        costmodel.load_model(SMALL),
        costmodel.load_model(LARGE),
        read_traces(TRACES),
        costmodel.load_hardware("h100-sxm"),
        costmodel.load_engine("vllm-0.7.2"),
        goal=Goal(**goal),
    )
    return found


def test_the_interface_of_the_json(run: Run) -> None:
    status, out, err = run(*words("--budget-s", "4", "--format", "json"))
    found = json.loads(out)
    assert status == 0
    assert found["chosen"] in found["pareto"]
    for candidate in found["candidates"]:
        assert {"name", "accuracy", "latency", "feasible", "reason", "routes"} <= set(candidate)
        assert {"mean_s", "p50_s", "p95_s"} <= set(candidate["latency"])
        for quantity in (candidate["accuracy"], *candidate["latency"].values()):
            assert quantity["low"] <= quantity["value"] <= quantity["high"]
        assert math.fsum(route["share"] for route in candidate["routes"].values()) == pytest.approx(1)
    assert all(line.startswith("warning: ") for line in err.splitlines())
    assert PolicyChoice.model_validate_json(out) == choice(budget_s=4.0)


def test_each_model_on_a_device_of_its_own(run: Run) -> None:
    given = words(
        "--devices", "2", "--large-hardware", "h200-sxm", "--large-quantization", "w8a8-fp8", "--format", "json"
    )
    status, out, _ = run(*given, "--small-price", "2", "--large-price", "4", "--no-sensitivity")
    found = json.loads(out)
    assert status == 0
    assert (found["hardware"], found["quantization"]) == ("h100-sxm + h200-sxm", "none + w8a8-fp8")
    for candidate in found["candidates"]:
        assert candidate["cost"] > 0
        assert candidate["energy_at_most_j"] > 0
    bare = [word for word in words() if word not in ("--engine", "vllm-0.7.2")]
    status, _, err = run(*bare)
    assert (status, err.count("\n")) == (2, 1)
    assert "no engine is given: expected --engine, or --small-engine and --large-engine" in err


def test_formats(run: Run) -> None:
    _, out, _ = run(*words("--budget-s", "4", "--format", "csv", "--no-sensitivity"))
    rows = list(csv.reader(io.StringIO(out)))
    assert len({len(row) for row in rows}) == 1
    assert len(rows) == 14
    for form in ("table", "markdown"):
        _, out, _ = run(*words("--min-accuracy", "0.8", "--format", form))
        assert "mutual-verification" in out
        assert "agree-after-reasoning" in out
        assert "predicted time of the large model" in out


def test_without_a_goal_there_is_a_front_and_no_choice(run: Run) -> None:
    status, out, _ = run(*words("--format", "json"))
    assert status == 0
    assert json.loads(out)["chosen"] is None
    assert len(json.loads(out)["pareto"]) > 2


def test_a_goal_that_nothing_reaches_is_status_one(run: Run) -> None:
    status, out, err = run(*words("--budget-s", "0.5", "--min-accuracy", "0.9", "--format", "json"))
    assert status == 1
    assert json.loads(out)["chosen"] is None
    assert "no policy reaches the goal; the fastest is small-short, the most accurate large-reason" in err


@pytest.mark.parametrize(
    ("more", "changes", "message"),
    [
        (("--budget-s", "-1"), {}, "budget_s is -1"),
        (("--min-accuracy", "85"), {}, "min_accuracy is 85"),
        (("--percentile", "0"), {}, "percentile is 0"),
        (("--devices", "4"), {}, "devices is 4"),
        (("--policy", "debate"), {}, "unknown policy 'debate'"),
        (("--small-name", "tiny"), {}, "no traces of the small model 'tiny'"),
        ((), {"traces": "absent.jsonl"}, "absent.jsonl: can't be read"),
        ((), {"hardware": "h1000"}, "unknown hardware 'h1000'"),
        (("--large-hardware", "l40s"), {}, "they share no device: use 2 devices"),
        (("--small-quantization", "w3"), {}, "w3"),
        (("--large-price", "-2"), {}, "price_per_hour is -2"),
    ],
)
def test_bad_input_is_one_line(run: Run, more: tuple[str, ...], changes: dict[str, str], message: str) -> None:
    status, out, err = run(*words(*more, **changes))
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_plan_of_ones_own_is_a_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(mutual_verification(parallel=False).model_copy(update={"name": "mine"}).model_dump_json())
    status, out, _ = run(*words("--policy", str(path), "--policy", "small-short", "--format", "json"))
    assert status == 0
    assert [candidate["name"] for candidate in json.loads(out)["candidates"]] == ["mine", "small-short"]
    path.write_text('{"schema_version": 1, "name": "mine"}')
    status, _, err = run(*words("--policy", str(path)))
    assert (status, err.count("\n")) == (2, 1)


def test_logs_become_traces_that_are_checked_and_chosen_from(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "traces.jsonl"
    for model, mode, reply in ((SMALL, "short", "A"), (LARGE, "short", "B"), (SMALL, "reason", "<think>so</think>B")):
        log = tmp_path / "x_samples_task.jsonl"
        samples = [
            {"doc_id": i, "target": "B", "filtered_resps": [reply], "token_counts": [{"output_tokens": 9 * len(reply)}]}
            for i in range(5)
        ]
        log.write_text("".join(json.dumps(sample) + "\n" for sample in samples))
        given = ["--model", model, "--mode", mode, "--out", str(out), "--image", "640x480", "--prompt-tokens", "30"]
        status, _, err = run("traces", "import", "--from", "lmms-eval", *given, str(log))
        assert status == 0
        assert "5 added" in err
    status, text, _ = run("traces", "check", str(out), "--small", SMALL, "--large", LARGE, "--format", "json")
    assert status == 0
    assert json.loads(text)["policies"]["small-reason"] is None
    assert json.loads(text)["policies"]["large-reason"].startswith("no traces of large/reason")
    status, text, _ = run(*words("--min-accuracy", "0.9", "--format", "json", traces=str(out)))
    assert json.loads(text)["chosen"] == "large-short"
    status, _, err = run("traces", "import", "--from", "lmms-eval", *given[:6], str(log))
    assert (status, err.count("\n")) == (2, 1)
    assert "give one of --image, --image-sizes and --text-only" in err
    status, _, err = run("traces", "import", "--from", "helm", *given, str(log))
    assert "unknown toolkit 'helm'" in err


def test_help_has_an_example(run: Run) -> None:
    for command in ("policy", "run", "traces import", "traces check"):
        status, out, _ = run(*command.split(), "--help")
        assert status == 0
        assert f"Example: costmodel {command}" in " ".join(out.split())


def test_the_package_stays_light_and_offers_the_choice() -> None:
    code = "import sys, costmodel; print([n for n in sys.modules if n.startswith('costmodel.policy')])"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert costmodel.choose_policy is choose_policy
    with pytest.raises(AttributeError, match="no attribute 'choose'"):
        costmodel.choose  # noqa: B018


def test_the_example_traces_are_what_their_script_makes_and_say_that_they_are_made_up(tmp_path: Path) -> None:
    script = runpy.run_path(str(REPO / "examples" / "policy_traces.py"))
    write_traces(tmp_path / "again.jsonl", script["made_up"]())
    assert (tmp_path / "again.jsonl").read_text() == TRACES.read_text()
    assert TRACES.stat().st_size < 300 * 1024
    for trace in read_traces(TRACES):
        assert trace.sources == {"all": "synthetic"}
        assert trace.item_id.startswith("synthetic-")


def test_the_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("plotly", reason="plotly is not installed (extra: plot)")
    runpy.run_path(str(REPO / "examples" / "policy.py"))["main"](tmp_path)
    assert "for p95 within 4 s" in capsys.readouterr().out
    assert {path.stem for path in tmp_path.iterdir()} == {
        "pareto",
        "surface-tokens",
        "surface-images",
        "surface-framework",
    }


def test_the_front_is_drawn_as_it_is(run: Run, tmp_path: Path) -> None:
    plots = pytest.importorskip("costmodel.plots", reason="plotly is not installed (extra: plot)")
    found = choice(budget_s=4.0, min_accuracy=0.5)
    figure = plots.pareto_figure(found)
    points: dict[str, Any] = {}
    for trace in figure.data:
        for row, x, y in zip(trace.customdata if trace.customdata is not None else (), trace.x, trace.y, strict=False):
            points[row[0]] = (x, y)
    assert points == {
        each.name: (each.latency.percentile_s.value, 100 * each.accuracy.value) for each in found.candidates
    }
    (star,) = [trace for trace in figure.data if trace.name == "chosen"]
    assert star.customdata[0][0] == found.chosen
    texts = [annotation.text for annotation in figure.layout.annotations]
    assert {"budget 4 s", "floor 50 %", f"<b>{found.chosen}</b>"} <= set(texts)
    status, _, err = run(*words("--budget-s", "4", "--plot", str(tmp_path / "front.html"), "--no-sensitivity"))
    assert status == 0
    assert "figure: " in err
    assert "<html>" in (tmp_path / "front.html").read_text()


def test_a_surface_is_predictions_compared() -> None:
    from costmodel.policy.surfaces import framework_surface, token_surface
    from costmodel.predict import predict
    from costmodel.specs.images import ImageSize
    from costmodel.specs.workload import Workload

    hardware, engine = costmodel.load_hardware("h100-sxm"), costmodel.load_engine("vllm-0.7.2")
    small, large = (Served(costmodel.load_model(name), hardware, engine) for name in (SMALL, LARGE))
    images = (ImageSize(width=640, height=480),)
    surface = token_surface(
        small, large, images=images, prompt_tokens=50, small_tokens=(1, 60, 200), large_tokens=(4, 40)
    )

    def alone(served: Served, tokens: int) -> float:
        workload = Workload(images=images, prompt_tokens=50, output_tokens=tokens)
        return predict(served.model, hardware, engine, workload).latency.total_s.value

    for row, large_tokens in enumerate((4, 40)):
        for column, small_tokens in enumerate((1, 60, 200)):
            expected = alone(large, large_tokens) / alone(small, small_tokens)
            assert surface.ratio[row][column] == pytest.approx(expected, rel=0.01)
            assert (surface.probability[row][column] > 0.5) == (expected < 1)
    # Agreement only helps, and where all agree no length of reasoning matters.
    framework = framework_surface(
        small,
        large,
        images=images,
        prompt_tokens=50,
        agreement=(0.0, 0.5, 1.0),
        reasoning_tokens=(50, 500),
        large_reasoning_tokens=300,
    )
    short, long = framework.ratio
    assert short[0] > short[1] > short[2]
    assert long[0] > short[0]
    assert long[2] == pytest.approx(short[2])


def test_surfaces_are_drawn_with_their_break_even() -> None:
    plots = pytest.importorskip("costmodel.plots", reason="plotly is not installed (extra: plot)")
    from costmodel.policy.surfaces import Surface

    surface = Surface(
        title="t",
        first="pub/one",
        second="pub/<b>two</b>",
        x_label="x",
        y_label="y",
        x=(0, 1),
        y=(0, 1),
        ratio=((0.5, 2.0), (1.0, 4.0)),
        probability=((1.0, 0.0), (0.5, 0.0)),
    )
    figure = plots.surface_figure(surface)
    heat = figure.data[0]
    assert [list(row) for row in heat.z] == [[-1.0, 1.0], [0.0, 2.0]]
    levels = [trace.contours.start for trace in figure.data if trace.type == "contour"]
    assert levels == pytest.approx([-1.645, 1.645, 0.0], abs=1e-3)
    texts = " ".join(annotation.text for annotation in figure.layout.annotations)
    assert "one<br>faster" in texts
    assert "<b>two" not in texts
