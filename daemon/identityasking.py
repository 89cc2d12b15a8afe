"""What the commands of users, roles, keys and policies share: asking, and showing the answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from daemon.asking import daemon_at
from daemon.cli import EXIT_FAILED, EXIT_USAGE, fail
from daemon.identitytalk import Answer, IdentityRefused, Question, ask_identity
from daemon.welcome import table

_DOCUMENT_BYTES_MAX = 1 << 20
Many = Annotated[list[str] | None, Parameter(negative="", show_default=False)]
Switch = Annotated[bool, Parameter(negative="")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What every command takes.

    Parameters
    ----------
    account:
        The configured user whose account it is about, if not the root's.
    json:
        Print it as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """

    account: str = ""
    json: Annotated[bool, Parameter(negative="")] = False
    config: Annotated[Path | None, Parameter(negative="")] = None
    socket: Annotated[Path | None, Parameter(negative="")] = None


HERE = Where()


def ask(where: Where, what: str, verb: str, **more: object) -> int:
    """Have it done, show the answer; the exit code."""
    question = Question(what=what, verb=verb, account=where.account, **more)  # type: ignore[arg-type]
    with daemon_at(where.config, where.socket, IdentityRefused) as path:
        answer = ask_identity(path, question)
    _show(answer, json=where.json)
    return EXIT_FAILED if answer.failed else 0


def _show(answer: Answer, *, json: bool) -> None:
    if json:
        import msgspec

        names = [column.lower().replace(" ", "_") for column in answer.columns]
        shown: object = [dict(zip(names, row, strict=True)) for row in answer.rows]
        if not answer.columns:
            shown = list(answer.lines)
        print(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return
    if answer.columns:
        print("\n".join(table(answer.columns, answer.rows)))
    for line in answer.lines:
        print(line)


def document_of(path: Path) -> str:
    """The text of a file that somebody named. Exits where it can't be read."""
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(_DOCUMENT_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        fail(EXIT_USAGE, f"{path} can't be read: {reason}")
