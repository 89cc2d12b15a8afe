"""`twofold undelete`: have back what was deleted or replaced, as far as versions were kept.

A path is BUCKET/KEY, or begins with `/` or `.` and is one on a mount of this machine: what is
deleted isn't there any more, so it is told from the table of mounts and from its names (rule R2).
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Annotated

from cyclopts import Parameter

from daemon.asking import SocketOption, daemon_at
from daemon.cli import EXIT_FAILED, EXIT_USAGE, ConfigOption, fail
from daemon.undeletetalk import PAGE, Ask, LostReport, Question, UndeleteError, talking

Flag = Annotated[bool, Parameter(negative="")]


class PathRefused(ValueError):
    """It is no path of the store. The text is one sentence."""


def undelete(
    path: str,
    /,
    *,
    list_only: Annotated[bool, Parameter(name=["--list", "-l"], negative="")] = False,
    recursive: Annotated[bool, Parameter(name=["--recursive", "-r"], negative="")] = False,
    version: str = "",
    json: Flag = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Have a deleted file or object back, as it was.

    It takes a bucket that keeps versions: twofold bucket trash NAME DAYS.

    Parameters
    ----------
    path:
        BUCKET/KEY, or a path on a mount that begins with / or a dot.
    list_only:
        Show what can be had back, at the path and below, and change nothing.
    recursive:
        All that is deleted below the path.
    version:
        This version instead of the last, also where the file is there: it is repeated above.
    json:
        With --list: as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    try:
        bucket, key = place_of(path)
        with daemon_at(config, socket, UndeleteError) as daemon, talking(daemon) as ask:
            if list_only:
                _show(list(_below(ask, bucket, key)), json=json)
            elif recursive:
                _restore_below(ask, bucket, key)
            else:
                _restore_one(ask, bucket, key, version)
    except PathRefused as error:
        fail(EXIT_USAGE, str(error))


def place_of(path: str) -> tuple[str, str]:
    """Bucket and key of a path; the key is "" for the whole bucket. Raises PathRefused."""
    if path.startswith(("/", ".")):
        path = _on_mount(path)
    bucket, _, key = path.partition("/")
    if not bucket:
        raise PathRefused("name a bucket, and a key in it")
    return bucket, key


def _on_mount(path: str) -> str:
    """BUCKET/KEY of a path on a mount. Raises PathRefused."""
    from fusefs import mounttable
    from store.errors import StoreError
    from store.names import BODY, component_of

    whole = mounttable.resolved(path)
    found = None
    for each in mounttable.mounts():
        # The topmost of those on the way to the path, which is the last of the longest.
        inside = whole == each.path or whole.startswith(each.path.rstrip("/") + "/")
        if inside and (found is None or len(each.path) >= len(found.path)):
            found = each
    if found is None or found.type != mounttable.TYPE:
        raise PathRefused(f"{path} is not on a mount of twofold")
    below = os.path.join(found.root, os.path.relpath(whole, found.path))
    names = [os.fsencode(name) for name in os.path.normpath(below).split("/") if name]
    components = []
    try:
        for name in names:
            component = None if name == BODY else component_of(name)
            if component is not None:
                components.append(component.decode())
            elif name != BODY or name is not names[-1]:
                raise PathRefused(f"{os.fsdecode(name)} stands for a long name: give BUCKET/KEY")
    except StoreError:
        raise PathRefused(f"{path} can't be the name of anything") from None
    return "/".join(components)


def _below(ask: Ask, bucket: str, key: str) -> Iterator[LostReport]:
    """What can be had back of a key and of all below it."""
    after: str | None = ""
    while after is not None:
        answer = ask(Question(verb="list", bucket=bucket, prefix=key, after=after))
        for each in answer.lost:
            if not key or each.key == key or each.key.startswith(key.rstrip("/") + "/"):
                yield each
        after = answer.next


def _restore_one(ask: Ask, bucket: str, key: str, version: str) -> None:
    if not key:
        raise PathRefused(f"{bucket} is a bucket: name a key in it, or give -r for all")
    question = Question(verb="restore", bucket=bucket, keys=(key,), version=version or None)
    for _, why in ask(question).refusals:
        fail(EXIT_FAILED, f"{bucket}/{key}: {why}")
    print(f"{bucket}/{key} is back.")


def _restore_below(ask: Ask, bucket: str, key: str) -> None:
    """The list is read ahead of what is restored, which takes it out of the list."""
    keys = [each.key for each in _below(ask, bucket, key) if each.deleted]
    refusals: list[tuple[str, str]] = []
    for first in range(0, len(keys), PAGE):
        batch = tuple(keys[first : first + PAGE])
        refusals += ask(Question(verb="restore", bucket=bucket, keys=batch)).refusals
    print(f"{len(keys) - len(refusals)} files are back.")
    if refusals:
        fail(EXIT_FAILED, *(f"{bucket}/{name}: {why}" for name, why in refusals))


def _show(lost: list[LostReport], *, json: bool) -> None:
    from daemon.report import size_text
    from daemon.welcome import table

    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(lost), indent=2).decode())
        return
    rows = [
        (
            time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(each.gone_ns // 10**9)),
            "deleted" if each.deleted else "replaced",
            size_text(each.size_bytes),
            each.version,
            each.key,
        )
        for each in lost
    ]
    print("\n".join(table(("GONE", "WAS", "SIZE", "VERSION", "KEY"), rows)))
