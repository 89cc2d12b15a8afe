"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("daemon", "fusefs", "metadb", "s3api", "store")
FILE_LINES_MAX = 450
FUNCTION_LINES_MAX = 60
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
# A migration is one list of statements, written once and never touched again.
MIGRATIONS = ROOT / "metadb" / "migrations" / "versions"


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_there_is_something_to_measure() -> None:
    assert len(SOURCES) > 50


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_file_and_its_functions_are_short(path: Path) -> None:
    text = path.read_text()
    lines = len(text.splitlines())
    assert lines <= FILE_LINES_MAX, f"{relative(path)} has {lines} lines"
    if path.is_relative_to(MIGRATIONS):
        return
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            assert length <= FUNCTION_LINES_MAX, f"{relative(path)}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=relative)
def test_a_module_says_what_it_is(path: Path) -> None:
    text = path.read_text()
    if not text.strip():
        assert path.name == "__init__.py", f"{relative(path)} is empty"
        return
    assert ast.get_docstring(ast.parse(text)), f"{relative(path)} has no header"
