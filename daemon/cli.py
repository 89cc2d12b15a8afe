"""The `twofold` command: init, serve, status, events, mount, umount.

bucket is in `daemon.bucketcli`; drive, heal and scrub are in `daemon.drivecli`.

Every error is one clear sentence on stderr. Exit codes: 0 done, 1 failed, 2 wrong usage or
configuration, 3 no daemon is running. Commands import what they need when they run, so that
`status` is quick. Parsing and help are cyclopts'.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

from cyclopts import App, CycloptsError, Group, Parameter

from daemon import VERSION

if TYPE_CHECKING:
    from daemon.report import Report
    from daemon.settings import Settings

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_NO_DAEMON = 3

_HELP = """One store, two doors: an S3 endpoint and a POSIX mount on local drives.

Format the drives once with `twofold init`, then run `twofold serve`.

Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no daemon is running.
"""

app = App(
    name="twofold",
    help=_HELP,
    version=VERSION,
    version_flags=["--version"],
    help_flags=["--help", "-h"],
    help_format="plaintext",
)

app.command(
    "daemon.bucketcli:app", name="bucket", help="List the running daemon's buckets, bound them."
)
app.command(
    "daemon.drivecli:drive", name="drive", help="List, add, replace, drain and rebalance drives."
)
app.command("daemon.drivecli:heal", name="heal", help="Show what is being healed, and what was.")
app.command("daemon.drivecli:scrub", name="scrub", help="Read and verify everything: start, pause.")
for _place, _help in (
    ("identitycli:user", "Users of an account, with keys and policies."),
    ("identitycli:group", "Groups of users, with policies in common."),
    ("rolecli:role", "Roles, which users and tokens may assume for a while."),
    ("keycli:key", "Access keys: make, stop, rotate them."),
    ("keycli:policy", "What users, groups and keys may do; and why not."),
    ("keycli:provider", "OpenID providers, whose tokens let people in."),
):
    app.command(f"daemon.{_place}", name=_place.partition(":")[2], help=_help)

app.command("daemon.fsckcli:app", name="fsck", help="Check a store, and repair what can be.")
app.command("daemon.metacli:app", name="meta", help="Back the metadata up, and restore it.")
app.command("daemon.salvagecli:app", name="salvage", help="Files from drives without metadata.")
app.command("daemon.undeletecli:undelete", name="undelete", help="Have deleted files back.")

ConfigOption = Annotated[Path | None, Parameter(name="--config", negative="")]
_OVERRIDES = Group("Instead of what the configuration says", sort_key=1)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    try:
        code = app(
            sys.argv[1:] if arguments is None else arguments,
            exit_on_error=False,
            print_error=False,
            result_action="return_value",
        )
    except CycloptsError as error:
        fail(EXIT_USAGE, f"{_one_line(error)} (try twofold --help)")
    except KeyboardInterrupt:
        fail(EXIT_FAILED, "interrupted")
    except BrokenPipeError:
        # The reader of our output, as `head`, has gone; Python's own flush at exit would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(EXIT_FAILED) from None
    except Exception as error:
        # The border to a person: what gets here is our own mistake, told in one line.
        from daemon.logs import describe

        fail(EXIT_FAILED, f"this is a bug, please report it: {_one_line(describe(error))}")
    raise SystemExit(code if isinstance(code, int) else 0)


@app.command
def init(*drives: str, parity: Annotated[int | None, Parameter(show_default=False)] = None) -> None:
    """Format empty folders as the drives of a new store. Nothing that is there is overwritten.

    Each folder should be a drive of its own. A range stands for several folders:
    `twofold init "/data/d{1...4}"` formats /data/d1 to /data/d4.

    Parameters
    ----------
    drives:
        Empty folders, or folders to be made in a folder that exists.
    parity:
        How many drives may be lost at once without losing anything. If not given: 0 for one
        drive, 1 for two or three, 2 for four or five, 3 for six or seven, 4 for eight and more.
    """
    from daemon.ellipses import RangeError, expand
    from store.chunks.errors import LabelError
    from store.chunks.geometry import default_parity
    from store.chunks.label import format_drives

    try:
        paths = expand(drives)
    except RangeError as error:
        fail(EXIT_USAGE, str(error))
    if not paths:
        fail(EXIT_USAGE, "name at least one drive, as twofold init /data/d{1...4}")
    try:
        store = format_drives([os.path.abspath(path) for path in paths], parity)
    except LabelError as error:
        fail(EXIT_FAILED, str(error))
    lost = default_parity(len(paths)) if parity is None else parity
    plural = "" if len(paths) == 1 else "s"
    print(f"Store {store} is ready on {len(paths)} drive{plural}; any {lost} may be lost.")


@app.command
def serve(
    *drives: Annotated[str, Parameter(group=_OVERRIDES)],
    config: ConfigOption = None,
    s3: Annotated[list[str] | None, Parameter(negative="", group=_OVERRIDES)] = None,
    console: Annotated[list[str] | None, Parameter(negative="", group=_OVERRIDES)] = None,
    mount: Annotated[str | None, Parameter(group=_OVERRIDES)] = None,
    state: Annotated[str | None, Parameter(group=_OVERRIDES)] = None,
    log_level: Annotated[str | None, Parameter(group=_OVERRIDES)] = None,
    welcome: Annotated[bool | None, Parameter(show_default=False)] = None,
    accept_missing: Annotated[bool, Parameter(negative="", group=_OVERRIDES)] = False,
) -> int:
    """Run the daemon in the foreground until SIGTERM or Ctrl-C.

    It finishes what is under way, unmounts and exits with 0; a second signal makes it hurry.
    Settings come from the configuration file, then from the environment
    (TWOFOLD__S3__LISTEN sets s3.listen), then from here; the last one wins.

    Parameters
    ----------
    drives:
        Folders that `twofold init` formatted, as "/data/d{1...4}".
    config:
        The configuration file; if not given, /etc/twofold/twofold.toml where it exists.
    s3:
        Address of the S3 endpoint, as 127.0.0.1:9000. May be given several times.
    console:
        Address of the status page and the health probes, as 127.0.0.1:9001.
    mount:
        Folder to mount the store at.
    state:
        Folder for the root key, the control socket and the lock.
    log_level:
        debug, info, warning or error.
    welcome:
        Print how to reach the store when it is ready; if not given, only on a terminal.
    accept_missing:
        Start although missing drives may have gone on alone; what only they hold is given up.
    """
    from daemon.config import ConfigError, load_settings

    absolute = os.path.abspath
    given: dict[str, object] = {
        "pool.drives": [absolute(drive) for drive in drives] or None,
        "s3.listen": s3,
        "console.listen": console,
        "mount.path": absolute(mount) if mount else mount,
        "state.folder": absolute(state) if state else state,
        "log.level": log_level,
        "pool.accept_missing": accept_missing or None,
    }
    overrides = {name: value for name, value in given.items() if value is not None}
    try:
        settings = load_settings(config, os.environ, overrides)
    except ConfigError as error:
        fail(EXIT_USAGE, *error.faults)
    return _serve(settings, welcome)


def _serve(settings: Settings, welcome: bool | None) -> int:
    from daemon.app import StartError, serve_until_stopped

    shown = sys.stdout.isatty() if welcome is None else welcome
    show = partial(print, flush=True) if shown else None
    try:
        return serve_until_stopped(settings, os.environ, welcome=show)
    except StartError as error:
        fail(EXIT_FAILED, str(error))


@app.command
def status(
    *,
    json: Annotated[bool, Parameter(negative="")] = False,
    config: ConfigOption = None,
    socket: Annotated[Path | None, Parameter(negative="")] = None,
) -> None:
    """Show how the running daemon is: drives, space, endpoints and what went wrong so far.

    Parameters
    ----------
    json:
        Print it as JSON, for programs.
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    report = _asked(config, socket)
    if json:
        import msgspec

        print(msgspec.json.format(msgspec.json.encode(report), indent=2).decode())
    else:
        from daemon.welcome import status_text

        print(status_text(report))


@app.command
def events(*, config: ConfigOption = None, socket: Path | None = None) -> None:
    """Show what happened: changes of drives with their causes, and losses. Newest last.

    Parameters
    ----------
    config:
        The daemon's configuration file, which tells where to ask.
    socket:
        The daemon's control socket, if it is elsewhere.
    """
    from daemon.welcome import event_line

    for event in _asked(config, socket).events:
        print(event_line(event))


def _asked(config: Path | None, socket: Path | None) -> Report:
    from daemon.config import ConfigError, control_socket_of
    from daemon.control import NoDaemon, ask_status

    try:
        return ask_status(socket or control_socket_of(config, os.environ))
    except ConfigError as error:
        fail(EXIT_USAGE, *error.faults)
    except NoDaemon as error:
        fail(EXIT_NO_DAEMON, str(error))


@app.command
def mount(
    config: str,
    directory: str,
    /,
    *,
    options: Annotated[list[str] | None, Parameter(name=["-o", "--options"], negative="")] = None,
) -> None:
    """Mount the running daemon's store at a folder, as mount -t fuse.twofold does. Takes root.

    Parameters
    ----------
    config:
        The daemon's configuration file, or twofold for /etc/twofold/twofold.toml.
    directory:
        An existing folder.
    options:
        With commas: ro, nosuid, nodev, noexec, noatime, subdir=BUCKET/PREFIX, allow_other,
        uid=N, gid=N, uidmap=STORED:SHOWN:COUNT, gidmap=STORED:SHOWN:COUNT,
        root_squash, anonuid=N, anongid=N.
    """
    from daemon.mounter import mount_store
    from daemon.mountoptions import OptionsError, parse_options

    try:
        request = parse_options(",".join(options or []))
    except OptionsError as error:
        fail(EXIT_USAGE, str(error))
    _change_mounts(partial(mount_store, config, directory, request))


@app.command
def umount(
    directory: str = "",
    /,
    *,
    lazy: Annotated[bool, Parameter(name=["--lazy", "-l"], negative="")] = False,
    dead: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Unmount what mount -t fuse.twofold or twofold mount has mounted. Takes root.

    Parameters
    ----------
    directory:
        Where it is mounted.
    lazy:
        Take it away now, although it is in use; who has files open there keeps them.
    dead:
        Instead of one directory: all mounts whose daemon is gone.
    """
    from daemon.mounter import unmount_dead, unmount_store

    if dead == bool(directory):
        fail(EXIT_USAGE, "say which directory to unmount, or --dead")
    if dead:
        _change_mounts(unmount_dead)
        return
    _change_mounts(partial(unmount_store, directory, lazily=lazy, by_umount=False))


def _change_mounts(change: Callable[[], None]) -> None:
    from daemon.config import ConfigError
    from daemon.control import NoDaemon
    from daemon.mounter import MountError

    if os.geteuid() != 0:
        fail(EXIT_FAILED, "only root can mount and unmount here")
    try:
        change()
    except ConfigError as error:
        fail(EXIT_USAGE, *error.faults)
    except NoDaemon as error:
        fail(EXIT_NO_DAEMON, str(error))
    except MountError as error:
        fail(EXIT_FAILED, str(error))


def fail(code: int, *sentences: str) -> NoReturn:
    """Say why on stderr and exit."""
    for sentence in sentences:
        print(f"twofold: {sentence}", file=sys.stderr)
    raise SystemExit(code)


def _one_line(text: object) -> str:
    return " ".join(str(text).split())
