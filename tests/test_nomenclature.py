"""The page of symbols is complete: symbols of equations, coefficients of laws, and no name that is not in the code."""

from __future__ import annotations

import importlib
import pkgutil
import re

import pytest
from conftest import PACKAGES, REPO
from latex2mathml.converter import convert

from costmodel import laws
from costmodel.laws.base import Law

EQUATIONS = (REPO / "docs" / "equations.md").read_text()
NOMENCLATURE = (REPO / "docs" / "nomenclature.md").read_text()

# Commands that set, and do not stand for a quantity.
SETTING = {
    "lceil", "rceil", "max", "min", "operatorname", "frac", "left", "right", "sum", "prod", "int", "sqrt", "times",
    "cdot", "pm", "top", "text", "ln",
}  # fmt: skip
_SYMBOL = re.compile(r"(\\[A-Za-z]+|[A-Za-z])('?)(?:_(\\text\{\w+\}|\{\w+\}|\w))?")
_WORDS = re.compile(r"(?<!_)\\(text|operatorname)\{[^}]*\}|(?<=\\sum)_\\text\{\w+\}|(?<=\\prod)_\\text\{\w+\}")


def formulas(text: str) -> list[str]:
    return re.findall(r"\$([^$]+)\$", text)


def symbols(formula: str) -> set[str]:
    """Symbols with their indices; words set upright and names of functions are none."""
    found = set()
    for match in _SYMBOL.finditer(_WORDS.sub(" ", formula)):
        name, prime, index = match.group(1), match.group(2) or "", match.group(3) or ""
        if name.removeprefix("\\") not in SETTING:
            found.add(name + prime + re.sub(r"\\text|[{}]", "", index and f"_{index}"))
    return found


def cited_numbers(text: str) -> set[int]:
    """Equations that a text cites: one, several, or a span of them."""
    found: set[int] = set()
    for group in re.findall(r"equations? (\d+(?:(?:, | and | to )\d+)*)", text):
        for first, last in re.findall(r"(\d+)(?: to (\d+))?", group):
            found |= set(range(int(first), int(last or first) + 1))
    return found


KNOWN = {symbol for formula in formulas(NOMENCLATURE) for symbol in symbols(formula)}
NAMED = set(re.findall(r"\w+", " ".join(re.findall(r"`([^`]+)`", NOMENCLATURE))))


def test_symbols_are_found() -> None:
    assert symbols(r"t_0 + \operatorname{qn}(\frac{F}{\eta P}; q_t)") == {"t_0", "F", r"\eta", "P", "q_t"}
    assert symbols(r"\sum_\text{layers} 2 e_{kv} b \min(s_{kv}, w)") == {"e_kv", "b", "s_kv", "w"}
    assert symbols(r"N_\text{SM} \cdot \text{some words} + t'_\text{tiles}") == {"N_SM", "t'_tiles"}
    assert len(formulas(EQUATIONS)) > 80
    assert len(KNOWN) > 80


def test_every_symbol_is_explained() -> None:
    missing = {symbol: formula for formula in formulas(EQUATIONS) for symbol in symbols(formula) if symbol not in KNOWN}
    assert not missing


def test_no_symbol_is_explained_that_is_not_used() -> None:
    used = {symbol for formula in formulas(EQUATIONS) for symbol in symbols(formula)}
    assert KNOWN - used == set()


def test_every_equation_is_mathml() -> None:
    for formula in formulas(EQUATIONS) + formulas(NOMENCLATURE):
        assert convert(formula).startswith("<math")
        assert "$" not in formula
        assert formula.count("{") == formula.count("}")


def test_equations_are_numbered_once() -> None:
    numbers = re.findall(r"^- \((\d+)\)", EQUATIONS, flags=re.MULTILINE)
    assert len(numbers) == len(set(numbers))
    cited = {
        number
        for package in PACKAGES
        for path in (REPO / package).rglob("*.py")
        for number in cited_numbers(path.read_text())
    }
    assert cited == set(map(int, numbers))


def test_citations_are_read() -> None:
    assert cited_numbers("(equation 12); (equations 3 to 5), equations 8 and 9") == {3, 4, 5, 8, 9, 12}
    assert cited_numbers("equations 17 to 19 and 24") == {17, 18, 19, 24}


def test_decisions_are_numbered_in_a_row() -> None:
    paths = sorted((REPO / "docs" / "decisions").glob("*.md"))
    titles = [path.read_text().split(" ", 2)[:2] for path in paths]
    assert [path.name[:3] for path in paths] == [f"{number:03}" for number in range(1, len(paths) + 1)]
    assert titles == [["#", f"{number}."] for number in range(1, len(paths) + 1)]


def _laws() -> list[Law]:
    modules = (importlib.import_module(f"costmodel.laws.{found.name}") for found in pkgutil.iter_modules(laws.__path__))
    values = [value for module in modules for value in vars(module).values()]
    rows = [each for value in values for each in (value if isinstance(value, tuple) else (value,))]
    return [each for each in rows if isinstance(each, Law)]


@pytest.mark.parametrize("law", {law.name: law for law in _laws()}.values(), ids=lambda law: law.name)
def test_every_coefficient_is_named(law: Law) -> None:
    assert {parameter.name for parameter in law.parameters} <= NAMED


def test_names_are_those_of_the_code() -> None:
    code = "\n".join(path.read_text() for package in PACKAGES for path in (REPO / package).rglob("*.py"))
    words = set(re.findall(r"\w+", code)) | {"_s"}
    assert sorted(NAMED - words) == []
