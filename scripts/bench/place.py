"""The folder a worker of `posix` works in, and the files in it that several rows read.

Every file, and every MiB of a large one, is another window into one pool of random bytes with a
fixed seed: what must come back is known without keeping it.

Source: proc_sys_vm(5) for drop_caches.
"""

from __future__ import annotations

import itertools
import os
import random
from pathlib import Path

BLOCK_BYTES = 1 << 20
SMALL_BYTES = 4096
FOLDER_FILES = 1000
WINDOW_STEP_BYTES = 16
WINDOW_COUNT = 65536

PAGE_CACHE, DENTRIES_AND_INODES, BOTH = 1, 2, 3


class WrongContent(Exception):
    """The file system gave back something else than was written."""


class Place:
    """One worker's folder, with the files that several rows read, made when first needed."""

    def __init__(self, root: str, *, files: int, size_bytes: int, drop_caches: bool) -> None:
        os.makedirs(root, exist_ok=True)
        self.root = root
        self.files = files
        self.size_bytes = size_bytes
        self._may_drop = drop_caches
        # Every block and file is a window into these bytes, so that neighbours differ.
        self.pool = random.Random("bench").randbytes(BLOCK_BYTES + WINDOW_COUNT * WINDOW_STEP_BYTES)
        self.view = memoryview(self.pool)

    def folder(self, name: str) -> str:
        path = f"{self.root}/{name}"
        os.makedirs(path, exist_ok=True)
        return path

    def fresh_folder(self, name: str) -> str:
        """A new empty folder, another one at each call."""
        for number in itertools.count():
            path = f"{self.root}/{name}.{number}"
            if not os.path.exists(path):
                return self.folder(f"{name}.{number}")
        raise AssertionError("itertools.count ends never")

    def window(self, index: int, size_bytes: int) -> memoryview:
        start = index % WINDOW_COUNT * WINDOW_STEP_BYTES
        return self.view[start : start + size_bytes]

    def block(self, offset: int, size_bytes: int) -> memoryview:
        """What the large file holds at `offset`, within one block."""
        within = offset % BLOCK_BYTES
        return self.window(offset // BLOCK_BYTES, BLOCK_BYTES)[within : within + size_bytes]

    def write_small(self, path: str, index: int = 0, *, sync: bool = False) -> None:
        """Create, write 4 KiB and close: the timed work of two rows, and how fixtures are made."""
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        try:
            if os.write(descriptor, self.window(index, SMALL_BYTES)) != SMALL_BYTES:
                raise WrongContent(f"a short write to {path}")
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def small_folders(self) -> list[str]:
        """Folders of 1,000 small files each."""
        folders = []
        for start in range(0, self.files, FOLDER_FILES):
            folder = f"{self.root}/small.{start // FOLDER_FILES}"
            if not os.path.exists(folder):
                os.mkdir(folder)
                for index in range(start, min(start + FOLDER_FILES, self.files)):
                    self.write_small(f"{folder}/{index:08}", index)
            folders.append(folder)
        return folders

    def small_files(self) -> list[str]:
        folders = self.small_folders()
        return [f"{folders[index // FOLDER_FILES]}/{index:08}" for index in range(self.files)]

    def large_file(self, name: str = "large") -> str:
        """A file of `size_bytes`, durable, with the content that `block` tells."""
        path = f"{self.root}/{name}"
        if not os.path.exists(path) or os.path.getsize(path) != self.size_bytes:
            descriptor = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
            try:
                for offset in range(0, self.size_bytes, BLOCK_BYTES):
                    write_all(descriptor, self.block(offset, BLOCK_BYTES))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        return path

    def drop_caches(self, what: int) -> None:
        """Empty the kernel's caches, where that was asked for; dirty pages are written first."""
        os.sync()
        if self._may_drop:
            Path("/proc/sys/vm/drop_caches").write_text(f"{what}\n")


def write_all(descriptor: int, content: memoryview) -> None:
    while content:
        content = content[os.write(descriptor, content) :]
