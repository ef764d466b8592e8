"""The house rules that a machine can check: what imports what, where scales live, how long things get."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import PACKAGES, REPO

FILES = sorted(path for package in PACKAGES for path in (REPO / package).rglob("*.py"))
NAMES = [str(path.relative_to(REPO)) for path in FILES]

# What a prediction must never need.
FORBIDDEN_IN_COSTMODEL = {"calibrate", "torch", "transformers", "pynvml", "scipy"}
# What must not be loaded before a command asks for it.
HEAVY = ("torch", "transformers", "scipy.optimize", "plotly", "pandas", "pyarrow")

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# The one place that says when something was measured.
DATED = "calibrate/measure/telemetry.py"

SCALE_FLOATS = {10.0**power for power in (3, 6, 9, 12, 15)}
SCALE_INTEGERS = {10**power for power in (6, 9, 12, 15)} | {1024**power for power in (2, 3, 4)}
SCALE_BASES = {10, 1000, 1024}


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def _imports(tree: ast.AST) -> Iterator[str]:
    """Every module imported anywhere in a file, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _scales(tree: ast.AST) -> Iterator[ast.expr]:
    """Literals that convert between a unit and its thousands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and _is_scale(node.value):
            yield node
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow | ast.LShift):
            base, exponent = node.left, node.right
            literal = isinstance(base, ast.Constant) and isinstance(exponent, ast.Constant)
            if literal and isinstance(node.op, ast.Pow) and base.value in SCALE_BASES:
                yield node
            if literal and isinstance(node.op, ast.LShift) and exponent.value in (20, 30, 40):
                yield node


def _is_scale(value: object) -> bool:
    if isinstance(value, float):
        return value in SCALE_FLOATS
    return isinstance(value, int) and not isinstance(value, bool) and value in SCALE_INTEGERS


def _all_of(tree: ast.Module) -> list[str] | None:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            return list(ast.literal_eval(node.value))
    return None


def _defined(tree: ast.AST) -> set[str]:
    """Names that a module binds at its top level, inside its ``if`` and ``try`` blocks too."""
    names: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        else:
            names |= _defined(node)
    return names


def _resolvable(name: str, tree: ast.Module) -> set[str]:
    """Names that a module really has; one that resolves names when they are asked for is asked."""
    defined = _defined(tree)
    if "__getattr__" not in defined:
        return defined
    module = importlib.import_module(name.removesuffix("/__init__.py").removesuffix(".py").replace("/", "."))
    return {each for each in _all_of(tree) or () if hasattr(module, each)}


def _sort_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, as ruff sorts them."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2, name)


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith("costmodel/")])
def test_predictions_need_no_measuring_library(name: str) -> None:
    roots = {module.partition(".")[0] for module in _imports(_tree(REPO / name))}
    assert not roots & FORBIDDEN_IN_COSTMODEL


@pytest.mark.parametrize("modules", ["costmodel", "costmodel, costmodel.cli"])
def test_importing_loads_nothing_heavy(modules: str) -> None:
    script = f"import sys, {modules}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=REPO, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


@pytest.mark.parametrize("name", [name for name in NAMES if name != "costmodel/units.py"])
def test_scales_live_in_one_module(name: str) -> None:
    found = [f"line {node.lineno}: {ast.unparse(node)}" for node in _scales(_tree(REPO / name))]
    assert not found, "use costmodel.units"


@pytest.mark.parametrize("name", NAMES)
def test_all_is_sorted_and_real(name: str) -> None:
    tree = _tree(REPO / name)
    names = _all_of(tree)
    if names is None:
        public = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
        assert all(each.startswith("_") for each in public), "a module with public names needs __all__"
        return
    assert names == sorted(set(names), key=_sort_key)
    assert set(names) <= _resolvable(name, tree)


@pytest.mark.parametrize("name", NAMES)
def test_files_fit_on_a_few_screens(name: str) -> None:
    assert len((REPO / name).read_text(encoding="utf-8").splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("name", NAMES)
def test_functions_fit_on_one_screen(name: str) -> None:
    for node in ast.walk(_tree(REPO / name)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            doc = first if ast.get_docstring(node) is not None else None
            doc_lines = doc.end_lineno - doc.lineno + 1 if doc is not None and doc.end_lineno else 0
            lines = (node.end_lineno or node.lineno) - node.lineno + 1 - doc_lines
            assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines without its docstring"


@pytest.mark.parametrize("name", NAMES)
def test_no_assert_validates_anything(name: str) -> None:
    """Python drops asserts with -O: input is checked by typed errors."""
    lines = [node.lineno for node in ast.walk(_tree(REPO / name)) if isinstance(node, ast.Assert)]
    assert not lines


@pytest.mark.parametrize("name", NAMES)
def test_durations_come_from_clocks_that_never_step_back(name: str) -> None:
    """The wall clock dates a measurement; it never times one."""
    used = re.findall(r"\btime\.time\(", (REPO / name).read_text(encoding="utf-8"))
    assert len(used) == (1 if name == DATED else 0)


def test_the_rules_above_can_fail() -> None:
    tree = ast.parse("import torch.nn\nx = 10**9 * 1e6 + 1_000_000 + 1024**3 + (1 << 20) + 1024 + 1000 + 1e-6")
    assert set(_imports(tree)) == {"torch.nn"}
    found = sorted(ast.unparse(node) for node in _scales(tree))
    assert found == ["1 << 20", "10 ** 9", "1000000", "1000000.0", "1024 ** 3"]
    assert _all_of(ast.parse("__all__ = ['b', 'a']")) == ["b", "a"]
    assert sorted(["f", "B", "A_B", "a"], key=_sort_key) == ["A_B", "B", "a", "f"]
    module = ast.parse("def real():\n    ghost = 1\nif True:\n    import os as under\nx, y = 1, 2")
    assert _defined(module) == {"real", "under", "x", "y"}


def test_some_files_were_looked_at() -> None:
    assert {"costmodel/ops/gemm.py", "calibrate/measure/hf_config.py"} <= set(NAMES)
