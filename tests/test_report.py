"""The report: one file that needs nothing else, safe against what profiles say, whole or absent."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import report_samples as samples

from costmodel.errors import InputError
from costmodel.families.sources import load_model
from costmodel.predict import estimate
from costmodel.roofline import roofline_of

pytest.importorskip("plotly", reason="plotly is not installed (extra: plot)")

from costmodel import plots, report
from costmodel.plots.text import tokens_interval
from costmodel.report.markup import Html, element, join, table
from costmodel.units import format_rate
from costmodel.words import bound_words

HOSTILE = "<script>alert(1)</script>"
COMMANDS = ("costmodel predict --model M", "costmodel report --out report.html")
_LOADING = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}


class Page(HTMLParser):
    """What a browser would see: elements with their attributes, text, and scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.headings: list[str] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"unbalanced {tag}"

    def handle_data(self, data: str) -> None:
        inside = self._open[-1] if self._open else ""
        if inside == "script":
            self.scripts.append((self.elements[-1][1], data))
        elif inside != "style":
            self.words.append(data)
            if inside == "h2":
                self.headings.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def write(folder: Path, **inputs: Any) -> str:
    path = folder / "report.html"
    report.write_report(path, **inputs)
    return path.read_text(encoding="utf-8")


def everything() -> dict[str, Any]:
    return {
        "predictions": samples.predictions(),
        "break_even": samples.crossing(),
        "validation": samples.validation(),
        "hardware": samples.hardware(calibrated=True),
        "engine": samples.engine(),
        "commands": COMMANDS,
    }


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write(tmp_path_factory.mktemp("report"), **everything())


@pytest.fixture(scope="module")
def page(full: str) -> Page:
    return Page(full)


def test_nothing_is_loaded_from_anywhere(page: Page) -> None:
    for tag, attributes in page.elements:
        for name in _LOADING & set(attributes):
            assert (tag, name, attributes[name]) == ("link", "href", "data:,")
    assert not {"iframe", "object", "embed", "img", "base"} & {tag for tag, _ in page.elements}


def test_the_style_loads_nothing(full: str) -> None:
    (style,) = re.findall(r"<style>(.*?)</style>", full, flags=re.DOTALL)
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style


def test_the_policy_admits_these_scripts_and_no_request(page: Page) -> None:
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    run = [text for attributes, text in page.scripts if attributes.get("type") != "application/json"]
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in run]
    assert re.findall(r"'sha256-([^']+)'", policy) == hashes
    assert "http" not in policy


def test_plotly_is_inside_once(full: str) -> None:
    assert full.count("plotly.js v") == 1
    assert len(full) < 8_000_000


def test_figures_are_those_of_the_figure_functions(page: Page) -> None:
    result = samples.crossing()
    data = {str(a["id"]): json.loads(text) for a, text in page.scripts if a.get("type") == "application/json"}
    placed = [attributes["data-figure"] for tag, attributes in page.elements if "data-figure" in attributes]
    assert placed == list(data)
    assert len(placed) == 6
    expected = json.loads(plots.latency_figure(result).to_json())["data"]
    assert data["figure-2"]["data"] == expected


def test_every_section_is_there(page: Page) -> None:
    assert page.headings == [
        "Predicted latency",
        "Break-even",
        "Predicted against measured",
        "Device",
        "Engine",
        "Assumptions and warnings",
        "Commands",
    ]


def test_headline_in_words(page: Page) -> None:
    result, validation = samples.crossing(), samples.validation()
    assert result.break_even_output_tokens is not None
    crossing = tokens_interval(result.break_even_output_tokens)
    assert f"20 output tokens of {samples.LARGE} take as long as {crossing} of {samples.SMALL}" in page.text
    total = next(score for score in validation.stages if score.stage == "total")
    assert "Check against real runs: passed (24 cases, 87 % of the runs undisturbed)" in page.text
    assert f"off by {100 * total.mape:.1f} % on average" in page.text
    assert f"differ by {100 * total.noise_floor:.1f} % (noise floor)" in page.text


def test_provenance_sources_and_commands(page: Page) -> None:
    for text in (
        "NVIDIA H100 SXM",
        "3.35 TB/s",
        "gemm/bf16: law roofline, 340 rows, residual spread 7.0 %",
        "decode.decoder_layer layers 0.00021 s per layer",
        "kv_bytes 4.1e-13 s per byte 2.44 TB/s 3.0 %",
        "engine vllm-0.7.2: request_s",
        "law gemm/bf16: sharpness",
        "attention_encoder/bf16 datasheet datasheet",
        "13 of 96 runs were disturbed and left out",
        *samples.predictions()[0].warnings,
        *COMMANDS,
    ):
        assert text in page.text, text


def test_comparisons_are_sections_of_their_own(tmp_path: Path) -> None:
    devices = samples.predictions()
    forecast = estimate(load_model(samples.SMALL), samples.hardware(), samples.engine(), devices[0].workload)
    found = Page(write(tmp_path, predictions=devices, devices=devices, rooflines=[roofline_of(forecast, "decode")]))
    assert found.headings == ["Predicted latency", "Roofline", "Other devices", "Assumptions and warnings"]
    assert sum("data-figure" in attributes for _, attributes in found.elements) == 4


def test_what_bounds_each_stage_is_said(page: Page) -> None:
    text = page.text.replace(" ", "")
    for prediction in samples.predictions():
        for line in bound_words(prediction):
            assert line.replace("**", "").replace(" ", "") in text


def test_a_section_without_input_is_absent(tmp_path: Path) -> None:
    only = Page(write(tmp_path, predictions=samples.predictions()[:1]))
    assert only.headings == ["Predicted latency", "Assumptions and warnings"]
    assert f"{samples.SMALL} answers with 200 tokens in" in only.text
    for inputs, first in (
        ({"break_even": samples.no_crossing()}, "Break-even"),
        ({"validation": samples.validation()}, "Predicted against measured"),
        ({"hardware": samples.hardware()}, "Device"),
    ):
        assert Page(write(tmp_path, **inputs)).headings == [first, "Assumptions and warnings"]


def test_a_page_without_figures_has_no_script(tmp_path: Path) -> None:
    text = write(tmp_path, hardware=samples.hardware())
    assert "<script" not in text
    assert "script-src 'none'" in text


def test_a_verdict_other_than_passed_is_said(tmp_path: Path) -> None:
    validation = samples.validation().model_copy(
        update={"verdict": "inconclusive", "rows": (), "stages": (), "break_even": (), "reasons": ("too few runs",)}
    )
    text = Page(write(tmp_path, validation=validation)).text
    assert "inconclusive" in text
    assert "too few runs" in text
    assert "passed" not in text


def test_text_from_files_stays_text(tmp_path: Path) -> None:
    inputs = everything()
    inputs["predictions"] = [
        p.model_copy(
            update={"model": HOSTILE, "hardware": HOSTILE, "warnings": (HOSTILE,), "sources": {HOSTILE: HOSTILE}}
        )
        for p in inputs["predictions"]
    ]
    names = {"small": HOSTILE, "large": f"{HOSTILE}2", "hardware": HOSTILE, "engine": HOSTILE}
    inputs["break_even"] = inputs["break_even"].model_copy(update=names)
    validation = inputs["validation"]
    rows = tuple(row.model_copy(update={"case_id": HOSTILE, "model": HOSTILE}) for row in validation.rows)
    inputs["validation"] = validation.model_copy(update={"rows": rows, "reasons": (HOSTILE,)})
    device = inputs["hardware"]
    origin = device.provenance.model_copy(
        update={"measured_by": HOSTILE, "notes": (HOSTILE,), "software": {HOSTILE: HOSTILE}}
    )
    sheet = device.datasheet.model_copy(update={"references": (HOSTILE,), "peak_flops_per_s": {HOSTILE: 1.0}})
    slices = tuple(
        entry.model_copy(update={"model": HOSTILE, "components": {HOSTILE: fit}})
        for entry in device.slices
        for fit in entry.components.values()
    )
    laws = {HOSTILE: next(iter(device.laws.values())).model_copy(update={"law": HOSTILE})}
    inputs["hardware"] = device.model_copy(
        update={"name": HOSTILE, "provenance": origin, "datasheet": sheet, "slices": slices, "laws": laws}
    )
    inputs["engine"] = inputs["engine"].model_copy(update={"name": HOSTILE, "references": (HOSTILE,)})
    inputs["commands"] = (HOSTILE,)
    text = write(tmp_path, **inputs)
    assert "<script>alert" not in text
    hostile = Page(text)
    assert sum(tag == "script" for tag, _ in hostile.elements) == 8
    assert HOSTILE in hostile.text


def test_a_failure_leaves_no_file_and_keeps_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("drawing failed")

    monkeypatch.setattr(plots, "breakdown_figure", fail)
    path = tmp_path / "report.html"
    with pytest.raises(RuntimeError, match="drawing failed"):
        report.write_report(path, predictions=samples.predictions())
    assert list(tmp_path.iterdir()) == []
    path.write_text("old")
    with pytest.raises(RuntimeError, match="drawing failed"):
        report.write_report(path, predictions=samples.predictions())
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    assert path.read_text() == "old"


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(InputError, match="No space left on device"):
        report.write_report(tmp_path / "report.html", hardware=samples.hardware())
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"can.t write"):
        report.write_report(tmp_path / "taken" / "report.html", hardware=samples.hardware())


def test_an_empty_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to report"):
        report.write_report(tmp_path / "report.html", commands=COMMANDS)
    assert list(tmp_path.iterdir()) == []


def test_markup_escapes_what_it_did_not_make() -> None:
    assert join(["<b>", Html("<i>")]) == "&lt;b&gt;<i>"
    assert element("p", '"', title='"<') == '<p title="&quot;&lt;">&quot;</p>'
    cells = Page(table("t", ["name", "n"], [["a", "1"], ["b", "±2 %"]])).elements
    assert ("td", {"class": "number"}) in cells


def test_si_prefixes() -> None:
    assert format_rate(3.35e12, "B/s") == "3.35 TB/s"
    assert format_rate(989.4e12, "FLOP/s") == "989 TFLOP/s"
    assert format_rate(12.0, "B/s") == "12 B/s"
