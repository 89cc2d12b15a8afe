"""The plain reference: what the store has to hold, in dicts and bytes.

Names, versions and open files are those of `tests.store.versionmodel`; here are uploads, and what a
crash leaves. Source: SEMANTICS.md, R6, R7, R14; Amazon S3 API reference (multipart uploads).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

from tests.store.versionmodel import Model, Node

MODE = 0o644


class Content(bytes):
    """Bytes with what a program or client noted about them: it goes with them into versions.

    tags: S3's. mode: permission bits on the mount.
    """

    tags: dict[str, str]
    mode: int

    def __new__(cls, value: bytes, tags: dict[str, str] | None = None, mode: int = MODE) -> Content:
        found = super().__new__(cls, value)
        found.tags, found.mode = tags or {}, mode
        return found

    def __deepcopy__(self, memo: object) -> Content:
        return self


def noted(content: bytes) -> Content:
    """The bytes with their notes, of which there may be none."""
    return content if isinstance(content, Content) else Content(content)


@dataclass
class Upload:
    """A multipart upload: parts by number. id: the store's."""

    id: str
    key: str
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Whole(Model):
    """A bucket with everything in it. uploads: by when they were begun."""

    uploads: list[Upload] = field(default_factory=list)

    # -- uploads -----------------------------------------------------------------------

    def begin_upload(self, key: str, number: str) -> None:
        self.uploads.append(Upload(number, key))

    def put_part(self, index: int, number: int, content: bytes) -> None:
        self.uploads[index].parts[number] = content

    def complete(self, index: int, numbers: list[int]) -> None:
        upload = self.uploads.pop(index)
        self.put(upload.key, b"".join(upload.parts[number] for number in numbers))

    def abort(self, index: int) -> None:
        del self.uploads[index]

    def held_bytes(self) -> int:
        parts = sum(len(part) for upload in self.uploads for part in upload.parts.values())
        return super().held_bytes() + parts

    # -- notes -------------------------------------------------------------------------

    def set_tag(self, key: str, name: str, value: str) -> None:
        """In place: no version is made of it."""
        node = self.leaves[key]
        was = noted(node.content)
        node.content = Content(was, {**was.tags, name: value}, was.mode)

    def set_mode(self, key: str, mode: int) -> None:
        """chmod(2)."""
        node = self.leaves[key]
        node.content = Content(node.content, noted(node.content).tags, mode)

    def publish(self, node: Node) -> None:
        was = noted(node.content)
        super().publish(node)
        node.content = Content(node.content, was.tags, was.mode)

    def copy(self, content: bytes, target: str) -> None:
        """CopyObject: a new file with the source's tags."""
        self.put(target, Content(content, noted(content).tags))

    # -- open files --------------------------------------------------------------------

    def resize(self, node: Node, size: int) -> None:
        """ftruncate(2)."""
        session = self.sessions[node]
        if size != len(session.content):
            session.content = session.content[:size].ljust(size, b"\0")
            session.dirty = True

    def truncate_closed(self, key: str, size: int) -> None:
        """truncate(2): opened, cut, closed."""
        node = self.leaves[key]
        self.open(node)
        self.resize(node, size)
        self.flush(node)
        self.release(node)

    # -- lives -------------------------------------------------------------------------

    def crash(self) -> None:
        """Whatever was open is closed, and what wasn't published is gone."""
        self.sessions.clear()


def twin(model: Whole, node: Node | None = None) -> tuple[Whole, Node | None]:
    """The same a second time, and the same node in it."""
    return copy.deepcopy((model, node))
