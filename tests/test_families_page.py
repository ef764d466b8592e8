"""docs/families.md says what the tests and the example say."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from conftest import REPO

PAGE = (REPO / "docs" / "families.md").read_text(encoding="utf-8")


def test_the_table_of_checks_is_up_to_date(transformers: Any) -> None:
    from families_page import table

    assert table() in PAGE, "run python tests/families_page.py and put its table into docs/families.md"


@pytest.fixture(scope="module")
def example() -> Any:
    found = importlib.util.spec_from_file_location("families_example", REPO / "examples" / "families.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def test_the_models_side_by_side_are_those_of_the_example(example: Any) -> None:
    from costmodel import load_engine, load_hardware

    table = example.side_by_side(load_hardware("h100-sxm"), load_engine("vllm-0.7.2"))
    assert f"| {' | '.join(table.columns)} |" in PAGE
    for row in table.rows:
        # Sizes and tokens are facts; times change with every fit.
        assert f"| {' | '.join(row[:4])} |" in PAGE
        *_, prefill, step = (float(cell.rstrip("%")) for cell in row[-2:])
        assert 0 < prefill < 100, row
        assert 0 < step < 100, row
