"""Log records: one line each, whatever they carry, and never a secret."""

from __future__ import annotations

import logging
import sys

import pytest

from daemon.logs import LineFormatter, describe


def line(message: str, *arguments: object, journal: bool = False, error: bool = False) -> str:
    formatter = LineFormatter(journal=journal, secrets=["hush-hush"], frames=False)
    record = logging.LogRecord(
        "s3api.app",
        logging.WARNING,
        __file__,
        1,
        message,
        arguments,
        sys.exc_info() if error else None,
    )
    record.created, record.msecs = 1_700_000_000.25, 250.0
    return formatter.format(record)


def test_a_record_has_time_level_place_and_text() -> None:
    assert line("drive %s", "/d1") == "2023-11-14T22:13:20.250Z warning s3api.app: drive /d1"


def test_in_the_journal_the_level_stands_in_front_and_the_time_is_left_out() -> None:
    assert line("drive", journal=True) == "<4>s3api.app: drive"


@pytest.mark.parametrize("key", ["a\nb", "a\r\nb", "a\x1b[31mb", "a\u2028b", "a\x85b", "a\0b"])
def test_control_characters_in_what_is_logged_cannot_forge_a_record(key: str) -> None:
    text = line("key %s", key)
    assert len(text.splitlines()) == 1
    assert text.isprintable()


def test_a_secret_is_taken_out_wherever_it_stands() -> None:
    try:
        raise ValueError("bad hush-hush")
    except ValueError:
        text = line("secret %s", "hush-hush", error=True)
    assert "hush-hush" not in text
    assert text.count("(secret)") == 2


def test_an_error_is_told_on_the_same_line_with_its_places_and_cause() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer\nline") from error
    except ValueError:
        text = line("failed", error=True)
    assert len(text.splitlines()) == 1
    assert "ValueError: outer\\nline at test_logs.py:" in text
    assert "<- KeyError: 'inner' at test_logs.py:" in text


def test_a_group_is_told_by_its_members() -> None:
    group = ExceptionGroup("several", [ValueError("one"), ExceptionGroup("in", [KeyError("two")])])
    assert describe(group) == "ValueError: one & KeyError: 'two'"
