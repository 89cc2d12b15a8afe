"""`twofold meta backup` and `restore`: the metadata in one file, and back.

A backup is taken of a running store through its daemon, of a stopped one from its drives.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

from cyclopts import App, Parameter

from daemon.cli import EXIT_FAILED, EXIT_USAGE, fail
from daemon.control import NoDaemon
from daemon.metatalk import BackupRefused, fetch_backup
from daemon.report import size_text

app = App(name="meta", help="Keep the metadata in a file, and bring it back from there.")


@app.command
def backup(file: Path, /, *store: str) -> None:
    """Write all metadata to a file, of a running store or a stopped one. No bytes of objects.

    Names, attributes, small contents and where the bytes are: what `twofold meta restore` needs
    when every drive's copy is lost. It is of one moment, which the file tells.

    Parameters
    ----------
    file:
        Where to write it. What is there is replaced when the backup is whole.
    store:
        The daemon's configuration file, or the drives of a stopped store; if not given,
        /etc/twofold/twofold.toml.
    """
    from metadb.archive import Archive, BadArchive

    beside = file.with_name(f"{file.name}.new")
    with _told():
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(descriptor, "wb") as out:
                _write_backup(out, store)
                out.flush()
                os.fsync(out.fileno())
            manifest = Archive(beside).manifest
            beside.replace(file)
        except BadArchive:
            beside.unlink(missing_ok=True)
            fail(EXIT_FAILED, "the backup broke off: see the daemon's log")
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
    print(
        f"{file}: {size_text(file.stat().st_size)}, store {manifest.store}, "
        f"changes up to {manifest.sequence}."
    )


@app.command
def restore(
    file: Path, /, *store: str, replace: Annotated[bool, Parameter(negative="")] = False
) -> None:
    """Make a backup the metadata of a stopped store, on all its drives.

    What was changed after the backup is lost: objects put since are gone, and of those deleted
    or replaced since, names may come back whose bytes are not there any more. Run
    `twofold fsck` afterwards: it tells which.

    Parameters
    ----------
    file:
        The backup.
    store:
        The configuration file, or the drives; if not given, /etc/twofold/twofold.toml.
    replace:
        Do it although the drives hold metadata that can be used.
    """
    from daemon.restore import RestoreRefused, restore
    from daemon.stoppedstore import named_store, stopped_pool
    from metadb.archive import Archive

    with _told():
        archive = Archive(file)
        with stopped_pool(named_store(store).paths()) as pool:
            try:
                restored = restore(pool, archive, replace=replace)
            except RestoreRefused as error:
                fail(EXIT_FAILED, str(error))
    manifest = archive.manifest
    taken = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(manifest.taken_s))
    print(f"The metadata is as of {taken}, changes up to {manifest.sequence}.")
    if restored.lost is None:
        print("What was changed afterwards is lost; how much that is can't be told.")
    else:
        print(f"{restored.lost} changes made afterwards are lost.")
    if restored.moved:
        print(f"{restored.moved} segments had members on other drives by now; their rows say so.")
    print(f"{restored.copies} drives hold it. Run twofold fsck to see which bytes are gone.")


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
    except (BackupRefused, NoDaemon, ChunkError, MetadbError) as error:
        fail(EXIT_FAILED, str(error))
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        fail(EXIT_FAILED, f"{where}{error.strerror or error}")
