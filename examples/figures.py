"""Render the figures of a demonstration as PNG files; needs a Chrome or Chromium for kaleido.

Usage: python examples/figures.py build/demo docs/images
"""

from __future__ import annotations

import sys
from pathlib import Path

from costmodel.breakeven import BreakEven
from costmodel.documents import read_document
from costmodel.plots import break_even_figure, latency_figure, parity_figure
from costmodel.validation import Validation


def main(demo: Path, out: Path) -> None:
    """Write parity, latency and break-even."""
    out.mkdir(parents=True, exist_ok=True)
    result = read_document(demo / "breakeven.json", BreakEven)
    validation = read_document(demo / "validation.json", Validation)
    figures = {
        "latency": latency_figure(result),
        "break-even": break_even_figure(result),
        "parity": parity_figure(validation),
    }
    for name, figure in figures.items():
        figure.write_image(out / f"{name}.png", width=760, height=520, scale=1.5)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
