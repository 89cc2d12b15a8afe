"""From a body to bytes that a row may name: inline, or durable runs.

Invariant: `write_body` returns only when everything announced about the body was verified
(`Body.finish`) and every run is durable (C2), so the publishing transaction names nothing that
a crash could take back. What was written for a body that failed is abandoned, and reclaimed.
Concurrency: any task; safe to cancel anywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import trio

from metadb import content
from metadb.records import InodeId, SegmentRow
from metadb.statements import Tx
from store.chunks.types import Appender, Buffer, Owner, Run, Segment, segment_of
from store.errors import TooLarge
from store.state import State
from store.translate import translated
from store.types import Body, Digests

OBJECT_BYTES_MAX = 5 << 40
_CLEANUP_S = 5.0


class Written(NamedTuple):
    """A body at rest. inline: its bytes, or None where they are in `runs`, in order."""

    size: int
    inline: bytes | None
    runs: tuple[Run, ...]
    digests: Digests


async def write_body(state: State, body: Body, inode: InodeId, *, inline_max_bytes: int) -> Written:
    """Receive, verify and store `body`. inline_max_bytes: -1 to always make runs.

    Raises TooLarge, NoSpace, Unavailable, and whatever the body raises.
    """
    if body.size is not None and body.size > OBJECT_BYTES_MAX:
        raise TooLarge(body.size)
    held: list[Buffer] = []
    size = 0
    while size <= inline_max_bytes:
        piece = await body.next()
        if piece is None:
            return Written(size, b"".join(held), (), await body.finish())
        held.append(piece)
        size += len(piece)
    with translated():
        appender = state.chunks.appender(Owner(inode=inode), body.size)
        try:
            return await _drain(appender, body, held, size)
        except BaseException:
            with trio.move_on_after(_CLEANUP_S, shield=True):
                await appender.abandon()
            raise


async def _drain(appender: Appender, body: Body, held: list[Buffer], size: int) -> Written:
    for piece in held:
        await appender.append(piece)
    held.clear()
    while (received := await body.next()) is not None:
        size += len(received)
        if size > OBJECT_BYTES_MAX:
            raise TooLarge(size)
        await appender.append(received)
    digests = await body.finish()
    runs = await appender.finish(durable=True)
    assert sum(run.size for run in runs) == size, (runs, size)
    return Written(size, None, runs, digests)


def note_runs(tx: Tx, state: State, runs: Sequence[Run]) -> None:
    """Remember new runs, and their segments where these are new."""
    for number in {segment_of(run.id) for run in runs}:
        content.note_segment(tx, _segment_row(state.chunks.segment(number)))
    named = map(state.chunks.naming, runs)
    content.add_runs(tx, [(run.id, run.size, run.missing) for run in named])


def _segment_row(segment: Segment) -> SegmentRow:
    return SegmentRow(
        id=segment.id,
        nonce=segment.nonce.to_bytes(8, "little"),
        k=segment.k,
        m=segment.m,
        stripe_size=segment.stripe_size,
        members=" ".join(segment.members),
    )


def put_content(tx: Tx, state: State, number: InodeId, written: Written) -> None:
    """Give a new inode its content, in the transaction that publishes it (I1 of the store)."""
    if written.inline is not None:
        if written.size:
            content.set_inline(tx, number, written.inline)
        return
    note_runs(tx, state, written.runs)
    extents, start = [], 0
    for run in written.runs:
        extents.append((start, run.size, run.id, 0))
        start += run.size
    content.add_extents(tx, number, extents)
