"""S3 versioning and rule R14 in plain Python: what the store is compared with.

A key is a string; a directory's path ends in '/'. Version ids that the store makes up are tokens
here (numbers), bound to the real ones where both are compared; None is the null version.
Source: Amazon S3 user guide, "How S3 Versioning works"; SEMANTICS.md, R4, R6, R14.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

OFF, ENABLED, SUSPENDED = "off", "enabled", "suspended"
Token = int | None
UNPUBLISHED = -1  # The session has published nothing yet: no token is that.


@dataclass(eq=False)
class Node:
    """An inode that is no directory. Several keys may share it."""

    content: bytes = b""
    id: Token = None
    published: bool = False


@dataclass
class Session:
    """What is open: content as the mount sees it, and what was published since a close."""

    content: bytes
    dirty: bool
    handles: int = 0
    transient: Token = UNPUBLISHED


@dataclass(frozen=True)
class Version:
    """content None: a delete marker. sequence: when it became history."""

    id: Token
    content: bytes | None
    sequence: int = field(default=0, compare=False)


@dataclass
class Model:
    """directories: path to whether it is implicit. history: oldest first."""

    versioning: str = OFF
    leaves: dict[str, Node] = field(default_factory=dict)
    history: dict[str, list[Version]] = field(default_factory=dict)
    directories: dict[str, bool] = field(default_factory=dict)
    sessions: dict[Node, Session] = field(default_factory=dict)
    tokens: Iterator[int] = field(default_factory=itertools.count)
    sequences: Iterator[int] = field(default_factory=itertools.count)

    # -- what can be seen --------------------------------------------------------------

    def object(self, key: str) -> Node | None:
        node = self.leaves.get(key)
        return node if node is not None and node.published else None

    def versions(self, key: str) -> list[Version]:
        """Newest first, the current one before all."""
        node = self.object(key)
        current = [] if node is None else [Version(node.id, node.content)]
        return current + self.history.get(key, [])[::-1]

    def listed(self) -> list[tuple[str, Version]]:
        keys = sorted(self.leaves.keys() | self.history.keys(), key=str.encode)
        return [(key, version) for key in keys for version in self.versions(key)]

    def held_bytes(self) -> int:
        nodes = sum(len(node.content) for node in set(self.leaves.values()) if node.published)
        rows = itertools.chain.from_iterable(self.history.values())
        return nodes + sum(len(row.content or b"") for row in rows)

    def names(self, node: Node) -> list[str]:
        return [key for key, named in self.leaves.items() if named is node]

    def exists(self, directory: str) -> bool:
        return directory == "" or directory in self.directories

    def children(self, directory: str) -> list[str]:
        """Names right below: leaves without, directories with '/'."""
        leaves = [key for key in self.leaves if directory_of(key) == directory]
        below = [path for path in self.directories if parent_of(path) == directory]
        return [path[len(directory) :] for path in leaves + below]

    # -- rules -------------------------------------------------------------------------

    def token(self) -> Token:
        return next(self.tokens) if self.versioning == ENABLED else None

    def _kept(self, node: Node) -> bool:
        return node.published and (
            self.versioning == ENABLED or (self.versioning == SUSPENDED and node.id is not None)
        )

    def _append(self, key: str, version: Version) -> None:
        row = replace(version, sequence=next(self.sequences))
        self.history.setdefault(key, []).append(row)

    def _make_room(self, key: str) -> None:
        if self.versioning == SUSPENDED:
            rows = self.history.get(key, [])
            self.history[key] = [row for row in rows if row.id is not None]

    def _retire(self, key: str, node: Node) -> None:
        if self._kept(node):
            self._append(key, Version(node.id, node.content))

    def _mark(self, key: str) -> None:
        self._make_room(key)
        self._append(key, Version(self.token(), None))

    def _keep_before_change(self, node: Node) -> None:
        if self.versioning == OFF:
            return
        for key in self.names(node):
            self._retire(key, node)
            self._make_room(key)

    def _make_directories(self, key: str) -> None:
        parts = key.split("/")[:-1]
        for count in range(1, len(parts) + 1):
            self.directories.setdefault("/".join(parts[:count]) + "/", True)

    def _prune(self, key: str) -> None:
        path = directory_of(key)
        while path and self.directories[path] and not self.children(path):
            del self.directories[path]
            path = parent_of(path)

    def settle(self, directory: str) -> None:
        if directory in self.directories:
            self.directories[directory] = False

    # -- S3 ----------------------------------------------------------------------------

    def put(self, key: str, content: bytes) -> None:
        self._make_directories(key)
        self._make_room(key)
        old = self.leaves.get(key)
        self.leaves[key] = Node(content, self.token(), published=True)
        if old is not None:
            self._retire(key, old)

    def delete(self, key: str) -> None:
        node = self.object(key)
        if node is not None:
            del self.leaves[key]
            self._retire(key, node)
        if self.versioning != OFF:
            self._mark(key)
        if node is not None:
            self._prune(key)

    def delete_version(self, key: str, version: Version) -> None:
        node = self.object(key)
        if node is not None and node.id == version.id:
            del self.leaves[key]
            self._restore(key)
            self._prune(key)
            return
        self.history[key].remove(version)
        if node is None:
            self._restore(key)

    def _restore(self, key: str) -> None:
        rows = self.history.get(key, [])
        if rows and rows[-1].content is not None and key not in self.leaves:
            self._make_directories(key)
            row = rows.pop()
            assert row.content is not None
            self.leaves[key] = Node(row.content, row.id, published=True)

    def rename_object(self, source: str, target: str) -> None:
        node = self.leaves[source]
        if source == target or self.leaves.get(target) is node:
            return
        self._make_directories(target)
        self._move(source, target)
        self._prune(source)

    # -- names on the mount ------------------------------------------------------------

    def _leave(self, node: Node, key: str, *, marker: bool = True) -> None:
        if self.versioning == OFF:
            return
        if node.published:
            self._keep_before_change(node)
        rows = self.history.get(key, [])
        if marker and (node.published or (rows and rows[-1].content is not None)):
            self._mark(key)

    def _arrive(self, node: Node, key: str) -> None:
        if node.published:
            self._make_room(key)
            node.id = self.token()

    def _move(self, source: str, target: str) -> None:
        node = self.leaves[source]
        self._leave(node, source)
        del self.leaves[source]
        replaced = self.leaves.get(target)
        self.leaves[target] = node
        if replaced is not None:
            self._retire(target, replaced)
        self._arrive(node, target)

    def rename(self, source: str, target: str) -> None:
        node = self.leaves[source]
        self.publish(node)
        if self.leaves.get(target) is node:
            return
        parents = self.parent_shown(source), self.parent_shown(target)
        self._move(source, target)
        if node in self.sessions:
            self.sessions[node].transient = UNPUBLISHED
        for parent in parents:
            self.settle(parent)

    def exchange(self, one: str, other: str) -> None:
        node, its_node = self.leaves[one], self.leaves[other]
        self.publish(node)
        if node is its_node:
            return
        self._leave(node, one, marker=not its_node.published)
        self._leave(its_node, other, marker=not node.published)
        self._arrive(node, other)
        self._arrive(its_node, one)
        self.leaves[one], self.leaves[other] = its_node, node
        for key in (one, other):
            self.settle(self.parent_shown(key))
        for moved in (node, its_node):
            if moved in self.sessions:
                self.sessions[moved].transient = UNPUBLISHED

    def may_rename_directory(self, old: str, new: str) -> bool:
        if new in self.directories:
            if self.children(new) or new[:-1] in self.leaves:
                return False
        elif new[:-1] in self.leaves:
            return False
        for key, rows in self.history.items():
            if key.startswith(new):
                ids = {version.id for version in self.versions(old + key[len(new) :])}
                if ids & {row.id for row in rows}:
                    return False
        return True

    def rename_directory(self, old: str, new: str) -> None:
        twin = self.leaves.pop(old[:-1], None)
        self.directories.pop(new, None)
        for key in [key for key in self.leaves if key.startswith(old)]:
            self.leaves[new + key[len(old) :]] = self.leaves.pop(key)
        for path in [path for path in self.directories if path.startswith(old)]:
            self.directories[new + path[len(old) :]] = self.directories.pop(path)
        for key in [key for key in self.history if key.startswith(old)]:
            to = new + key[len(old) :]
            rows = self.history.pop(key) + self.history.get(to, [])
            self.history[to] = sorted(rows, key=lambda row: row.sequence)
        if twin is not None:
            self.leaves[old[:-1]] = twin
            self._leave(twin, old[:-1])
            del self.leaves[old[:-1]]
            self.leaves[new[:-1]] = twin
            self._arrive(twin, new[:-1])
        for path in (parent_of(old), parent_of(new), new):
            self.settle(path)

    def link(self, source: str, target: str) -> None:
        node = self.leaves[source]
        ids = [row.id for row in self.history.get(target, [])]
        if self.versioning != OFF and node.published and node.id in ids:
            self._keep_before_change(node)
            self._make_room(target)
            node.id = self.token()
        self.leaves[target] = node
        self.settle(self.parent_shown(target))

    def unlink(self, key: str) -> None:
        parent = self.parent_shown(key)
        node = self.leaves.pop(key)
        self._retire(key, node)
        rows = self.history.get(key, [])
        hidden = bool(rows) and rows[-1].content is not None
        if self.versioning != OFF and (node.published or hidden):
            self._mark(key)
        self.settle(parent)

    def mkdir(self, path: str) -> None:
        self.directories[path] = False
        self.settle(parent_of(path))

    def may_rmdir(self, path: str) -> bool:
        children = self.children(path)
        marker = self.leaves.get(path)
        if children == [""] and marker is not None:
            content = marker.content if marker.published else b""
            if content or marker in self.sessions:
                return False
        elif children:
            return False
        return path[:-1] not in self.leaves

    def rmdir(self, path: str) -> None:
        if path in self.leaves:
            self.unlink(path)
        del self.directories[path]
        self.settle(parent_of(path))

    def parent_shown(self, key: str) -> str:
        """The directory in which the mount shows a leaf (rule R1)."""
        below = key + "/"
        return below if below in self.directories else directory_of(key)

    # -- open files --------------------------------------------------------------------

    def create(self, key: str) -> Node:
        node = self.leaves.get(key)
        if node is None:
            node = self.leaves[key] = Node()
            self.settle(self.parent_shown(key))
        return node

    def open(self, node: Node) -> Session:
        session = self.sessions.setdefault(node, Session(node.content, not node.published))
        session.handles += 1
        return session

    def truncate(self, node: Node) -> None:
        session = self.sessions[node]
        if session.content:
            session.content, session.dirty = b"", True

    def write(self, node: Node, offset: int, piece: bytes) -> None:
        if piece:
            session = self.sessions[node]
            before = session.content.ljust(offset, b"\0")
            session.content = before[:offset] + piece + before[offset + len(piece) :]
            session.dirty = True

    def publish(self, node: Node) -> None:
        session = self.sessions.get(node)
        if session is None or not session.dirty or not self.names(node):
            return
        same_rules = (self.versioning == ENABLED) == (node.id is not None)
        if session.transient != node.id or not same_rules:
            self._keep_before_change(node)
        node.content, node.published, node.id = session.content, True, self.token()
        session.transient, session.dirty = node.id, False

    def flush(self, node: Node) -> None:
        self.publish(node)
        self.sessions[node].transient = UNPUBLISHED

    def release(self, node: Node) -> None:
        self.flush(node)
        self.sessions[node].handles -= 1
        if not self.sessions[node].handles:
            del self.sessions[node]


def directory_of(key: str) -> str:
    """The directory that a leaf stands in: "" or a path ending in '/'."""
    return key[: key.rfind("/") + 1]


def parent_of(path: str) -> str:
    """The directory that a directory stands in."""
    return directory_of(path[:-1])
