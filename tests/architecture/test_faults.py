"""Every line of the table of faults is shown by a test, and every test's line is in the table."""

from __future__ import annotations

from pathlib import Path

from tests.faultrows import TESTS, Row, Table, files_with_rows, named_in, said_in


def test_every_row_is_said_by_a_test_it_names() -> None:
    rows = Table().rows
    said = {file: named_in(TESTS / file) for row in rows.values() for file in row.shown}
    for what, row in rows.items():
        assert all((TESTS / file).exists() for file in row.shown), row.shown
        # Others that are named may show more of the same.
        assert any(what in said[file] for file in row.shown), f"no test says: {what}"


def test_every_row_that_a_test_says_is_in_the_table() -> None:
    rows = Table().rows
    for file in files_with_rows():
        for what in said_in(file):
            name = file.relative_to(TESTS).as_posix()
            assert what in rows, f"{name} shows what isn't in the table: {what}"
            assert name in rows[what].shown, f"the table doesn't name {name}: {what}"


def test_the_table_is_written_as_it_is_read(tmp_path: Path) -> None:
    copy = tmp_path / "RELIABILITY.md"
    copy.write_text(Table()._document.read_text())
    table = Table(copy)
    table.rows["a new fault"] = Row("right bytes", "a word", "nothing", {"store/test_x.py"})
    table.write()
    again = Table(copy)
    assert again.rows == table.rows
    assert copy.read_text().count("\n") == Table()._document.read_text().count("\n") + 1
