"""`twofold bucket`: list, usage, quota, trash. The running daemon does it, over its control socket.

Sizes are given in bytes or with a unit (10GB, 10GiB, 10g: powers of 1000 and, with an i, of 1024).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from cyclopts import App, Parameter

from daemon.asking import SocketOption, daemon_at
from daemon.buckettalk import Ask, BucketError, BucketReport, Question, talking
from daemon.cli import EXIT_USAGE, ConfigOption, fail

JsonOption = Annotated[bool, Parameter(negative="")]
T = TypeVar("T")

NONE = "none"
_POWERS = "kmgtpe"
_parse_size = re.compile(r"(\d{1,19})(?:\.(\d{1,9}))?\s*([kmgtpe]?)(i?)b?", re.IGNORECASE).fullmatch

app = App(name="bucket", help="List the running daemon's buckets, and bound what they hold.")


@app.command(name="list")
def list_buckets(
    *, json: JsonOption = False, config: ConfigOption = None, socket: SocketOption = None
) -> None:
    """Show every bucket with its owner, what it holds and its quota.

    Parameters
    ----------
    json:
        Print it as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    _show(_with_daemon(config, socket, _all), json=json)


@app.command
def usage(
    name: str,
    /,
    *,
    json: JsonOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Show what one bucket holds, and its quota.

    Parameters
    ----------
    name:
        The bucket.
    json:
        Print it as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    question = Question(verb="show", bucket=name)
    _show(_with_daemon(config, socket, lambda ask: ask(question)), json=json)


@app.command
def quota(
    name: str,
    size: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    json: JsonOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Set how many bytes a bucket may hold, or show it.

    It holds at once, for S3 and for the mount. What is there stays, also if it is more.

    Parameters
    ----------
    name:
        The bucket.
    size:
        Bytes, or with a unit as 10GiB; none for no quota. If not given, nothing is changed.
    json:
        Print it as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    question = Question(verb="show", bucket=name)
    if size:
        quota_bytes = None if size.lower() == NONE else parse_size(size)
        if quota_bytes is None and size.lower() != NONE:
            fail(EXIT_USAGE, f"{size} is no size: write it as 500000000, 500MB, 10GiB or none")
        question = Question(verb="quota", bucket=name, quota_bytes=quota_bytes)
    _show(_with_daemon(config, socket, lambda ask: ask(question)), json=json)


@app.command
def trash(
    name: str,
    days: Annotated[str, Parameter(show_default=False)] = "",
    /,
    *,
    json: JsonOption = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Set for how long what is deleted or replaced in a bucket can be had back, or show it.

    From then on the bucket keeps versions, which count for its quota until they are removed.
    See twofold undelete.

    Parameters
    ----------
    name:
        The bucket.
    days:
        A number of days; none for no trash: versions then stay until somebody removes them. If not
        given, nothing is changed.
    json:
        Print it as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    question = Question(verb="show", bucket=name)
    if days:
        if days.lower() != NONE and not re.fullmatch(r"[0-9]{1,9}", days):
            fail(EXIT_USAGE, f"{days} is no number of days, and not none")
        trash_days = None if days.lower() == NONE else int(days)
        question = Question(verb="trash", bucket=name, trash_days=trash_days)
    _show(_with_daemon(config, socket, lambda ask: ask(question)), json=json)


def parse_size(text: str) -> int | None:
    """Bytes of a size as people write it, None for what is none."""
    match = _parse_size(text.strip())
    if match is None:
        return None
    whole, fraction, unit, binary = match.groups()
    if binary and not unit:
        return None
    scale = (1024 if binary else 1000) ** (_POWERS.index(unit.lower()) + 1 if unit else 0)
    part = int(fraction or 0) * scale // 10 ** len(fraction or "")
    size_bytes = int(whole) * scale + part
    return size_bytes if size_bytes < 1 << 63 else None


def _all(ask: Ask) -> Sequence[BucketReport]:
    found: list[BucketReport] = []
    while page := ask(Question(verb="list", bucket=found[-1].name if found else "")):
        found += page
    return found


def _with_daemon(config: Path | None, socket: Path | None, do: Callable[[Ask], T]) -> T:
    """Do it with the daemon's ear, or say why that can't be had."""
    with daemon_at(config, socket, BucketError) as path, talking(path) as ask:
        return do(ask)


def _show(buckets: Sequence[BucketReport], *, json: bool) -> None:
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(list(buckets)), indent=2).decode())
        return
    rows = [("BUCKET", "OWNER", "USED", "QUOTA", "INODES", "VERSIONS", "TRASH")]
    for each in buckets:
        bound = NONE if each.quota_bytes is None else f"{each.quota_bytes:,}"
        lock = ", locked" if each.object_lock else ""
        used = f"{each.used_bytes:,}"
        owner = each.owner if len(each.owner) < 64 else each.owner[:12] + "..."
        versions = each.versioning + lock
        days = NONE if each.trash_days is None else f"{each.trash_days} d"
        rows.append((each.name, owner, used, bound, f"{each.inodes:,}", versions, days))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= index <= 4 else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())
