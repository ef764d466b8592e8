"""Pictures of the page at two widths, light and dark; needs a Chrome or Chromium.

Usage: python examples/screenshots.py docs/images
"""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from costmodel.explore.app import LOOPBACK, make_app, server_of
from costmodel.explore.results import Results

TRACES = Path(__file__).parent / "synthetic_traces.jsonl"
# Name, query, width, height, colour scheme, and what is on the page once it is drawn.
SHOTS = (
    ("explore-light", "", 1280, 1500, "light", "#memory .barlayer .point"),
    ("explore-dark", "?view=roofline&stage=prefill", 1280, 1100, "dark", "#roofline .scatterlayer .trace"),
    ("explore-policy", "?view=policy&budget_s=4", 1280, 1000, "light", "#pareto .scatterlayer .trace"),
    ("explore-phone-light", "", 390, 844, "light", "#memory .barlayer .point"),
    ("explore-phone-dark", "?view=devices", 390, 1100, "dark", "#side-by-side .barlayer .point"),
)
COLOURS = 256
PATIENCE_MS = 120_000


@contextmanager
def served() -> Iterator[str]:
    """The page on a free port of this machine."""
    results = Results()
    token = results.uploads.add(TRACES.read_bytes(), TRACES.name)
    server = server_of(make_app(results, token=token, hosts=LOOPBACK), host="127.0.0.1", port=0)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def shoot(browser: Browser, address: str, out: Path, shot: tuple[Any, ...]) -> None:
    """One picture, with few enough colours to be small."""
    name, query, width, height, scheme, drawn = shot
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    page.goto(address + query)
    page.wait_for_selector(drawn, state="attached")
    page.wait_for_timeout(1500)
    path = out / f"{name}.png"
    page.screenshot(path=path)
    context.close()
    Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)


def main(out: Path) -> None:
    """Write every picture."""
    out.mkdir(parents=True, exist_ok=True)
    chromium = next((path for name in ("chromium", "google-chrome") if (path := shutil.which(name))), None)
    with served() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for shot in SHOTS:
            shoot(browser, address, out, shot)
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
