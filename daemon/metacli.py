"""`twofold meta`: the metadata kept in a file, a folder or a bucket, and back.

    backup PLACE      one file: a path, or s3://BUCKET/KEY
    points PLACE      what a series of backups holds: a folder, or s3://BUCKET/PREFIX/
    restore PLACE     from either; of a series the newest, or as of --at-change or --at

A backup is taken of a running store through its daemon, of a stopped one from its drives. The
daemon keeps a series by itself where `[backup]` says so (`daemon.backups`).
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

from cyclopts import App, Parameter

from daemon.cli import EXIT_FAILED, EXIT_USAGE, fail
from daemon.control import NoDaemon
from daemon.metatalk import BackupRefused, fetch_backup
from daemon.report import size_text
from daemon.targets import Access, Target, TargetError, is_url, place_of, target_of

if TYPE_CHECKING:
    from metadb.archive import Archive
    from metadb.series import Composed, Point

app = App(name="meta", help="Keep the metadata elsewhere, and bring it back from there.")

Endpoint = Annotated[str, Parameter(show_default=False)]
Credentials = Annotated[str, Parameter(show_default=False)]


@app.command
def backup(
    place: str, /, *store: str, endpoint: Endpoint = "", credentials: Credentials = ""
) -> None:
    """Write all metadata to a file, of a running store or a stopped one. No bytes of objects.

    Names, attributes, small contents and where the bytes are: what `twofold meta restore` needs
    when every drive's copy is lost. It is of one moment, which the file tells.

    Parameters
    ----------
    place:
        Where to write it: a path, or s3://BUCKET/KEY. What is there is replaced when the backup is
        whole and was read back.
    store:
        The daemon's configuration file, or the drives of a stopped store; if not given,
        /etc/twofold/twofold.toml.
    endpoint:
        URL of the S3 server; if not given, what the AWS tools would take.
    credentials:
        A file as ~/.aws/credentials; if not given, keys come from where the AWS tools find them.
    """
    from metadb.archive import Archive, BadArchive

    with _told(), tempfile.TemporaryDirectory(prefix="twofold-") as folder:
        series, name = place_of(place)
        target = target_of(series, Access(endpoint=endpoint, credentials=credentials))
        # A file is made beside its place, where there is room for it.
        file = Path(folder if is_url(place) else series) / f"{name.rpartition('/')[2]}.part"
        try:
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as out:
                _write_backup(out, store)
            manifest = Archive(file).manifest
            size = file.stat().st_size
            target.put(name, file)
        except BadArchive:
            fail(EXIT_FAILED, "the backup broke off: see the daemon's log")
        finally:
            file.unlink(missing_ok=True)
    print(f"{place}: {size_text(size)}, store {manifest.store}, changes up to {manifest.sequence}.")


@app.command
def points(place: str, /, *, endpoint: Endpoint = "", credentials: Credentials = "") -> None:
    """List what a series of backups can be restored to.

    Parameters
    ----------
    place:
        The folder, or s3://BUCKET/PREFIX/.
    endpoint:
        URL of the S3 server; if not given, what the AWS tools would take.
    credentials:
        A file as ~/.aws/credentials; if not given, keys come from where the AWS tools find them.
    """
    from daemon.welcome import table
    from metadb.series import points_of

    with _told():
        target = target_of(place, Access(endpoint=endpoint, credentials=credentials))
        found = sorted(points_of(target.names()), key=lambda point: (point.taken_s, point))
    rows = [
        (_when(point.taken_s), str(point.sequence), "changes" if point.number else "whole")
        for point in found
    ]
    print("\n".join(table(("TAKEN", "CHANGES UP TO", "WHAT"), rows)))


@app.command
def restore(
    place: str,
    /,
    *store: str,
    replace: Annotated[bool, Parameter(negative="")] = False,
    at_change: Annotated[int | None, Parameter(show_default=False)] = None,
    at: Annotated[datetime | None, Parameter(show_default=False)] = None,
    endpoint: Endpoint = "",
    credentials: Credentials = "",
) -> None:
    """Make a backup the metadata of a stopped store, on all its drives.

    What was changed after the backup is lost: objects put since are gone, and of those deleted
    or replaced since, names may come back whose bytes are not there any more. Run
    `twofold fsck` afterwards: it tells which.

    Parameters
    ----------
    place:
        The backup: a path or s3://BUCKET/KEY; or a series of them: a folder or s3://BUCKET/PREFIX/.
    store:
        The configuration file, or the drives; if not given, /etc/twofold/twofold.toml.
    replace:
        Do it although the drives hold metadata that can be used.
    at_change:
        Of a series, the last point that holds no change after this one.
    at:
        Of a series, the last point taken by this time, as 2026-01-31T12:00:00.
    endpoint:
        URL of the S3 server; if not given, what the AWS tools would take.
    credentials:
        A file as ~/.aws/credentials; if not given, keys come from where the AWS tools find them.
    """
    from daemon.restore import RestoreRefused, restore
    from daemon.stoppedstore import named_store, stopped_pool

    access = Access(endpoint=endpoint, credentials=credentials)
    at_s = None if at is None else at.timestamp()
    with _told(), tempfile.TemporaryDirectory(prefix="twofold-") as folder:
        archive = _fetch(place, access, Path(folder), at_change, at_s)
        with stopped_pool(named_store(store).paths()) as pool:
            try:
                restored = restore(pool, archive, replace=replace)
            except RestoreRefused as error:
                fail(EXIT_FAILED, str(error))
    manifest = archive.manifest
    print(f"The metadata is as of {_when(manifest.taken_s)}, changes up to {manifest.sequence}.")
    if restored.lost is None:
        print("What was changed afterwards is lost; how much that is can't be told.")
    else:
        print(f"{restored.lost} changes made afterwards are lost.")
    if restored.moved:
        print(f"{restored.moved} segments had members on other drives by now; their rows say so.")
    print(f"{restored.copies} drives hold it. Run twofold fsck to see which bytes are gone.")


def _fetch(
    place: str, access: Access, folder: Path, at_change: int | None, at_s: float | None
) -> Archive | Composed:
    """The backup, or the point of a series, as it is to be laid down."""
    from metadb.archive import Archive
    from metadb.series import Composed, leading_to, points_of

    is_series = place.endswith("/") if is_url(place) else Path(place).is_dir()
    if is_series:
        target = target_of(place, access)
        parts = leading_to(points_of(target.names()), at_change=at_change, at_s=at_s)
        return Composed([_brought(target, each, folder) for each in parts], folder / "database")
    if at_change is not None or at_s is not None:
        fail(EXIT_USAGE, "--at-change and --at are for a series: a folder, or s3://BUCKET/PREFIX/")
    if not is_url(place):
        return Archive(Path(place))
    series, name = place_of(place)
    target_of(series, access).get(name, folder / "backup")
    return Archive(folder / "backup")


def _brought(target: Target, point: Point, folder: Path) -> Path:
    target.get(point.name, folder / point.name)
    return folder / point.name


def _when(time_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_s))


def _write_backup(out: BinaryIO, store: tuple[str, ...]) -> None:
    from daemon.stoppedstore import copy_places, is_served, named_store, stopped_pool

    named = named_store(store)
    socket = named.socket()
    if socket is not None and is_served(socket):
        fetch_backup(socket, out)
        return
    from daemon.metatalk import backup_pieces
    from metadb.offline import facts_of, opened_copy
    from metadb.snapshot import stopped_snapshot

    with stopped_pool(named.paths()) as pool, opened_copy(copy_places(pool)) as copy:
        facts = copy.read(facts_of)
        with stopped_snapshot(copy.place.path) as snapshot:
            for piece in backup_pieces(facts, snapshot):
                out.write(piece)


@contextmanager
def _told() -> Iterator[None]:
    """What may go wrong, in one sentence."""
    from daemon.config import ConfigError
    from daemon.ellipses import RangeError
    from metadb.errors import MetadbError
    from store.chunks.errors import ChunkError

    try:
        yield
    except ConfigError as error:
        fail(EXIT_USAGE, *error.faults)
    except RangeError as error:
        fail(EXIT_USAGE, str(error))
    except (BackupRefused, NoDaemon, ChunkError, MetadbError, TargetError) as error:
        fail(EXIT_FAILED, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(EXIT_FAILED, f"{where}{error.strerror or error}")
