"""What a power cut at any point leaves on the drives: a small model of a file system.

Each drive is a file system of its own, and so is the state folder. Of each the model holds what is
durable, and the steps that are not yet: bytes until their file is synced, names until their folder
is. A cut keeps any of the steps, in the order they were done, so far as they make sense:

    lost    none                        kept    all
    head    all, half of the last write tail    all, the last write without its first sector
    names   names without the bytes     bytes   bytes without the names
    hollow  names and sizes, no bytes   some N  each step or not, whole or torn (seed N)
    apart N each drive in another of these ways (seed N)

A write through O_DSYNC is durable when it is done; before that it is as loose as others. A name
that was lost takes along what was done to it later. What fsync of a file does for its own name is
not relied on. Which writes became durable out of order is free: sectors of 512 bytes are whole.
Concurrency: plain values. Source: fsync(2), open(2), ext4(5) on delayed allocation.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.crash.power.recording import CREATED, SYNCED, TRUNCATED, Call
from tests.crash.power.tree import PAGE, Content, Step, Tree

_SECTOR = 512
WAYS = ("lost", "kept", "head", "tail", "names", "bytes", "hollow")


class Drive:
    """What one drive holds durably, and the steps that are loose."""

    def __init__(self) -> None:
        self.durable = Tree()
        self.live = Tree()  # Names only: where paths lead just now.
        self.loose: list[Step] = []
        self.version = 0
        self._last = 0

    def load(self, path: Path, node: int = 0) -> None:
        """Begin with what stands at `path`, all of it durable."""
        for entry in sorted(path.iterdir()):
            if entry.name.endswith("-shm"):
                continue
            child = self.new(entry.is_dir())
            self.durable.folders[node][entry.name] = child
            self.live.folders[node][entry.name] = child
            if entry.is_dir():
                self.load(entry, child)
            else:
                self.durable.files[child].write(0, entry.read_bytes())

    def new(self, is_folder: bool) -> int:
        self._last += 1
        if is_folder:
            self.durable.folders[self._last] = {}
            self.live.folders[self._last] = {}
        else:
            self.durable.files[self._last] = Content()
        return self._last

    def add(self, step: Step) -> None:
        if step.is_name:
            self.live.do(step)
        self.loose.append(step)

    def settle(self, steps: Sequence[Step]) -> None:
        """These loose steps are durable now."""
        if not steps:
            return
        self.version += 1
        for step in steps:
            self.durable.do(step)
        gone = set(map(id, steps))
        self.loose = [step for step in self.loose if id(step) not in gone]

    def sync(self, node: int) -> None:
        self.settle([step for step in self.loose if step.node == node])

    def sync_write(self, last: Step) -> None:
        """A write through O_DSYNC is done: it, and what has to be durable for it to be read."""
        page, stop = last.offset // PAGE, -(-(last.offset + len(last.content)) // PAGE)
        self.settle(
            [
                step
                for step in self.loose
                if step.node == last.node
                and (
                    step.kind in ("truncate", "grow")
                    or (step.offset < stop * PAGE and _end(step) > page * PAGE)
                )
            ]
        )

    def cut(self, way: str) -> list[Step]:
        """The steps that a cut keeps, changed where it tears them."""
        word, _, seed = way.partition(" ")
        if word == "some":
            return _sensible(self.loose, _drawn(self.loose, random.Random(seed)))
        return _sensible(self.loose, _kept(self.loose, word))


def _end(step: Step) -> int:
    return step.offset + max(len(step.content), step.length)


def _kept(loose: Sequence[Step], way: str) -> list[Step | None]:
    """Each step as it is kept, None where it isn't."""
    if way == "lost":
        return [None] * len(loose)
    if way == "names":
        return [step if step.is_name else None for step in loose]
    if way == "bytes":
        return [None if step.is_name else step for step in loose]
    if way == "hollow":
        return [
            Step(step.call, "grow", step.node, offset=_end(step)) if step.kind == "write" else step
            for step in loose
        ]
    kept: list[Step | None] = list(loose)
    last = max((i for i, step in enumerate(loose) if step.kind == "write"), default=None)
    if way in ("head", "tail") and last is not None:
        kept[last] = _torn(loose[last], way)
    return kept


def _torn(step: Step, way: str) -> Step | None:
    content = step.content
    if way == "tail":
        cut = _SECTOR - step.offset % _SECTOR
        offset, content = step.offset + cut, content[cut:]
    else:
        offset, half = step.offset, len(content) // 2
        content = content[: max(0, half - (step.offset + half) % _SECTOR)]
    return Step(step.call, "write", step.node, offset, content) if content else None


def _drawn(loose: Sequence[Step], chance: random.Random) -> list[Step | None]:
    kept: list[Step | None] = []
    for step in loose:
        drawn: Step | None = step if chance.random() < 0.5 else None
        if drawn is not None and step.kind == "write" and chance.random() < 0.3:
            drawn = _torn(step, chance.choice(("head", "tail")))
        kept.append(drawn)
    return kept


def _sensible(loose: Sequence[Step], kept: Sequence[Step | None]) -> list[Step]:
    """The kept steps without those that need a name that was lost."""
    lost: set[tuple[int, str]] = set()
    found = []
    for step, copy in zip(loose, kept, strict=True):
        if copy is None or (copy.is_name and not lost.isdisjoint(step.names())):
            lost.update(step.names())
        else:
            found.append(copy)
    return found


@dataclass(frozen=True, slots=True)
class State:
    """A cut while call number `call` is under way, and in which way."""

    call: int
    way: str

    def __str__(self) -> str:
        return f"{self.call}:{self.way.replace(' ', '-')}"

    @classmethod
    def parse(cls, text: str) -> State:
        """The other way of str()."""
        call, _, way = text.partition(":")
        return cls(int(call), way.replace("-", " "))


@dataclass(slots=True)
class Replay:
    """The drives while calls are done to them one by one. roots: name of each drive's folder."""

    drives: dict[str, Drive] = field(default_factory=dict)
    _open: dict[int, tuple[str, int]] = field(default_factory=dict)
    _done: int = 0

    @classmethod
    def of(cls, base: Path) -> Replay:
        """Begin with the drives' folders in `base`."""
        replay = cls()
        for folder in sorted(base.iterdir()):
            drive = replay.drives[folder.name] = Drive()
            drive.load(folder)
        return replay

    def begin(self, call: Call) -> list[tuple[Drive, Step]]:
        """Do a call so far as its steps are loose; nothing is durable that wasn't before."""
        number, self._done = self._done, self._done + 1
        if call.kind == "O":
            return self._opened(number, call)
        if call.kind in "RUMD":
            return self._named(number, call)
        if call.kind in "WTAP":
            name, node = self._open[call.handle]
            step = {
                "W": Step(number, "write", node, call.offset, call.content),
                "T": Step(number, "truncate", node, call.offset),
                "A": Step(number, "grow", node, call.offset + call.length),
                "P": Step(number, "punch", node, call.offset, length=call.length),
            }[call.kind]
            self.drives[name].add(step)
            return [(self.drives[name], step)]
        return []

    def end(self, call: Call, steps: Sequence[tuple[Drive, Step]]) -> None:
        """The call returned."""
        if call.kind == "S":
            name, node = self._open[call.handle]
            self.drives[name].sync(node)
        elif call.kind == "W" and call.flags & SYNCED:
            for drive, step in steps:
                drive.sync_write(step)

    def keys(self, way: str) -> tuple[object, ...]:
        """What tells this state of the drives from others."""
        return tuple(
            (drive.version, *((s.call, s.kind, len(s.content)) for s in drive.cut(each)))
            for drive, each in self._ways(way)
        )

    def put(self, way: str, folder: Path) -> None:
        """Write the drives as the cut leaves them below `folder`."""
        ways = dict(zip(self.drives, self._ways(way), strict=True))
        for name, (drive, each) in ways.items():
            steps = drive.cut(each)
            tree = drive.durable.copy({step.node for step in steps})
            for step in steps:
                tree.do(step)
            tree.put(folder / name)

    def _ways(self, way: str) -> list[tuple[Drive, str]]:
        word, _, seed = way.partition(" ")
        if word != "apart":
            return [(drive, way) for drive in self.drives.values()]
        chance = random.Random(f"{seed}")
        ways = [*WAYS, f"some {seed}"]
        return [(drive, chance.choice(ways)) for drive in self.drives.values()]

    def _opened(self, number: int, call: Call) -> list[tuple[Drive, Step]]:
        drive, name, path = self._find(call.path)
        found: list[tuple[Drive, Step]] = []
        if call.flags & CREATED:
            node = drive.new(is_folder=False)
            found.append((drive, self._name(drive, number, path, node)))
        node = drive.live.find(path)
        self._open[call.handle] = (name, node)
        if call.flags & TRUNCATED:
            found.append((drive, Step(number, "truncate", node)))
            drive.add(found[-1][1])
        return found

    def _named(self, number: int, call: Call) -> list[tuple[Drive, Step]]:
        drive, _, path = self._find(call.path.partition("\0")[0])
        if call.kind == "M":
            return [(drive, self._name(drive, number, path, drive.new(is_folder=True)))]
        if call.kind != "R":
            return [(drive, self._name(drive, number, path, None))]
        other, _, new = self._find(call.path.partition("\0")[2])
        assert other is drive and new.parent == path.parent, f"moved between folders: {call.path}"
        node = drive.live.find(path)
        return [(drive, self._name(drive, number, new, node, renamed=path.name))]

    def _name(
        self, drive: Drive, number: int, path: PurePosixPath, target: int | None, renamed: str = ""
    ) -> Step:
        folder = drive.live.find(path.parent)
        step = Step(number, "name", folder, name=path.name, target=target, renamed=renamed)
        drive.add(step)
        return step

    def _find(self, path: str) -> tuple[Drive, str, PurePosixPath]:
        name, _, rest = path.partition("/")
        return self.drives[name], name, PurePosixPath(os.path.normpath(rest or "."))


def states(replay: Replay, calls: Sequence[Call], seeds: int) -> list[State]:
    """All states that differ, each at the last call that leaves it.

    That is where most has been acknowledged. seeds: how many random ways at each call.
    """
    found: dict[tuple[object, ...], State] = {}
    for number, call in enumerate(calls):
        steps = replay.begin(call)
        ways = list(WAYS)
        for seed in range(seeds):
            ways += [f"some {number * 100 + seed}", f"apart {number * 100 + seed}"]
        for way in ways:
            found[replay.keys(way)] = State(number, way)
        replay.end(call, steps)
    return sorted(found.values(), key=lambda state: (state.call, state.way))


def images(
    replay: Replay, calls: Sequence[Call], wanted: Iterable[State], folder: Path
) -> Iterator[State]:
    """Write each state's drives below `folder`, one after the other; its owner empties it."""
    rest = sorted(wanted, key=lambda state: state.call)
    rest.reverse()
    for number, call in enumerate(calls):
        steps = replay.begin(call)
        while rest and rest[-1].call == number:
            state = rest.pop()
            replay.put(state.way, folder)
            yield state
        replay.end(call, steps)
