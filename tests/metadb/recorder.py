"""Folders that note every write and sync, and what a power cut at any point would leave.

Model: what was synced is there. Of writes that were not, any may be lost, whole, or torn at a
sector; the order between files, and between sectors of one, means nothing. Renames and unlinks
are followed by a sync of the folder in one step (`Folder.replace`), so they count as durable when
done, and may or may not have happened when the cut falls into them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from metadb.files import Buffer, File, Folder

_SECTOR_BYTES = 512


@dataclass(frozen=True)
class Step:
    """One operation: 'write', 'write_synced', 'sync', 'truncate', 'replace', 'remove', 'note'."""

    what: str
    path: Path
    offset: int = 0
    content: bytes = b""
    note: str = ""


@dataclass
class Recorder:
    """Steps of all drives in the order they were done, on top of `base`."""

    steps: list[Step] = field(default_factory=list)

    def folder_type(self) -> Callable[[Path], Folder]:
        """For `open_engine`."""
        return lambda path: _RecordingFolder(path, self.steps)

    def note(self, name: str) -> None:
        """Remember that `name` was acknowledged here."""
        self.steps.append(Step("note", Path(), note=name))

    def cuts(self, base: dict[Path, bytes]) -> Iterator[tuple[int, str, dict[Path, bytes]]]:
        """(steps done, variation, files as the cut leaves them), without repeating a state.

        The step with that number is under way. base: files as they stood, durably, at step 0.
        """
        seen: set[int] = set()
        durable = dict(base)
        loose: list[Step] = []
        for number, step in enumerate(self.steps):
            for variation in ("lost", "kept", "torn", "late", "last", "first"):
                files = dict(durable)
                _keep_some(files, [*loose, step], variation)
                key = hash(frozenset(files.items()))
                if key not in seen:
                    seen.add(key)
                    yield number, variation, files
            if step.what in ("write", "truncate"):
                loose.append(step)
            else:
                if step.what == "sync":
                    for earlier in [s for s in loose if s.path == step.path]:
                        _do(durable, earlier)
                        loose.remove(earlier)
                _do(durable, step)

    def acknowledged(self, steps: int) -> set[str]:
        """What had been acknowledged after so many steps."""
        return {step.note for step in self.steps[:steps] if step.what == "note"}


def snapshot(folder: Path) -> dict[Path, bytes]:
    """All files below `folder`; of logs without the zeros at the end, which mean nothing."""
    return {
        path: path.read_bytes().rstrip(b"\0" if path.name.endswith("-wal") else b"")
        for path in folder.rglob("*")
        if path.is_file()
    }


def restore(files: dict[Path, bytes], old: Path, new: Path) -> None:
    """Write `files`, which stood below `old`, below `new`."""
    for path, content in files.items():
        target = new / path.relative_to(old)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _keep_some(files: dict[Path, bytes], loose: list[Step], variation: str) -> None:
    """lost: none; kept: all; torn: each one's first half; late: all but each one's first sector;
    last and first: only that one.
    """
    if variation == "last":
        loose = loose[-1:]
    elif variation == "first":
        loose = loose[:1]
    for step in loose:
        if variation == "lost":
            continue
        if variation == "torn" and step.what in ("write", "write_synced"):
            half = len(step.content) // 2 // _SECTOR_BYTES * _SECTOR_BYTES
            step = Step("write", step.path, step.offset, step.content[:half])
        elif variation == "late" and step.what in ("write", "write_synced"):
            offset = step.offset + _SECTOR_BYTES
            step = Step("write", step.path, offset, step.content[_SECTOR_BYTES:])
        elif variation in ("torn", "late"):
            continue
        _do(files, step)


def _do(files: dict[Path, bytes], step: Step) -> None:
    content = files.get(step.path, b"")
    if step.what in ("write", "write_synced"):
        if step.content or step.path in files:
            content = content.ljust(step.offset, b"\0")
            rest = content[step.offset + len(step.content) :]
            files[step.path] = content[: step.offset] + step.content + rest
    elif step.what == "truncate":
        files[step.path] = content[: step.offset].ljust(step.offset, b"\0")
    elif step.what == "replace":
        files[step.path] = step.content
    elif step.what == "remove":
        files.pop(step.path, None)


class _RecordingFolder(Folder):
    def __init__(self, path: Path, steps: list[Step]) -> None:
        super().__init__(path)
        self._steps = steps

    def open(self, name: str) -> File:
        return _RecordingFile(self.path / name, self._steps)

    def replace(self, name: str, content: bytes) -> None:
        super().replace(name, content)
        self._steps.append(Step("replace", self.path / name, content=content))

    def remove(self, *names: str) -> None:
        super().remove(*names)
        self._steps.extend(Step("remove", self.path / name) for name in names)


class _RecordingFile(File):
    def __init__(self, path: Path, steps: list[Step]) -> None:
        super().__init__(path)
        self._steps = steps

    def write(self, buffers: Sequence[Buffer], offset: int) -> None:
        super().write(buffers, offset)
        if content := b"".join(buffers):
            self._steps.append(Step("write", self.path, offset, content))

    def write_synced(self, buffer: Buffer, offset: int) -> None:
        super().write_synced(buffer, offset)
        self._steps.append(Step("write_synced", self.path, offset, bytes(buffer)))

    def sync(self) -> None:
        super().sync()
        self._steps.append(Step("sync", self.path))

    def truncate(self, size: int) -> None:
        super().truncate(size)
        self._steps.append(Step("truncate", self.path, size))
