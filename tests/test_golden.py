"""No prediction moves without somebody saying why."""

from __future__ import annotations

import golden_grid as golden
import pytest


def test_no_prediction_moved() -> None:
    moved = golden.differences(golden.stored(), list(golden.predicted()))
    shown = "\n".join([*moved[:30], f"… {len(moved)} cells in all" if len(moved) > 30 else ""])
    assert not moved, f"predictions moved; if that is meant: python tests/golden_grid.py --reason …\n{shown}"


def test_the_grid_was_written_with_a_reason() -> None:
    reasons = golden.REASONS.read_text(encoding="utf-8").strip().splitlines()
    assert golden.digest() in reasons[-1]
    assert len(reasons[-1].split("` ", 1)[1]) > 15


def test_the_grid_prices_nearly_everything() -> None:
    cells = golden.stored()
    refused = [cell for cell in cells if not cell.seconds[0][0].isdigit()]
    assert len(cells) == len(golden.MODELS) * len(golden.HARDWARE) * len(golden.ENGINES) * len(golden.REQUESTS)
    assert len(refused) < len(cells) / 3


@pytest.mark.parametrize(
    ("before", "after", "moved"),
    [("1.5", "1.5", False), ("1.50000", "1.50001", False), ("1.5", "1.501", True), ("1.5", "WorkloadError", True)],
)
def test_a_change_is_seen(before: str, after: str, moved: bool) -> None:
    old, new = ([golden.Cell(("m",), (text,) * len(golden.NUMBERS))] for text in (before, after))
    assert bool(golden.differences(old, new)) is moved
    assert bool(golden.differences(old, [])) is True
