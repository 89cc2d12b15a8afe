"""Log records of one line each, on stderr.

    2026-11-22T17:01:53.482Z info daemon.app: ready

Under systemd (its journal is on stderr) the time is left out and the level goes in front as <6>.
Invariants: a record is one line, whatever text it carries; no secret given to `start_logging` ever
stands in one. Source: sd-daemon(3) for the levels; `logging` does the rest.
"""

from __future__ import annotations

import logging
import os
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType

REDACTED = "(secret)"
_PRIORITIES = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
_CONTROLS |= {0x0A: "\\n", 0x0D: "\\r", 0x09: " ", 0x2028: "\\u2028", 0x2029: "\\u2029"}
# Chatty where they say what our own records say already.
_QUIET = ("hypercorn.error", "trio", "quart.app", "alembic", "sqlalchemy")
_FRAMES_MAX = 6


class LineFormatter(logging.Formatter):
    """See the module's text."""

    def __init__(self, *, journal: bool, secrets: Sequence[str], frames: bool) -> None:
        super().__init__()
        self._journal = journal
        self._secrets = [secret for secret in secrets if secret]
        self._frames = frames

    def format(self, record: logging.LogRecord) -> str:
        text = f"{record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            text += f" | {describe(record.exc_info[1], self._frames)}"
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        text = text.translate(_CONTROLS)
        if self._journal:
            return f"<{_PRIORITIES.get(record.levelno, 5)}>{text}"
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        return f"{moment}.{int(record.msecs):03d}Z {record.levelname.lower()} {text}"


def describe(error: BaseException, frames: bool = False) -> str:
    """The error with those it holds or follows from, innermost places first.

    frames: as a whole traceback instead.
    """
    if frames:
        return "".join(traceback.format_exception(error))
    if isinstance(error, BaseExceptionGroup):
        return " & ".join(describe(inner) for inner in error.exceptions)
    text = f"{type(error).__name__}: {error}{_where(error.__traceback__)}"
    return text if error.__cause__ is None else f"{text} <- {describe(error.__cause__)}"


def start_logging(level: str, environment: Mapping[str, str], secrets: Sequence[str]) -> None:
    """Send every logger's records of `level` and above to stderr. Replaces what was set up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        LineFormatter(journal=_is_journal(environment), secrets=secrets, frames=level == "debug")
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)


def _where(trace: TracebackType | None) -> str:
    frames = traceback.extract_tb(trace)[-_FRAMES_MAX:]
    places = [f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames]
    return f" at {' < '.join(reversed(places))}" if places else ""


def _is_journal(environment: Mapping[str, str]) -> bool:
    """Whether stderr is the stream that systemd named in $JOURNAL_STREAM."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    if not inode:
        return False
    status = os.fstat(sys.stderr.fileno())
    return (str(status.st_dev), str(status.st_ino)) == (device, inode)
