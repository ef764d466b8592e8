"""The page in a real Chromium: it works, asks no other machine for anything, and can be read and used by everyone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from conftest import REPO

pytest.importorskip("dash", reason="dash is not installed (extra: web)")
pytest.importorskip("playwright", reason="playwright is not installed (extra: dev)")

from playwright import sync_api

from costmodel.explore.catalogue import Catalogue
from costmodel.explore.results import Results
from costmodel.explore.state import DEFAULTS, FIELDS, VIEWS
from costmodel.plots.text import seconds_interval

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine (apt-get install chromium)")

TRACES = REPO / "examples" / "synthetic_traces.jsonl"
# The machine may be busy: a wait ends as soon as what is waited for is there.
PATIENCE_MS = 60_000
SERVE = "import typer, costmodel.explore.cli as c; typer.run(c.explore)"
expect = sync_api.expect
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server of its own, on a free port."""
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPO,
        env={**os.environ, "PYTHONPATH": str(REPO)},
    )
    assert server.stderr is not None
    found = re.search(r"http://[\d.]+:\d+/", server.stderr.readline())
    assert found, "the server did not start"
    yield found.group()
    server.terminate()
    server.wait(10)
    server.stderr.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        # A container has no user namespaces for the sandbox; the only page opened is ours.
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


class Visit:
    """A page that is watched: what it complains of, and whom it asks."""

    def __init__(self, browser: Any, address: str, **options: Any) -> None:
        self.address = address
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.complaints: list[str] = []
        self.strangers: list[str] = []
        self.page.on("console", lambda message: self._hear(message))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self._see(request.url))

    def _hear(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.complaints.append(message.text)

    def _see(self, url: str) -> None:
        if not url.startswith((self.address, "data:", f"blob:{self.address}")):
            self.strangers.append(url)

    def open(self, query: str = "") -> Any:
        self.page.goto(self.address + query)
        expect(self.page.locator("#cards .value").first).to_be_visible()
        return self.page

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []
        assert self.strangers == []


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Visit]:
    one = Visit(browser, address)
    yield one
    one.close()


def query_of(page: Any) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(urlsplit(page.url).query).items()}


def choose_view(page: Any, view: str) -> None:
    page.click(f"#view--{view}")
    expect(page.locator(f"#view-{view}")).to_be_visible()


def fill(page: Any, name: str, value: str) -> None:
    page.fill(f"input#{name}", value)
    page.press(f"input#{name}", "Enter")


def pick(page: Any, name: str, text: str) -> None:
    """Choose from a menu with the keyboard alone."""
    page.focus(f"#{name}")
    page.keyboard.press("Enter")
    search = page.locator(".dash-dropdown-content input[type=search], .dash-dropdown-content .dash-dropdown-search")
    if search.count():
        search.first.fill(text)
    page.locator(".dash-dropdown-content label, .dash-dropdown-content [role=option]").filter(
        has_text=text
    ).first.click()
    page.keyboard.press("Escape")


# Control → view, how it is changed, its value in the address, what must change on the page.
CHANGES: dict[str, tuple[str, Any, str, str]] = {
    "small": ("latency", "Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-4B-Instruct", "#cards"),
    "large": ("latency", "Qwen/Qwen3-VL-32B-Instruct", "Qwen/Qwen3-VL-32B-Instruct", "#cards"),
    "hardware": ("latency", "h200-sxm", "h200-sxm", "#cards"),
    "engine": ("latency", "hf-eager", "hf-eager", "#cards"),
    "quantization": ("latency", "w4a16", "w4a16", "#cards"),
    "tp": ("latency", 2, "2", "#cards"),
    "width": ("latency", 2048, "2048", "#cards"),
    "height": ("latency", 1536, "1536", "#cards"),
    "images": ("latency", 2, "2", "#cards"),
    "prompt_tokens": ("latency", 5000, "5000", "#cards"),
    "batch": ("latency", 8, "8", "#cards"),
    "large_output": ("latency", 100, "100", "#cards"),
    "small_output": ("latency", 333, "333", "#cards"),
    "role": ("roofline", "small", "small", "#roofline-title"),
    "stage": ("roofline", "prefill", "prefill", "#roofline-title"),
    "devices": ("devices", "gb200", "a100-sxm-80gb,l40s,b200-sxm,gb200", "#device-table"),
}


def test_every_control_changes_what_it_should(visit: Visit) -> None:
    page = visit.open()
    for name, (view, value, written, where) in CHANGES.items():
        choose_view(page, view)
        target = page.locator(where)
        expect(target).not_to_be_empty()
        before = target.inner_text()
        if isinstance(value, int):
            fill(page, name, str(value))
        elif page.locator(button := f'[id="{name}--{value}"]').count():
            page.click(button)
        else:
            pick(page, name, value)
        expect(target, message=name).not_to_have_text(before, use_inner_text=True)
        assert query_of(page)[name] == written
    expect(page.locator("#notices")).to_be_empty()
    assert set(CHANGES) | {"view", "budget_s", "percentile"} == set(FIELDS), "a control without a test"


def test_the_cards_are_the_library_and_the_slider_moves_them(visit: Visit) -> None:
    page = visit.open("?small_output=100")
    results = Results(Catalogue())

    def check(tokens: int) -> None:
        total_s = results.prediction(DEFAULTS.model_copy(update={"small_output": tokens}), "small").latency.total_s
        expect(page.locator(".card.small .value")).to_have_text(seconds_interval(total_s).partition(" [")[0])

    check(100)
    page.focus("#small_output-slider")
    page.keyboard.press("ArrowRight")
    expect(page.locator("input#small_output")).not_to_have_value("100")
    moved = int(page.input_value("input#small_output"))
    assert moved > 100
    check(moved)
    assert query_of(page) == {"small_output": str(moved)}
    page.reload()
    expect(page.locator("input#small_output")).to_have_value(str(moved))


def test_figures_are_drawn_after_the_headline(browser: Any, address: str, record_property: Any) -> None:
    visit = Visit(browser, address)
    started = time.perf_counter()
    page = visit.open()
    for name, mark in (
        ("breakdown", ".barlayer .point"),
        ("curves", ".scatterlayer .trace"),
        ("surface", ".contour"),
        ("equal", ".scatterlayer .trace"),
        ("memory", ".barlayer .point"),
    ):
        expect(page.locator(f"#{name} {mark}").first).to_be_attached()
        assert page.locator(f"#{name}-title").inner_text()
        assert page.locator(f"#{name} .xtitle").text_content().endswith((")", "tokens", "model")), (
            "an axis without a unit"
        )
    drawn_s = time.perf_counter() - started
    first_s = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    record_property("first_paint_s", first_s)
    print(f"\nfirst useful paint {first_s:.2f} s, all figures {drawn_s:.2f} s")
    assert first_s < drawn_s
    visit.close()


def test_the_answer_is_there_before_any_script(browser: Any, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{address}?large_output=48")
    assert "48 output tokens of Qwen/Qwen3-VL-8B-Instruct take as long as" in page.locator(".headline").inner_text()
    context.close()


def test_a_bad_address_is_told_and_replaced(visit: Visit) -> None:
    page = visit.open("?small=nope&width=abc&tp=0&view=x&devices=l40s,zz&batch=4&what=1")
    notices = page.locator("#notices .note")
    expect(notices).to_have_count(6)
    said = page.locator("#notices").inner_text()
    for part in ("unknown model 'nope'", "Width: got 'abc'", "Tensor parallelism", "unknown GPU 'zz'", "'what'"):
        assert part in said
    assert query_of(page) == {"batch": "4"}
    fill(page, "batch", "5")
    expect(notices).to_have_count(0)


def test_what_cannot_run_is_said_not_drawn(visit: Visit) -> None:
    page = visit.page
    page.goto(f"{visit.address}?small=Qwen/Qwen3-0.6B")
    expect(page.locator("#headline .note.error")).to_contain_text("No prediction")
    expect(page.locator("#latency-body")).to_be_hidden()
    fill(page, "images", "0")
    expect(page.locator("#cards .value").first).to_be_visible()
    expect(page.locator("#latency-body")).to_be_visible()


def test_policies_of_a_loaded_file(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("?view=policy")
    expect(page.locator("#policy-notes")).to_contain_text("No trace file is loaded")
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"item_id": 1}\n')
    page.set_input_files("#upload input", str(bad))
    expect(page.locator("#upload-problem")).to_contain_text("bad.jsonl: line 1: field item_id")
    page.set_input_files("#upload input", str(TRACES))
    expect(page.locator("#policy-notes")).to_contain_text("150 items. Give a latency budget")
    expect(page.locator("#pareto .scatterlayer .trace").first).to_be_attached()
    fill(page, "budget_s", "4")
    expect(page.locator("#policy-notes")).to_contain_text("Most accurate within the budget: always-transfer")
    before = page.locator("#policy-table").inner_text()
    fill(page, "percentile", "50")
    expect(page.locator("#policy-table")).not_to_have_text(before, use_inner_text=True)
    assert query_of(page) == {"view": "policy", "budget_s": "4", "percentile": "50"}
    pick(page, "small", "Qwen/Qwen3-VL-4B-Instruct")
    expect(page.locator("#policy-problem")).to_contain_text("no traces of the small model")


def test_downloads(visit: Visit, tmp_path: Path) -> None:
    page = visit.open()
    expect(page.locator("#curves .scatterlayer .trace").first).to_be_attached()
    choose_view(page, "share")
    expect(page.locator("#commands")).to_contain_text("costmodel breakeven")
    expect(page.locator("#link")).to_have_text(f"{visit.address}?view=share")
    files = {}
    for kind in ("json", "csv", "html", "png"):
        with page.expect_download() as waiting:
            page.click(f"#download-{kind}")
        files[kind] = tmp_path / waiting.value.suggested_filename
        waiting.value.save_as(files[kind])
    assert json.loads(files["json"].read_text())["small"]["model"] == DEFAULTS.small
    assert files["csv"].read_text().startswith("model,stage,output_tokens,value_s")
    assert "default-src 'none'" in files["html"].read_text()
    assert files["png"].read_bytes().startswith(b"\x89PNG")


def test_axe_finds_nothing_serious(browser: Any, address: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed (extra: dev)")
    # Axe puts a script of its own into the page, which the page's policy would refuse.
    visit = Visit(browser, address, bypass_csp=True)
    page = visit.open()
    found = []
    for view in VIEWS:
        choose_view(page, view)
        page.wait_for_timeout(300)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            violations = axe.Axe().run(page).response["violations"]
            found += [(view, scheme, each["id"]) for each in violations if each["impact"] in ("serious", "critical")]
    assert found == []
    visit.close()


def test_all_of_it_is_reached_by_the_keyboard(visit: Visit) -> None:
    page = visit.open("?view=roofline")
    expect(page.locator("#operators")).not_to_be_empty()
    page.locator("body").click(position={"x": 640, "y": 5})
    reached = set()
    for _ in range(70):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.className"))
    configured = {name for name in FIELDS if name not in ("devices", "budget_s", "percentile", "view", "role", "stage")}
    buttons = {f"view--{view}" for view in VIEWS} | {"stage--encode", "role--small", "toggle-theme"}
    assert configured | buttons | {"small_output-slider", "skip"} <= reached
    page.focus("#stage--encode")
    page.keyboard.press("Enter")
    expect(page.locator("#roofline-title")).to_contain_text("Roofline of encode")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(browser: Any, address: str, width: int) -> None:
    visit = Visit(browser, address, viewport={"width": width, "height": 844})
    page = visit.open()
    for view in VIEWS:
        choose_view(page, view)
        page.wait_for_function(f"document.documentElement.scrollWidth <= {width}")
        for plot in page.locator(f"#view-{view} .graph").all():
            page.wait_for_function(
                "(plot) => plot.getBoundingClientRect().width <= innerWidth", arg=plot.element_handle()
            )
    narrow = width < 800
    expect(page.locator("#configuration")).to_be_visible(visible=not narrow)
    if narrow:
        page.click("#toggle-configuration")
        expect(page.locator("#configuration")).to_be_visible()
        assert page.get_attribute("#toggle-configuration", "aria-expanded") == "true"
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    visit.close()


def test_the_theme_follows_the_system_until_it_is_chosen(browser: Any, address: str) -> None:
    visit = Visit(browser, address, color_scheme="dark")
    page = visit.open()
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#toggle-theme")
    light = page.evaluate(ground)
    assert sum(map(int, re.findall(r"\d+", dark))) < 100 < 700 < sum(map(int, re.findall(r"\d+", light)))
    visit.open()
    assert page.evaluate(ground) == light
    visit.close()
