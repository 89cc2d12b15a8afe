"""`twofold drive`, `twofold heal` and `twofold scrub`: the running daemon does it.

What takes long goes on in the daemon when the command has ended; `twofold status` shows how far.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from daemon.asking import SocketOption, daemon_at
from daemon.cli import EXIT_FAILED, EXIT_USAGE, ConfigOption, fail
from daemon.drivetalk import Order, OrderRefused, Verb, give_order
from daemon.report import PoolReport, ScrubPass, duration_text, size_text
from daemon.welcome import heal_text, rebalance_text, table

drive = App(name="drive", help="List, add, replace, drain and rebalance drives.")
heal = App(name="heal", help="Show what is being healed, and what was.")
scrub = App(name="scrub", help="Read and verify everything: start, pause.")


@drive.command(name="list")
def list_drives(*, config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Show every drive, what stands on it, and how far drains and rebalancing are.

    Parameters
    ----------
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    pool = _pool(config, socket)
    rows = [
        (
            each.path,
            each.id[:8],
            f"{each.state}, draining" if each.draining else each.state,
            size_text(each.free_bytes),
            size_text(each.total_bytes),
            str(each.segments),
        )
        for each in pool.drives
    ]
    print("\n".join(table(("DRIVE", "ID", "STATE", "FREE", "TOTAL", "SEGMENTS"), rows)))
    print(f"Rebalance: {rebalance_text(pool.rebalance)}.")


@drive.command
def add(path: Path, /, *, config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Make an empty folder one more drive of the pool, of any size. Nothing is overwritten.

    What is written from now on uses it. It is found again at the next start without a change of
    the configuration; name it there all the same.

    Parameters
    ----------
    path:
        An empty folder, best on a drive of its own.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    _order(config, socket, Order(verb="add", path=os.path.abspath(path)))
    print(f"{path} is a drive of the pool now.")


@drive.command
def replace(
    old: str, path: Path, /, *, config: ConfigOption = None, socket: SocketOption = None
) -> None:
    """Let an empty folder take the place of a drive.

    Where the old drive is missing, what it held is built anew from the others. Where it is still
    there, what it holds is moved, and then it leaves the pool.

    Parameters
    ----------
    old:
        The drive's path, or how its id begins.
    path:
        An empty folder.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    order = Order(verb="replace", drive=_named(old), path=os.path.abspath(path))
    _order(config, socket, order)
    print(f"{path} takes the place of {old}; twofold heal shows how far that is.")


@drive.command
def drain(
    old: str,
    /,
    *,
    cancel: Annotated[bool, Parameter(negative="")] = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Move what a drive holds to the others; then it leaves the pool by itself.

    Where every other drive has a share in it already, it is rewritten for fewer drives.

    Parameters
    ----------
    old:
        The drive's path, or how its id begins.
    cancel:
        Let it be. What was moved already stays where it is.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    told = _order(config, socket, Order(verb="keep" if cancel else "drain", drive=_named(old)))
    print(f"{old} is kept." if cancel else f"{old} is being drained; see twofold drive list.")
    if told:
        print(f"{told}.")


@drive.command
def rebalance(
    *,
    geometry: Annotated[bool, Parameter(negative="")] = False,
    cancel: Annotated[bool, Parameter(negative="")] = False,
    pause: Annotated[bool, Parameter(negative="")] = False,
    config: ConfigOption = None,
    socket: SocketOption = None,
) -> None:
    """Move what drives hold from fuller to emptier ones, until they are filled alike.

    Great differences are evened out without being asked. It goes on in the daemon, over restarts
    too, and goes slower while clients are served; twofold drive list shows how far it is.

    Parameters
    ----------
    geometry:
        Rewrite what was written for fewer or more drives as new segments are: as many data and
        parity shards as there are drives for now.
    cancel:
        Give up what was ordered. What was done stays as it is.
    pause:
        Move and rewrite nothing until the next order, for a drain neither.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    if geometry + cancel + pause > 1:
        fail(EXIT_USAGE, "--geometry, --cancel and --pause exclude each other")
    verb: Verb = "cancel" if cancel else "rest" if pause else "rewrite" if geometry else "even"
    _order(config, socket, Order(verb=verb))
    print(rebalance_text(_pool(config, socket).rebalance))


@heal.default
def heal_status(*, config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Show what is being healed, how long it will take, and what was healed before.

    Parameters
    ----------
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    status = _pool(config, socket).heal
    print(heal_text(status))
    if status is None:
        return
    for cause in status.causes:
        print(f"  because {cause}")
    for path in status.suspects:
        print(f"  {path} was away and is being looked through")
    if status.mended_fragments:
        print(f"  {status.mended_fragments} fragments that reads found bad were repaired")
    for loss in status.losses:
        print(f"  lost: {loss.text}")
    if len(status.losses) < status.lost_stripes:
        print(f"  {status.lost_stripes} stripes are lost; the log names all of them")
    rows = [
        (
            _when(each.began_s),
            duration_text(each.ended_s - each.began_s),
            str(each.segments),
            size_text(each.written_bytes),
            str(each.lost_stripes),
            "; ".join(each.causes),
        )
        for each in reversed(status.history)
    ]
    if rows:
        print("\n".join(table(("BEGAN", "TOOK", "SEGMENTS", "WRITTEN", "LOST", "WHY"), rows)))


@scrub.command
def start(*, config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Do a pass over everything now, as fast as clients allow; goes on if it was paused.

    Parameters
    ----------
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    _order(config, socket, Order(verb="scrub"))


@scrub.command
def pause(*, config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Do nothing until `twofold scrub start`, over restarts of the daemon too.

    Parameters
    ----------
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    _order(config, socket, Order(verb="pause"))


@scrub.command(name="status")
def scrub_status(*, config: ConfigOption = None, socket: SocketOption = None) -> None:
    """Show how far the pass under way is, and what the last one found.

    Parameters
    ----------
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    pool = _pool(config, socket)
    status = pool.scrub
    if status is None:
        return
    next_text = "" if status.next_s is None else f", next pass in {duration_text(status.next_s)}"
    print(f"{status.state}{next_text}")
    if status.state != "resting":
        print(f"  now   {status.now.segments} of {status.segments} segments, {_found(status.now)}")
    if status.last is not None:
        print(f"  last  {_when(status.last.ended_s)}, {_found(status.last)}")
    if pool.heal is not None and pool.heal.lost_stripes:
        print(f"{pool.heal.lost_stripes} stripes can't be had: twofold heal names what they are of")


def _found(each: ScrubPass) -> str:
    return (
        f"{each.fragments} fragments, {size_text(each.read_bytes)} read, {each.damaged} damaged, "
        f"{each.repaired} repaired, {each.lost_stripes} stripes lost, {each.leaks} leaks, "
        f"{each.violations} wrong rows"
    )


def _when(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _named(drive: str) -> str:
    """A path as the daemon sees it; an id as it is."""
    return os.path.abspath(drive) if os.sep in drive or os.path.exists(drive) else drive


def _pool(config: Path | None, socket: Path | None) -> PoolReport:
    from daemon.control import ask_status

    with daemon_at(config, socket) as path:
        report = ask_status(path)
    if report.pool is None:
        fail(EXIT_FAILED, "the store is not up: see twofold status")
    return report.pool


def _order(config: Path | None, socket: Path | None, order: Order) -> str:
    with daemon_at(config, socket, OrderRefused) as path:
        return give_order(path, order)
