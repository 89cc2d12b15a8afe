"""Load through both doors, by workers that write down what they were promised.

Each worker owns the names below its folder `w<number>/` and does one operation after the other,
of kinds, names and sizes drawn from its own seeded generator. S3 operations are acknowledged by
their answer, POSIX ones by fsync: of the file, or of the directory where names changed.
Concurrency: one thread per worker. Threads are enough: all waiting is outside of the interpreter.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.crash.content import Content, Piece, multipart, whole
from tests.crash.ledger import ABSENT, UNPUBLISHED, Ledger, State

KiB, MiB = 1 << 10, 1 << 20
BUCKET = "crash-load"
# Around each border: inline and segment (16 KiB), stripe (1 MiB), what a draft holds (2 MiB).
_SIZES = (0, 1, 4095, 4 * KiB, 16 * KiB, 16 * KiB + 1, 100_000, MiB - 1, MiB, MiB + 1, 3 * MiB)
_WEIGHTS = (3, 3, 4, 10, 5, 5, 6, 1, 2, 2, 1)
_PART_BYTES = 5 * MiB
_NAMES = 8
_SIZE_MAX = 14 * MiB


class Worker:
    """One stream of operations. client: a boto3 S3 client. folder: its own on the mount, or None.

    failure: what went wrong before anybody had told the load to end.
    """

    def __init__(self, number: int, seed: int, client: Any, folder: Path | None) -> None:
        self.prefix = f"w{number}/"
        self.ledger = Ledger()
        self.failure: BaseException | None = None
        self.counts: dict[str, int] = {}
        self._random = random.Random(seed * 1000 + number)
        self._client = client
        self._folder = folder
        self._next_seed = (seed * 1000 + number) * 1_000_000
        kinds: list[tuple[Callable[[], None], int]] = [
            (self.put, 10),
            (self.delete, 3),
            (self.copy, 3),
            (self.upload, 2),
        ]
        if folder is not None:
            kinds += [
                (self.write, 6),
                (self.write_aside, 3),
                (self.append, 3),
                (self.overwrite, 3),
                (self.truncate, 2),
                (self.rename, 3),
                (self.unlink, 2),
            ]
        self._kinds = [kind for kind, _ in kinds]
        self._kind_weights = [weight for _, weight in kinds]

    def run(self, ending: threading.Event) -> None:
        """Work until `ending` is set, or the daemon is gone after that."""
        try:
            while not ending.is_set():
                (kind,) = self._random.choices(self._kinds, self._kind_weights)
                kind()
                self.counts[kind.__name__] = self.counts.get(kind.__name__, 0) + 1
        except BaseException as error:
            if not ending.is_set():
                self.failure = error

    # -- through S3 --------------------------------------------------------------------

    def put(self) -> None:
        """PutObject, over whatever there is."""
        name, content = self._any(), whole(self._piece())
        with self._acknowledged({name: content}):
            body = bytes(content.pieces[0].view())
            answer = self._client.put_object(Bucket=BUCKET, Key=name, Body=body)
            assert answer["ETag"] == f'"{content.etag}"', "the answer to PUT has a wrong ETag"

    def delete(self) -> None:
        """DeleteObject, also of what isn't there, or not for S3: that stays on the mount."""
        name = self._any()
        unpublished = self.ledger.state(name) is UNPUBLISHED
        with self._acknowledged({name: UNPUBLISHED if unpublished else ABSENT}):
            self._client.delete_object(Bucket=BUCKET, Key=name)

    def copy(self) -> None:
        """CopyObject of one of our own."""
        source = self._existing()
        if source is None:
            return
        name = self._any(source)
        if name == source:
            return
        content = self._content(source)
        with self._acknowledged({name: Content(content.pieces)}):
            self._client.copy_object(
                Bucket=BUCKET, Key=name, CopySource={"Bucket": BUCKET, "Key": source}
            )

    def upload(self) -> None:
        """A multipart upload of two parts, now and then given up instead of completed."""
        name = self._any()
        parts = [self._piece(_PART_BYTES), self._piece(self._random.choice((1, MiB, 3 * MiB)))]
        content = multipart(parts)
        target: dict[str, Any] = {"Bucket": BUCKET, "Key": name}
        # The id that Create makes is not known to us when it isn't answered: see `Checker`.
        target["UploadId"] = upload = self._client.create_multipart_upload(**target)["UploadId"]
        self.ledger.uploads.add(upload)
        claims = []
        for number, part in enumerate(parts, 1):
            answer = self._client.upload_part(**target, PartNumber=number, Body=bytes(part.view()))
            claims.append({"PartNumber": number, "ETag": answer["ETag"]})
        if self._random.random() < 0.2:
            self._client.abort_multipart_upload(**target)
        else:
            with self._acknowledged({name: content}):
                self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": claims})
        self.ledger.uploads.discard(upload)

    # -- through the mount -------------------------------------------------------------

    def write(self) -> None:
        """Make or replace a file, then fsync it and its directory."""
        name, content = self._any(), Content((self._piece(),))
        with self._acknowledged(*self._made(name), {name: content}):
            self._write_file(name, os.O_CREAT | os.O_TRUNC, content)
            self._sync_directory()

    def write_aside(self) -> None:
        """How a careful program replaces a file: write another, fsync, rename over."""
        name, aside, content = self._any(), self.prefix + "aside", Content((self._piece(),))
        steps: list[dict[str, State]] = [
            *self._made(aside),
            {aside: content},
            {aside: ABSENT, name: content},
        ]
        with self._acknowledged(*steps):
            self._write_file(aside, os.O_CREAT | os.O_TRUNC, content)
            os.rename(self._path(aside), self._path(name))
            self._sync_directory()

    def append(self) -> None:
        """Append to a file."""
        name = self._existing(_SIZE_MAX - 3 * MiB)
        if name is None:
            return
        old, piece = self._content(name), self._piece()
        if not piece.size:
            return
        with self._acknowledged({name: old.replaced(old.size, piece)}):
            self._write_file(name, os.O_APPEND, Content((piece,)))

    def overwrite(self) -> None:
        """Write somewhere into a file, maybe beyond its end."""
        name = self._existing(_SIZE_MAX - 3 * MiB)
        if name is None:
            return
        old, piece = self._content(name), self._piece()
        if not piece.size:
            return
        offset = self._random.randint(0, old.size)
        with self._acknowledged({name: old.replaced(offset, piece)}), self._file(name) as file:
            _write_all(file, piece.view(), offset)
            os.fsync(file)

    def truncate(self) -> None:
        """Cut a file off."""
        name = self._existing()
        if name is None:
            return
        old = self._content(name)
        size = self._random.randint(0, old.size)
        if size == old.size:
            return
        with self._acknowledged({name: old.truncated(size)}), self._file(name) as file:
            os.ftruncate(file, size)
            os.fsync(file)

    def rename(self) -> None:
        """rename(2), over whatever there is."""
        source = self._existing()
        if source is None:
            return
        name = self._any(source)
        if name == source:
            return
        with self._acknowledged({source: ABSENT, name: self._content(source)}):
            os.rename(self._path(source), self._path(name))
            self._sync_directory()

    def unlink(self) -> None:
        """unlink(2)."""
        name = self._existing()
        if name is None:
            return
        with self._acknowledged({name: ABSENT}):
            os.unlink(self._path(name))
            self._sync_directory()

    # -- parts of them -----------------------------------------------------------------

    @contextmanager
    def _acknowledged(self, *steps: dict[str, State]) -> Iterator[None]:
        self.ledger.intend(*steps)
        yield
        self.ledger.acknowledge()

    def _made(self, name: str) -> Sequence[dict[str, State]]:
        """The step of open(O_CREAT): a new file is there, empty, before it has content."""
        return [{name: UNPUBLISHED}] if self.ledger.state(name) is ABSENT else []

    def _piece(self, size: int | None = None) -> Piece:
        if size is None:
            (size,) = self._random.choices(_SIZES, _WEIGHTS)
        self._next_seed += 1
        return Piece(self._next_seed, size)

    def _any(self, but: str = "") -> str:
        name = f"{self.prefix}k{self._random.randrange(_NAMES)}"
        return name if name != but else f"{self.prefix}k{_NAMES}"

    def _existing(self, size_max: int = _SIZE_MAX) -> str | None:
        names = [
            name
            for name, state in sorted(self.ledger.names.items())
            if isinstance(state, Content) and state.size <= size_max
        ]
        return self._random.choice(names) if names else None

    def _content(self, name: str) -> Content:
        state = self.ledger.state(name)
        assert isinstance(state, Content)
        return state

    def _path(self, name: str) -> Path:
        assert self._folder is not None
        return self._folder / name.removeprefix(self.prefix)

    @contextmanager
    def _file(self, name: str, flags: int = 0) -> Iterator[int]:
        file = os.open(self._path(name), os.O_WRONLY | flags, 0o644)
        try:
            yield file
        finally:
            os.close(file)

    def _write_file(self, name: str, flags: int, content: Content) -> None:
        with self._file(name, flags) as file:
            for piece in content.pieces:
                _write_all(file, piece.view())
            os.fsync(file)

    def _sync_directory(self) -> None:
        assert self._folder is not None
        directory = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _write_all(file: int, view: memoryview, offset: int | None = None) -> None:
    """All of it, in pieces of 256 KiB as programs do."""
    done = 0
    while done < len(view):
        piece = view[done : done + 256 * KiB]
        done += os.write(file, piece) if offset is None else os.pwrite(file, piece, offset + done)
