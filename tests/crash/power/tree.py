"""Files and folders as plain values: what a drive holds, and steps that change it.

Concurrency: plain values.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PAGE = 4096
_ZEROS = bytes(PAGE)


class Content:
    """The bytes of a file: pages that are not all zeros, by number."""

    __slots__ = ("pages", "size")

    def __init__(self, size: int = 0, pages: dict[int, bytes] | None = None) -> None:
        self.size = size
        self.pages = {} if pages is None else pages

    def copy(self) -> Content:
        return Content(self.size, dict(self.pages))

    def write(self, offset: int, content: bytes) -> None:
        end = offset + len(content)
        at = offset
        while at < end:
            page, start = divmod(at, PAGE)
            stop = min(PAGE, start + end - at)
            part = content[at - offset : at - offset + stop - start]
            if len(part) < PAGE:
                old = self.pages.get(page, _ZEROS)
                part = old[:start] + part + old[stop:]
            if part == _ZEROS:
                self.pages.pop(page, None)
            else:
                self.pages[page] = part
            at += stop - start
        self.size = max(self.size, end)

    def truncate(self, size: int) -> None:
        if size < self.size:
            self.clear(size, self.size - size)
        self.size = size

    def clear(self, offset: int, length: int) -> None:
        for page in [p for p in self.pages if p * PAGE < offset + length]:
            start = max(0, offset - page * PAGE)
            stop = min(PAGE, offset + length - page * PAGE)
            if start < stop:
                old = self.pages[page]
                part = old[:start] + bytes(stop - start) + old[stop:]
                if part == _ZEROS:
                    del self.pages[page]
                else:
                    self.pages[page] = part

    def put(self, path: Path) -> None:
        """Write the file."""
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            group: list[bytes] = []
            first = 0
            for page in sorted(self.pages):
                if group and page != first + len(group):
                    os.pwrite(fd, b"".join(group), first * PAGE)
                    group = []
                if not group:
                    first = page
                group.append(self.pages[page])
            if group:
                os.pwrite(fd, b"".join(group), first * PAGE)
            os.ftruncate(fd, self.size)
        finally:
            os.close(fd)


@dataclass(slots=True)
class Step:
    """Something that is not durable yet, done by call number `call`.

    node: the file, or the folder a name is in. name, target: for names; target None where the
    name goes. renamed: the name it had before.
    """

    call: int
    kind: str
    node: int
    offset: int = 0
    content: bytes = b""
    length: int = 0
    name: str = ""
    target: int | None = None
    renamed: str = ""

    @property
    def is_name(self) -> bool:
        return self.kind == "name"

    def names(self) -> list[tuple[int, str]]:
        return [(self.node, name) for name in (self.name, self.renamed) if name]


class Tree:
    """Nodes of a file system by number; 0 is the drive's root."""

    def __init__(self) -> None:
        self.files: dict[int, Content] = {}
        self.folders: dict[int, dict[str, int]] = {0: {}}

    def copy(self, touched: Iterable[int]) -> Tree:
        """A copy that may be changed at the nodes `touched`; the rest is shared."""
        copied = Tree()
        copied.files, copied.folders = dict(self.files), dict(self.folders)
        for node in touched:
            if node in copied.files:
                copied.files[node] = copied.files[node].copy()
            else:
                copied.folders[node] = dict(copied.folders[node])
        return copied

    def do(self, step: Step) -> None:
        if step.is_name:
            folder = self.folders[step.node]
            if step.renamed:
                folder.pop(step.renamed, None)
            if step.target is None:
                folder.pop(step.name, None)
            else:
                folder[step.name] = step.target
            return
        content = self.files[step.node]
        if step.kind == "write":
            content.write(step.offset, step.content)
        elif step.kind == "truncate":
            content.truncate(step.offset)
        elif step.kind == "grow":
            content.size = max(content.size, step.offset)
        else:
            content.clear(step.offset, step.length)

    def find(self, path: PurePosixPath) -> int:
        node = 0
        for part in path.parts:
            node = self.folders[node][part]
        return node

    def put(self, path: Path, node: int = 0) -> None:
        """Write all of it below `path`, which must be absent."""
        path.mkdir()
        for name, child in self.folders[node].items():
            if child in self.folders:
                self.put(path / name, child)
            else:
                self.files[child].put(path / name)
