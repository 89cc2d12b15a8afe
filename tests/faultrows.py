"""The table of faults in docs/RELIABILITY.md, held to what the tests of the faults saw.

A test that shows what comes of a fault says so in one call, behind its assertions:

    fault_row("a sector can't be read", client="right bytes", status="a read error", lost=[])

It fails where the table says something else. `scripts/faults` runs all of them and writes what they
saw into the table (option `--write-faults`); tests/architecture sees to it that no row is left
that no test shows.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
DOCUMENT = TESTS.parent / "docs" / "RELIABILITY.md"
_HEAD = "| what happens |"
_CELLS = 5
_FILE = re.compile(r"`([\w/]+\.py)`")


@dataclass(slots=True)
class Row:
    """A line of the table. shown: test files below `tests`."""

    client: str
    status: str
    lost: str
    shown: set[str] = field(default_factory=set)

    def line(self, what: str) -> str:
        shown = ", ".join(f"`{file}`" for file in sorted(self.shown))
        return f"| {what} | {self.client} | {self.status} | {self.lost} | {shown} |"


class Table:
    """The table, by what happens; in the order of the document."""

    def __init__(self, document: Path = DOCUMENT) -> None:
        self._document = document
        lines = document.read_text().splitlines()
        self._start = next(i for i, line in enumerate(lines) if line.startswith(_HEAD)) + 2
        self._stop = self._start
        self.rows: dict[str, Row] = {}
        while lines[self._stop].startswith("|"):
            cells = [cell.strip() for cell in lines[self._stop].strip("|").split("|")]
            assert len(cells) == _CELLS, lines[self._stop]
            what, client, status, lost, shown = cells
            assert what not in self.rows, f"twice in the table: {what}"
            files = set(_FILE.findall(shown))
            self.rows[what] = Row(client, status, lost, files)
            self._stop += 1

    def write(self) -> None:
        """Put the rows in the place of those of the document."""
        lines = self._document.read_text().splitlines()
        lines[self._start : self._stop] = [row.line(what) for what, row in self.rows.items()]
        self._document.write_text("\n".join(lines) + "\n")


class Recorder:
    """What a test run saw. One for the session."""

    def __init__(self, *, writes: bool) -> None:
        self._writes = writes
        self._seen: dict[str, Row] = {}

    def record(self, file: str, what: str, client: str, status: str, lost: str) -> None:
        """Compare with the table, or remember for `end`. Raises AssertionError."""
        row = Row(client, status, lost, {file})
        if self._writes:
            seen = self._seen.setdefault(what, row)
            assert (seen.client, seen.status, seen.lost) == (client, status, lost), what
            seen.shown.add(file)
            return
        told = Table().rows.get(what)
        assert told is not None, f"not in docs/RELIABILITY.md (scripts/faults writes it): {what}"
        assert (told.client, told.status, told.lost) == (client, status, lost), what
        assert file in told.shown, f"{file} shows this, too: {what}"

    def end(self) -> None:
        """Write what was seen into the table."""
        if self._writes and self._seen:
            table = Table()
            for what, row in self._seen.items():
                before = table.rows.get(what)
                files = set() if before is None else before.shown
                row.shown |= {file for file in files if what in named_in(TESTS / file)}
                table.rows[what] = row
            table.write()


class FaultRow:
    """Called by a test with what it saw. lost: what could not be had, or a sentence about it."""

    def __init__(self, recorder: Recorder, file: str) -> None:
        self._recorder = recorder
        self._file = file

    def __call__(
        self, what: str, *, client: str, status: str, lost: Sequence[object] | str = ()
    ) -> None:
        told = lost if isinstance(lost, str) else ", ".join(map(str, lost))
        self._recorder.record(self._file, what, client, status, told or "nothing")


def said_in(file: Path) -> Iterator[str]:
    """The rows that a test file has a `fault_row` call for, where the call itself names them."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.args:
            first = node.args[0]
            if node.func.id == "fault_row" and isinstance(first, ast.Constant):
                yield str(first.value)


def named_in(file: Path) -> set[str]:
    """Whatever a test file may say: the parameters of its tests, too."""
    if not file.exists():
        return set()
    nodes = ast.walk(ast.parse(file.read_text()))
    return {str(node.value) for node in nodes if isinstance(node, ast.Constant)}


def files_with_rows() -> list[Path]:
    """All test files that show a fault."""
    found = [path for path in TESTS.rglob("test_*.py") if "fault_row(" in path.read_text()]
    return sorted(path for path in found if path.parent.name != "architecture")


def pytest_addoption(parser: pytest.Parser) -> None:
    """See the module's text."""
    parser.addoption("--write-faults", action="store_true", help="write docs/RELIABILITY.md's rows")


@pytest.fixture(scope="session")
def fault_recorder(pytestconfig: pytest.Config) -> Iterator[Recorder]:
    """Of this run."""
    recorder = Recorder(writes=bool(pytestconfig.getoption("--write-faults")))
    yield recorder
    recorder.end()


@pytest.fixture
def fault_row(fault_recorder: Recorder, request: pytest.FixtureRequest) -> FaultRow:
    """For a test to say what it saw of a fault."""
    return FaultRow(fault_recorder, request.path.relative_to(TESTS).as_posix())
