"""What a notebook shows of a result: every number of the terminal's tables, and nothing of a stranger's markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from conftest import REPO
from made_profiles import LARGE, SMALL, calibrated

from costmodel import (
    ImageSize,
    Workload,
    break_even,
    choose_policy,
    load_engine,
    load_hardware,
    load_model,
    notebook,
    predict,
)
from costmodel.policy.goals import Goal
from costmodel.policy.traces import read_traces

HARDWARE, ENGINE = load_hardware("h100-sxm"), load_engine("vllm-0.7.2")
REQUEST = Workload(images=(ImageSize(width=640, height=480),), prompt_tokens=50, output_tokens=20)


class Cells(HTMLParser):
    """Text of every cell, and the tags that were open when the text ended."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.styles: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.tags.add(tag)
        self.styles |= {value or "" for name, value in attrs if name == "style"}
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def results() -> dict[str, object]:
    small, large = load_model(SMALL), load_model(LARGE)
    traces = read_traces(REPO / "examples" / "synthetic_traces.jsonl")
    named = (load_model("Qwen/Qwen3-VL-2B-Instruct"), load_model("Qwen/Qwen3-VL-8B-Instruct"))
    return {
        "prediction": predict(small, HARDWARE, ENGINE, REQUEST),
        "break-even": break_even(small, large, HARDWARE, ENGINE, REQUEST, large_output_tokens=8),
        "policy": choose_policy(*named, traces, HARDWARE, ENGINE, goal=Goal(budget_s=4.0), with_sensitivity=False),
        "model": small,
        "hardware": HARDWARE,
        "engine": ENGINE,
    }


RESULTS = results()


@pytest.mark.parametrize("name", RESULTS)
def test_every_cell_is_there(name: str) -> None:
    page = Cells(RESULTS[name]._repr_html_())  # type: ignore[attr-defined]
    expected = [
        cell for table in notebook.result_tables(RESULTS[name]) for row in (table.columns, *table.rows) for cell in row
    ]
    assert page.cells == expected
    assert page.open == []
    assert page.tags <= {"div", "p", "strong", "small", "table", "thead", "tbody", "tr", "th", "td"}
    assert page.styles <= {"text-align:left", "text-align:right"}, "colours would fit one theme only"


def test_names_of_strangers_are_escaped() -> None:
    evil = '<img src=x onerror="alert(1)">&'
    prediction = predict(load_model(SMALL), calibrated(), ENGINE, REQUEST)
    changed = prediction.model_copy(update={"model": evil, "warnings": (evil,), "bound": {"encode": evil}})
    page = changed._repr_html_()
    assert "<img" not in page
    assert page.count("&lt;img src=x onerror=&quot;alert(1)&quot;&gt;&amp;") == 3
    assert evil in Cells(page).cells


def test_what_is_no_result_is_refused() -> None:
    with pytest.raises(TypeError, match="got a int, expected a result"):
        notebook.result_tables(3)
