"""Opens drives as a power cut left them, with the product's own recovery, and looks for faults.

What may be seen is one of the moments that were noted from the last promise on to the first note
behind the cut: what was promised is there, and what wasn't is there as it was at some moment or
not at all. Then something is written, the store is stopped, and fsck must find nothing wrong.
Concurrency: blocking. Each store is opened in a process of its own, forked off, so that nothing
of one that hangs or fails is there for the next.
"""

from __future__ import annotations

import functools
import gc
import json
import logging
import os
import signal
import tempfile
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from daemon.fsckcli import look_while_stopped
from daemon.lifecycle import StartError
from daemon.services import OpenStore
from daemon.stoppedstore import stopped_pool
from store.chunks.label import format_drives
from store.chunks.types import DriveState
from store.fsck import Finding, is_sound
from store.types import ObjectMeta
from tests.crash.power.opening import STATE, opened
from tests.crash.power.recording import Call
from tests.crash.power.world import World, observe
from tests.store.bodies import BytesBody

_WITHIN_S = 60.0
_KILLED_AFTER_S = 120
_PROBE = "probe"


@dataclass(frozen=True, slots=True)
class Note:
    """What was seen of the store before call number `call`, and which of it was promised then."""

    call: int
    what: str
    kept: bool | tuple[str, ...]
    world: World


class Promises:
    """The notes of a run, in order. separate: each entry is compared by itself."""

    def __init__(self, calls: Sequence[Call], before: World, *, separate: bool) -> None:
        self.notes = [Note(-1, "before", True, before)]
        for number, call in enumerate(calls):
            if call.kind == "N":
                kept = call.note["kept"]
                kept = kept if isinstance(kept, bool) else tuple(kept)
                self.notes.append(Note(number, call.note["what"], kept, call.note["world"]))
        self._calls = [note.call for note in self.notes]
        self._separate = separate

    def around(self, call: int) -> str:
        """Between which notes a call is, for people."""
        behind = bisect_left(self._calls, call)
        after = self.notes[behind].what if behind < len(self.notes) else "the end"
        return f"after '{self.notes[behind - 1].what}', before '{after}'"

    def faults(self, call: int, world: World) -> list[str]:
        """How a world that was found differs from all that may be seen after a cut at `call`."""
        behind = bisect_left(self._calls, call)
        stop = min(behind + 1, len(self.notes))
        whole = max(i for i in range(behind) if self.notes[i].kept is True)
        if not self._separate:
            closest = min((_differences(self.notes[i], world) for i in range(whole, stop)), key=len)
            return closest
        faults = []
        for name in {key for note in self.notes[whole:stop] for key in note.world} | world.keys():
            if name.startswith("bucket "):
                continue  # Counts of what is in flight.
            first = max(
                i
                for i in range(whole, behind)
                if (kept := self.notes[i].kept) is True or (kept and name in kept)
            )
            may_be = {self.notes[i].world.get(name) for i in range(first, stop)}
            if world.get(name) not in may_be:
                faults.append(f"{name}: {world.get(name)}, may be {may_be}")
        return faults


def _differences(note: Note, world: World) -> list[str]:
    return [
        f"{name}: {world.get(name)}, was {note.world.get(name)} at '{note.what}'"
        for name in sorted(note.world.keys() | world.keys())
        if note.world.get(name) != world.get(name)
    ]


@functools.cache
def _warm_up() -> None:
    """Open a store here once: what is imported or compiled for it needn't be in each child."""
    with tempfile.TemporaryDirectory() as folder:
        (drive := Path(folder, "d0")).mkdir()
        drive.with_name(STATE).mkdir()
        format_drives([drive])
        _recover([drive])


def recover(drives: Sequence[Path]) -> World | list[str]:
    """Open, look, write, stop, and have fsck look; what was seen, or the faults."""
    _warm_up()
    ours, its = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            gc.disable()  # It would touch, and so copy, every page of the parent's memory.
            signal.alarm(_KILLED_AFTER_S)
            with os.fdopen(its, "w") as answer:
                json.dump(_recover(drives), answer)
        finally:
            os._exit(0)
    os.close(its)
    with os.fdopen(ours) as answer:
        text = answer.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else ["it hangs"]


def _recover(drives: Sequence[Path]) -> World | list[str]:
    heard = _Listener()
    try:
        found = trio.run(_seen, drives)
        if not is_sound(_fsck(drives)):
            # What a running daemon does in its own time: nobody is to wait for it at each start.
            trio.run(_finish_healing, drives)
        if not is_sound(left := _fsck(drives)):
            return [f"fsck: {each.check}: {each.what}" for each in left] + heard.lines
    except (Exception, BaseExceptionGroup) as error:
        return [f"it does not start: {_told(error)}", *heard.lines]
    finally:
        heard.stop()
    return found


def _fsck(drives: Sequence[Path]) -> list[Finding]:
    with stopped_pool(list(map(str, drives))) as pool:
        return trio.run(partial(look_while_stopped, pool, repair=False)).left


async def _finish_healing(drives: Sequence[Path]) -> None:
    with trio.fail_after(_WITHIN_S):
        async with opened(drives, "healing") as store:
            await _healed(store)
            await store.healer.finish()


async def _seen(drives: Sequence[Path]) -> World:
    with trio.fail_after(_WITHIN_S):
        async with opened(drives, "after") as store:
            await _healed(store)
            world = await observe(store.namespace)
            if store.namespace.buckets.page():
                box = store.namespace.buckets.page()[0].name
                body = BytesBody(b"p" * 5000)
                await store.namespace.objects.put(box, _PROBE, body, ObjectMeta())
            return world


async def _healed(store: OpenStore) -> None:
    """Wait until drives that are behind or empty were taken in, and what they lack is made."""
    pool = store.chunks.pool
    if all(drive.state is DriveState.ONLINE for drive in pool.drives):
        return
    while any(drive.state is not DriveState.ONLINE for drive in pool.drives):  # noqa: ASYNC110
        await trio.sleep(0.02)
    await store.healer.finish()


def _told(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(_told(each) for each in error.exceptions)
    cause = (
        f" ({_told(error.__cause__)})" if isinstance(error, StartError) and error.__cause__ else ""
    )
    return f"{error!r}{cause}"


class _Listener(logging.Handler):
    """What is logged meanwhile, to be told with a fault."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []
        self._root = logging.getLogger()
        self._before = self._root.handlers[:]
        self._root.handlers[:] = [self]

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(f"log: {record.getMessage()}")

    def stop(self) -> None:
        """Hand over to whoever listened before."""
        self._root.handlers[:] = self._before
