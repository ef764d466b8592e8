"""``costmodel run`` against servers that answer, refuse and die: the finished is kept, a resumed run ends the same."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import REPO

pytest.importorskip("httpx", reason="httpx is not installed (extra: serve)")

import chat_pair
from chat_pair import Answering
from misbehaving_server import drop, status

from calibrate.measure.journal import Journal, read_journal
from calibrate.policies.items import read_items
from calibrate.policies.prompts import Prompts
from calibrate.policies.runner import finished_runs, run_plan
from calibrate.policies.session import Session, SideOptions, plan_from
from costmodel.errors import EndpointError, InputError, MeasurementError, PolicyError, UnknownKeyError
from costmodel.policy.replay import replay
from costmodel.policy.traces import Trace, TraceSet, read_traces

ITEMS = 12
Progress = Callable[[float, str], None]


def quiet(share: float, text: str) -> None:
    """No progress bar."""


@contextmanager
def served(**options: Any) -> Iterator[tuple[Answering, Answering]]:
    """Both servers in a thread of their own, so that a command line can be run against them."""
    small = Answering([], model="small", **options)
    large = Answering([], model="large")
    loop = asyncio.new_event_loop()
    ready, done = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with chat_pair.answering(small, large):
            ready.set()
            await done.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    ready.wait(5)
    try:
        yield small, large
    finally:
        loop.call_soon_threadsafe(done.set)
        thread.join(10)
        loop.close()


def session(folder: Path, small: Answering, large: Answering, *, items: int = ITEMS, **options: Any) -> Session:
    given: dict[str, Any] = {
        "plan": plan_from("mutual-verification"),
        "items": chat_pair.write_run(folder, items),
        "out": folder / "traces.jsonl",
        "prompts": Prompts(),
        **options,
    }
    return Session(small=SideOptions(small.url, served="small"), large=SideOptions(large.url, served="large"), **given)


def what(traces: tuple[Trace, ...]) -> list[Trace]:
    """Traces without their times."""
    return [trace.model_copy(update={"ttft_s": None, "total_s": None}) for trace in traces]


def undisturbed(folder: Path, **options: Any) -> list[Trace]:
    folder.mkdir()
    with served() as (small, large):
        session(folder, small, large, **options).run(quiet)
    return what(read_traces(folder / "traces.jsonl"))


def test_a_run_takes_the_routes_that_the_answers_say(tmp_path: Path) -> None:
    with served() as (small, large):
        result = session(tmp_path, small, large, concurrency=3).run(quiet)
    assert result is not None
    expected = {"agree": 0, "agree-after-reasoning": 0, "transferred": 0}
    for i in range(ITEMS):
        short = [chat_pair.reply_text(f"number {i}", model) for model in ("small", "large")]
        reasoned = chat_pair.WORDS[i % 3]
        end = "agree" if short[0] == short[1] else "agree-after-reasoning" if reasoned == short[1] else "transferred"
        expected[end] += 1
    assert {route.route: route.items for route in result.routes} == {
        "all": ITEMS,
        **{name: count for name, count in expected.items() if count},
    }
    assert sum(expected.values()) == ITEMS
    assert all(count for count in expected.values()), "the made-up answers should take every route"
    # The reasoning is handed over without its tags, and only where it is needed.
    handed = [r["messages"][0]["content"] for r in large.seen if "Notes" in r["messages"][0]["content"]]
    assert len(handed) == expected["transferred"]
    assert all("looks" in text and "think" not in text for text in handed)


def test_traces_have_what_the_server_said(tmp_path: Path) -> None:
    with served() as (small, large):
        session(tmp_path, small, large, plan=plan_from("record", transfers=["all:1", "information:0.5"])).run(quiet)
    traces = read_traces(tmp_path / "traces.jsonl")
    assert len(traces) == ITEMS * 6
    for trace in traces:
        assert trace.total_s is not None
        assert trace.ttft_s is not None
        assert trace.ttft_s <= trace.total_s
        assert trace.confidence is not None
        number = int(trace.item_id[1:])
        assert trace.correct == (trace.answer == chat_pair.WORDS[number % 3])
    reasoned = next(trace for trace in traces if trace.mode == "reason")
    assert reasoned.reasoning == "item 0 looks red . so it is ."
    assert reasoned.output_tokens == 12
    # The mean probability of the tokens of the answer " red", which the server gave as exp(-0.4).
    assert reasoned.confidence == pytest.approx(2.718281828**-0.4, rel=1e-6)
    # Such traces serve every policy that they cover.
    recorded = TraceSet.of(traces, small="small", large="large")
    assert replay(plan_from("mutual-verification"), recorded).correct.shape == (ITEMS,)


def test_replay_of_recorded_answers_is_what_a_run_does(tmp_path: Path) -> None:
    for name in ("record", "mutual-verification"):
        (tmp_path / name).mkdir()
    with served() as (small, large):
        session(tmp_path / "record", small, large, plan=plan_from("record"), items=40).run(quiet)
        plan = plan_from("mutual-verification")
        session(tmp_path / "mutual-verification", small, large, items=40).run(quiet)
    recorded = TraceSet.of(read_traces(tmp_path / "record" / "traces.jsonl"), small="small", large="large")
    replayed = replay(plan, recorded)
    runs = {each.item_id: each for each in journal_runs(tmp_path / "mutual-verification" / "traces.jsonl.journal")}
    assert [runs[item].route for item in recorded.items] == [plan.routes[i] for i in replayed.route]
    assert [runs[item].answered.correct for item in recorded.items] == replayed.correct.tolist()
    for role in ("small", "large"):
        ran = [sum(t.output_tokens for t in runs[item].traces if t.model == role) for item in recorded.items]
        assert ran == replayed.output_tokens(role).tolist()  # type: ignore[arg-type]


def journal_runs(path: Path) -> Any:
    return finished_runs(read_journal(path)[1])


@pytest.mark.parametrize("reply", [status(500, {"error": "boom"}), drop(["data: {}"])], ids=["500", "hang up"])
def test_an_endpoint_that_dies_keeps_what_was_finished(
    tmp_path: Path, reply: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calibrate.engines.retry.RetryPolicy.wait_s", lambda self, attempt, asked_s: None)
    expected = undisturbed(tmp_path / "good")
    folder = tmp_path / "bad"
    folder.mkdir()
    dead = [True]
    with served(misbehave=lambda number, body: reply if dead[0] and number > 7 else None) as (small, large):
        run = session(folder, small, large)
        if reply is not None and reply.__qualname__.startswith("status"):
            with pytest.raises(EndpointError):
                run.run(quiet)
        else:
            result = run.run(quiet)
            assert result is not None
            assert result.failed
        kept = what(read_traces(folder / "traces.jsonl"))
        assert 0 < len(kept) < len(expected)
        assert all(trace in expected for trace in kept)
        dead[0], before = False, len(small.seen)
        result = run.run(quiet)
        assert result is not None
        assert not result.failed
        assert len(small.seen) - before < ITEMS + 3, "finished items are not asked again"
    assert what(read_traces(folder / "traces.jsonl")) == expected


def command(folder: Path, small: Answering, large: Answering, **environment: str) -> subprocess.Popen[str]:
    chat_pair.write_run(folder, ITEMS)
    code = "from calibrate.commands.run import run; import typer; a = typer.Typer(); a.command()(run); a()"
    words = ["--policy", "mutual-verification", "--small", small.url, "--large", large.url]
    words += [
        "--small-served",
        "small",
        "--large-served",
        "large",
        "--items",
        str(folder / "items.jsonl"),
        "--out",
        str(folder / "traces.jsonl"),
    ]
    return subprocess.Popen(
        [sys.executable, "-c", code, *words],
        cwd=REPO,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_result(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path / "good")
    folder = tmp_path / "killed"
    folder.mkdir()
    journal = folder / "traces.jsonl.journal"
    with served(pause_s=0.1) as (small, large):
        with command(folder, small, large, OPENAI_API_KEY="sk-secret-of-the-test") as process:
            end = time.monotonic() + 60
            while time.monotonic() < end and not (journal.exists() and journal.read_bytes().count(b'"route"') >= 3):
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        finished = len(journal_runs(journal))
        assert 3 <= finished < ITEMS
        assert not (folder / "traces.jsonl").exists()
        # The writer may have died in the middle of a line.
        with journal.open("ab") as file:
            file.write(b'{"op": "item", "item_id": "q')
        asked = len(small.seen)
        with command(folder, small, large, OPENAI_API_KEY="sk-secret-of-the-test") as process:
            out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "mutual-verification" in out
        assert len(small.seen) - asked <= 2 * (ITEMS - finished)
        # The key came from the environment and went to the server, and nowhere else.
        assert any("Bearer sk-secret-of-the-test" in head for head in small.headers)
        written = journal.read_text() + (folder / "traces.jsonl").read_text() + out + err
        assert "sk-secret" not in written
    assert what(read_traces(folder / "traces.jsonl")) == expected


def test_an_item_that_is_refused_is_said_and_asked_again(tmp_path: Path) -> None:
    refused = [True]

    def misbehave(number: int, body: dict[str, Any]) -> Any:
        return status(400, {"error": {"message": "too long"}}) if refused[0] and " 5 " in str(body) else None

    with served(misbehave=misbehave) as (small, large):
        run = session(tmp_path, small, large)
        result = run.run(quiet)
        assert result is not None
        assert (result.items, result.failed) == (ITEMS - 1, {"refused": 1})
        refused[0] = False
        result = run.run(quiet)
        assert result is not None
        assert (result.items, result.failed) == (ITEMS, {})


def test_a_server_without_log_probabilities_is_asked_without(tmp_path: Path) -> None:
    def misbehave(number: int, body: dict[str, Any]) -> Any:
        return status(400, {"error": {"message": "logprobs is not supported"}}) if body.get("logprobs") else None

    with served(misbehave=misbehave) as (small, large):
        result = session(tmp_path, small, large).run(quiet)
        assert result is not None
        assert result.items == ITEMS
        assert sum(bool(body.get("logprobs")) for body in small.seen) == 1
        with pytest.raises(PolicyError, match="step 'small-sure' needs the confidence of 'small-short'"):
            session(tmp_path, small, large, plan=plan_from("cascade"), out=tmp_path / "other.jsonl").run(quiet)


def test_a_journal_of_another_run_is_not_mixed(tmp_path: Path) -> None:
    with served() as (small, large):
        run = session(tmp_path, small, large)
        run.run(quiet)
        with pytest.raises(MeasurementError, match="plan"):
            replace(run, plan=plan_from("always-transfer")).run(quiet)
        with pytest.raises(MeasurementError, match="prompts"):
            replace(run, prompts=Prompts(short="{question} ?")).run(quiet)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"item_id": "a", "question": "?"}', "line 2: field answer"),
        ('{"item_id": "q0", "question": "?", "answer": "x"}', "line 2: item 'q0' comes twice"),
        ('{"item_id": "a", "question": "?", "answer": "x", "images": ["no.png"]}', "image 'no.png': no such file"),
        ('{"item_id": "a", "question": "?", "answer": "x", "images": ["items.jsonl"]}', "not an image"),
        ("[1, 2]", "line 2: field line"),
        ("{", "line 2"),
    ],
)
def test_bad_items_are_refused_in_one_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text('{"item_id": "q0", "question": "?", "answer": "x"}\n' + line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        read_items(path)
    assert "\n" not in str(caught.value)


def test_no_items_are_refused(tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text("\n")
    with pytest.raises(InputError, match="no items in it"):
        read_items(tmp_path / "items.jsonl")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"short": "no field"}, r"expected the fields \{question\}"),
        ({"transfer": "{question}"}, r"expected the fields \{question\}, \{reasoning\}"),
        ({"reason": "{question} {"}, "a brace is open"),
        ({"short": "{question.__class__}"}, "expected the fields"),
    ],
)
def test_bad_prompts_are_refused(given: dict[str, str], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        Prompts(**given)  # type: ignore[arg-type]


def test_what_cannot_be_run_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    with served() as (small, large):
        run = session(tmp_path, small, large)
        attended = plan_from("record", transfers=["attention:0.5"])
        for wrong, message in (
            (replace(run, plan=attended), "needs the weights of the model"),
            (replace(run, large=SideOptions(small.url, served="small")), "both models are called"),
            (replace(run, dialect="vlm"), "unknown dialect 'vlm'"),
            (replace(run, matcher="vibes"), "unknown matcher"),
            (replace(run, hardware="h100-sxm", engine="vllm-0.7.2"), "--hardware needs --small-model"),
            (replace(run, small=SideOptions("localhost")), "expected an address"),
        ):
            with pytest.raises(InputError, match=message):
                wrong.run(quiet)
        assert not small.seen
        with pytest.raises(UnknownKeyError, match="unknown policy 'mutual'"):
            plan_from("mutual")
        with pytest.raises(InputError, match="expected SELECTOR:SHARE"):
            plan_from("record", transfers=["last:half"])
        with pytest.raises(InputError, match="belong to --policy record"):
            plan_from("cascade", samples=3)


def test_items_go_together_up_to_the_limit(tmp_path: Path) -> None:
    with served(pause_s=0.05) as (small, large):
        session(tmp_path, small, large, plan=plan_from("small-short"), concurrency=4).run(quiet)
    none: Any = None
    with Journal(tmp_path / "other", {}) as journal, pytest.raises(PolicyError, match="concurrency is 0"):
        asyncio.run(run_plan(plan_from("cascade"), [], none, journal, concurrency=0))
    assert json.loads((tmp_path / "traces.jsonl").read_text().split("\n")[0])["item_id"] == "q0"
