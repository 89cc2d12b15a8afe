"""What `twofold meta backup` and the daemon say to each other over the control socket.

    asker                      daemon
    meta                  ->
                          <-   Begun, one line of JSON
                          <-   the backup's file (metadb.archive), to the end of the stream

A stream that breaks off lacks the file's checksum, so the asker knows.
Concurrency: a task per asker; pages are read and compressed in a thread, one piece after the
other as the asker takes them, with a deadline for each. The log grows meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
from msgspec import Struct

from daemon.control import NoDaemon, asking, connect

if TYPE_CHECKING:
    import trio

    from daemon.services import OpenStore
    from metadb.offline import Facts
    from metadb.snapshot import Snapshot

META = b"meta"
_PIECE_S = 60.0
_COPIED_BYTES = 1 << 20


class Begun(Struct, frozen=True, kw_only=True):
    """error: one sentence without its end, "" when the backup follows."""

    error: str = ""


class BackupRefused(Exception):
    """The daemon can't. The text is one sentence without its end."""


def backup_pieces(facts: Facts, snapshot: Snapshot) -> Iterator[bytes]:
    """The file of a backup."""
    from metadb import migrations, wal
    from metadb.archive import Manifest, pack

    manifest = Manifest(
        store=facts.store,
        sequence=facts.sequence,
        taken_s=time.time(),
        revision=migrations.NEWEST,
        database_bytes=snapshot.page_count * wal.PAGE_BYTES,
    )
    return pack(manifest, snapshot.pieces())


class MetaTalk:
    """The daemon's side. store: None while it is not up."""

    def __init__(self, store: Callable[[], OpenStore | None]) -> None:
        self._store = store

    async def talk(self, stream: trio.SocketStream) -> None:
        """Send a backup as of now."""
        from metadb.errors import MetadbError

        store = self._store()
        if store is None:
            await stream.send_all(_line(Begun(error="the store is not up: see twofold status")))
            return
        try:
            # What was answered before the question came is in it, and durable.
            await store.engine.barrier()
            await _send(stream, store)
        except MetadbError as error:
            # Only before the first piece is there somebody to read it as more than a broken file.
            await stream.send_all(_line(Begun(error=str(error))))


async def _send(stream: trio.SocketStream, store: OpenStore) -> None:
    import trio

    from metadb.offline import facts_of
    from metadb.snapshot import SnapshotEnded

    engine = store.engine
    # No await between the two: they are of the same moment.
    with engine.snapshot() as snapshot:
        facts = engine.read(facts_of)
        await stream.send_all(_line(Begun()))
        pieces = backup_pieces(facts, snapshot)
        try:
            while True:
                with trio.fail_after(_PIECE_S):
                    piece = await trio.to_thread.run_sync(next, pieces, None)
                    if piece is None:
                        return
                    await stream.send_all(piece)
        except (SnapshotEnded, trio.TooSlowError):
            return  # The asker sees that the end is missing.


def fetch_backup(path: Path, file: BinaryIO) -> None:
    """Have the daemon behind the socket `path` write a backup. Raises BackupRefused, NoDaemon."""
    with asking(path, _PIECE_S), connect(path, _PIECE_S) as peer:
        peer.sendall(META + b"\n")
        with peer.makefile("rb") as answer:
            line = answer.readline()
            if not line.endswith(b"\n"):
                raise NoDaemon("the daemon broke off, or knows nothing of backups: see its log")
            begun = msgspec.json.decode(line, type=Begun)
            if begun.error:
                raise BackupRefused(begun.error)
            while piece := answer.read(_COPIED_BYTES):
                file.write(piece)


def _line(begun: Begun) -> bytes:
    return msgspec.json.encode(begun) + b"\n"
