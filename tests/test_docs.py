"""The documentation: builds strictly and offline, its formulas are formulas, its first page does what it says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import REPO

DOCS = REPO / "docs"


class Page(HTMLParser):
    """What a page loads, its formulas, and its text outside of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.formulas = 0
        self.prose = ""
        self.code = ""
        self._code = 0
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag in ("script", "img", "source", "iframe"):
            self.loaded.append(found.get("src") or "")
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(found.get("href") or "")
        self.formulas += tag == "math"
        self._code += tag in ("code", "script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._code -= tag in ("code", "script", "style")

    def handle_data(self, data: str) -> None:
        if self._code:
            self.code += data
        else:
            self.prose += data


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Page]:
    """Every page of the site by its path."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (extra: docs)")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPO)}
    done = subprocess.run(command, cwd=REPO, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {str(path.relative_to(folder)): Page(path.read_text()) for path in folder.rglob("*.html")}


def test_every_page_is_built(site: dict[str, Page]) -> None:
    pages = {str(path.relative_to(DOCS).with_suffix(".html")) for path in DOCS.rglob("*.md")}
    assert pages <= set(site)


def test_no_page_asks_a_network(site: dict[str, Page]) -> None:
    assert any(page.loaded for page in site.values())
    for name, page in site.items():
        assert not [url for url in page.loaded if urlsplit(url).scheme not in ("", "data")], name
        assert not [url for url in page.loaded if url.startswith("//")], name


def test_formulas_are_rendered(site: dict[str, Page]) -> None:
    for name in ("equations", "nomenclature"):
        written = len(re.findall(r"\$[^$]+\$", (DOCS / f"{name}.md").read_text()))
        page = site[f"{name}.html"]
        assert page.formulas == written > 50
        assert "$" not in page.prose
        assert "\\" not in page.prose


def test_commands_are_listed_with_their_help(site: dict[str, Page]) -> None:
    text = " ".join(site["commands.html"].code.split())
    for command in ("predict", "calibrate run", "policy", "schema"):
        assert f"Usage: costmodel {command} [OPTIONS]" in text
        assert f"Example: costmodel {command}" in text


def blocks(page: str) -> Iterator[tuple[str, str]]:
    """Language and content of every block of code."""
    yield from re.findall(r"^```(\w+)\n(.*?)^```$", (DOCS / page).read_text(), flags=re.MULTILINE | re.DOTALL)


def _shape(text: str) -> list[str]:
    """Words without numbers and their units: what stays when a profile is fitted again."""
    return [" ".join(re.sub(r"[\d.]+ (?:ms|s|µs)\b|[\d.]+", "#", line).split()) for line in text.splitlines() if line]


def test_the_first_page_word_for_word(tmp_path: Path) -> None:
    """Every block is run, in order; what it says to be printed is printed, numbers aside."""
    pytest.importorskip("plotly", reason="plotly is not installed (extra: plot)")
    script = tmp_path / "bin" / "costmodel"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {sys.executable} -c "from costmodel.cli import main; main()" "$@"\n')
    script.chmod(0o755)
    (tmp_path / "examples").symlink_to(REPO / "examples")
    path = f"{script.parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(REPO)}
    printed, ran = "", 0
    for language, content in blocks("start.md"):
        if language == "text":
            assert _shape(printed)[: len(_shape(content))] == _shape(content)
            continue
        if "pip install" in content:
            continue
        command = {"bash": ["bash", "-euc"], "python": [sys.executable, "-c"]}[language]
        done = subprocess.run(
            [*command, content], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        printed, ran = done.stdout, ran + 1
    assert ran >= 6
    assert {"breakeven.html", "report.html", "prediction.json"} <= {
        entry.name for entry in (tmp_path / "build").iterdir()
    }


def test_what_the_first_page_installs_exists() -> None:
    import tomllib

    extras = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    text = "\n".join(path.read_text() for path in (*DOCS.rglob("*.md"), REPO / "README.md"))
    named = {name for group in re.findall(r"install [^\n]*\[([\w,]+)\]", text) for name in group.split(",")}
    assert {"plot", "calibrate"} <= named <= set(extras)
