"""Every system call on a drive: the one class that a test replaces by a faulty one.

All names are looked up relative to a handle of `<drive>/twofold`, taken when its label was
verified. So nothing is ever written to another file system that turns up at the same path, nor
to the bare mount point below one that went away.

    <drive>/twofold/label                 who the drive is (label.py)
    <drive>/twofold/lock                  held by the daemon that uses the drive (flock)
    <drive>/twofold/segments/<hh>/<id>.seg  members; id in 9 hex digits, hh its last two
    <drive>/twofold/segments/<hh>/<id>.new  drafts: members that are being rebuilt
    <drive>/twofold/meta/                 belongs to metadb

Blocking, for threads. `preadv` with RWF_NOWAIT and cached handles alone may be used on the loop.
Raises OSError as the kernel does. Sources: preadv2(2), fallocate(2), fdatasync(2), flock(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from store.chunks.errors import DriveBusy
from store.chunks.label import FOLDER, META, SEGMENTS, Label, open_directory, read_label
from store.chunks.label import write_label as replace_label
from store.chunks.types import Buffer, SegmentId

_KEEP_SIZE = 0x01
_PUNCH_HOLE = 0x02
_START_WRITEBACK = 0x02  # SYNC_FILE_RANGE_WRITE
_MEMBER = "seg"
_DRAFT = "new"
_is_member = re.compile(rf"([0-9a-f]{{9}})\.({_MEMBER}|{_DRAFT})").fullmatch
_is_folder = re.compile("[0-9a-f]{2}").fullmatch
_UNSUPPORTED = (errno.EOPNOTSUPP, errno.ENOSYS)
_LIBC = ctypes.CDLL(None, use_errno=True)
_OFFSET = ctypes.c_int64


class Handle:
    """An open descriptor, closed when nobody refers to it any more.

    A thread that still works on it, hung or not, refers to it; so its number is never given to
    another file under that thread's hands.
    """

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """What a look at the drive's path shows. Sizes in bytes.

    label: None when there is none. attached: whether our handles are of the folder seen.
    device: number of the file system, equal for drives that share one.
    """

    label: Label | None
    attached: bool
    device: int
    read_only: bool
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMember:
    """A member file found on the drive. allocated_bytes: what it takes of the file system.

    draft: being built, or left by a life that was building it.
    """

    segment: SegmentId
    size_bytes: int
    allocated_bytes: int
    draft: bool


def _name(segment: SegmentId, *, draft: bool = False) -> str:
    digits = f"{segment:09x}"
    return f"{digits[-2:]}/{digits}.{_DRAFT if draft else _MEMBER}"


def segment_of_name(name: str) -> tuple[SegmentId, bool] | None:
    """Whose member a file in a folder is, and whether a draft; None for a file that is no member.

    Somebody's stray file must not keep the members beside it from being seen.
    """
    match = _is_member(name)
    return None if match is None else (SegmentId(int(match[1], 16)), match[2] == _DRAFT)


def _exists(name: str, within: Handle) -> bool:
    try:
        os.stat(name, dir_fd=within.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


class DriveIO:
    """The system calls on the drive at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder: Handle | None = None
        self._segments: Handle | None = None
        self._lock: Handle | None = None
        self._closed = False
        self._nowait_flags = os.RWF_NOWAIT

    # -- the drive itself --------------------------------------------------------------

    def attach(self) -> Label | None:
        """Take handles and the lock; the label, or None (and nothing taken) without one.

        Raises LabelError when it is unreadable, DriveBusy when another daemon holds the drive.
        """
        folder = Handle(open_directory(self.path / FOLDER))
        label = read_label(folder.fd)
        if label is None:
            return None
        segments = Handle(open_directory(SEGMENTS, within=folder.fd))
        self.detach()
        self._lock = self._take_lock(folder)
        self._folder, self._segments = folder, segments
        if self._closed:
            # A thread that hung until after the end: the lock may be somebody else's to take.
            self.detach()
            raise OSError(errno.ENODEV, "the drive is not in use any more", str(self.path))
        return label

    def detach(self) -> None:
        """Let go of the handles, so that the drive can be unmounted."""
        self._folder = self._segments = self._lock = None

    def close(self) -> None:
        """Let go for good: whoever is about to attach in a thread will not."""
        self._closed = True
        self.detach()

    def probe(self) -> Probe:
        """Look at what stands at the path now."""
        folder = Handle(open_directory(self.path / FOLDER))
        ours = self._folder
        sizes = os.fstatvfs(folder.fd)
        return Probe(
            label=read_label(folder.fd),
            attached=ours is not None and os.path.sameopenfile(ours.fd, folder.fd),
            device=os.fstat(folder.fd).st_dev,
            read_only=bool(sizes.f_flag & os.ST_RDONLY),
            total_bytes=sizes.f_blocks * sizes.f_frsize,
            free_bytes=sizes.f_bavail * sizes.f_frsize,
        )

    def write_label(self, label: Label) -> None:
        """Replace the label of the attached drive."""
        folder = self._attached(self._folder)  # Kept while its number is in use.
        replace_label(folder.fd, label)

    def try_write(self) -> None:
        """Make a file and remove it, to see whether the drive can be written."""
        folder = self._attached(self._folder)
        os.close(os.open("try", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600, dir_fd=folder.fd))
        os.unlink("try", dir_fd=folder.fd)

    @property
    def meta_path(self) -> Path:
        """The folder for metadb."""
        return self.path / FOLDER / META

    # -- member files ------------------------------------------------------------------

    def create_segment(self, segment: SegmentId, size: int, *, draft: bool = False) -> Handle:
        """A new member with `size` >= 0 bytes preallocated; its name is durable on return."""
        segments = self._attached(self._segments)
        name = _name(segment, draft=draft)
        folder = name.partition("/")[0]
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700, dir_fd=segments.fd)
        # Also where it was there: a life that was killed may have made it and not come to this.
        os.fsync(segments.fd)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        handle = Handle(os.open(name, flags, 0o600, dir_fd=segments.fd))
        if size:
            self.allocate(handle, 0, size)
        os.fsync(handle.fd)
        parent = Handle(open_directory(folder, within=segments.fd))
        os.fsync(parent.fd)
        return handle

    def open_segment(self, segment: SegmentId) -> Handle:
        """An existing member. On a drive that is read-only it opens for reading."""
        segments = self._attached(self._segments)
        try:
            return Handle(os.open(_name(segment), os.O_RDWR | os.O_CLOEXEC, dir_fd=segments.fd))
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
        return Handle(os.open(_name(segment), os.O_RDONLY | os.O_CLOEXEC, dir_fd=segments.fd))

    def open_direct(self, segment: SegmentId) -> Handle:
        """An existing member, for reading what the drive holds and not what memory does.

        Buffers, sizes and offsets must be aligned then. Where the file system can't (EINVAL), the
        usual way. See O_DIRECT in open(2).
        """
        segments = self._attached(self._segments)
        name, flags = _name(segment), os.O_RDONLY | os.O_CLOEXEC
        try:
            return Handle(os.open(name, flags | os.O_DIRECT, dir_fd=segments.fd))
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
        return Handle(os.open(name, flags, dir_fd=segments.fd))

    def finish_segment(self, segment: SegmentId) -> None:
        """Give a draft the name of a member, durably. Its content is durable already.

        Raises FileExistsError: what stands there is never replaced, whatever the draft holds.
        """
        segments = self._attached(self._segments)
        draft, member = _name(segment, draft=True), _name(segment)
        if _exists(member, segments):
            raise FileExistsError(errno.EEXIST, "a member stands there", str(self.path / member))
        os.rename(draft, member, src_dir_fd=segments.fd, dst_dir_fd=segments.fd)
        folder = Handle(open_directory(member.partition("/")[0], within=segments.fd))
        os.fsync(folder.fd)

    def unlink_segment(self, segment: SegmentId, *, draft: bool = False) -> None:
        """Remove a member, or the draft of one; fine when it is gone already."""
        segments = self._attached(self._segments)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(_name(segment, draft=draft), dir_fd=segments.fd)

    def list_folders(self) -> list[str]:
        """The folders that members stand in."""
        segments = self._attached(self._segments)
        # Opened anew: two who list one open folder at once take entries from each other.
        place = Handle(open_directory(".", within=segments.fd))
        return [name for name in os.listdir(place.fd) if _is_folder(name)]

    def list_segments(self, folder: str) -> list[StoredMember]:
        """The member files in one folder, in no order; none when it doesn't exist."""
        found: list[StoredMember] = []
        segments = self._attached(self._segments)
        try:
            place = Handle(open_directory(folder, within=segments.fd))
        except FileNotFoundError:
            return found
        with os.scandir(place.fd) as entries:
            for entry in entries:
                member = segment_of_name(entry.name)
                if member is not None:
                    status = entry.stat(follow_symlinks=False)
                    found.append(
                        StoredMember(
                            segment=member[0],
                            size_bytes=status.st_size,
                            allocated_bytes=status.st_blocks * 512,
                            draft=member[1],
                        )
                    )
        return found

    # -- bytes -------------------------------------------------------------------------

    def write(self, handle: Handle, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all buffers, one after the other, at `offset`."""
        written = os.pwritev(handle.fd, buffers, offset)
        if written == sum(map(len, buffers)):
            return
        rest = memoryview(b"".join(buffers))[written:]
        while rest:
            offset += written
            written = os.pwrite(handle.fd, rest, offset)
            rest = rest[written:]

    def read(self, handle: Handle, buffers: Sequence[Buffer], offset: int) -> int:
        """Fill the buffers from `offset`; how many bytes came, fewer at the end of the file."""
        return os.preadv(handle.fd, buffers, offset)

    def read_nowait(self, handle: Handle, buffers: Sequence[Buffer], offset: int) -> int:
        """`read` of what is in the page cache. Never blocks; BlockingIOError when nothing is."""
        try:
            return os.preadv(handle.fd, buffers, offset, self._nowait_flags)
        except OSError as error:
            if error.errno not in _UNSUPPORTED or not self._in_memory():
                raise
            self._nowait_flags = 0
        return os.preadv(handle.fd, buffers, offset)

    def flush(self, handle: Handle) -> None:
        """Make the member durable (fdatasync)."""
        os.fdatasync(handle.fd)

    def start_writeback(self, handle: Handle, offset: int, size: int) -> None:
        """Let the kernel begin to write [offset, offset + size), so that `flush` has less to do."""
        _LIBC.sync_file_range(handle.fd, _OFFSET(offset), _OFFSET(size), _START_WRITEBACK)

    def allocate(self, handle: Handle, offset: int, size: int) -> None:
        """Reserve room, where the file system can."""
        self._fallocate(handle, 0, offset, size)

    def punch(self, handle: Handle, offset: int, size: int) -> None:
        """Give the room of [offset, offset + size) back, where the file system can."""
        self._fallocate(handle, _PUNCH_HOLE | _KEEP_SIZE, offset, size)

    def truncate(self, handle: Handle, size: int) -> None:
        """Cut the member to `size` bytes."""
        os.ftruncate(handle.fd, size)

    # -- inside ------------------------------------------------------------------------

    def _fallocate(self, handle: Handle, mode: int, offset: int, size: int) -> None:
        if _LIBC.fallocate(handle.fd, mode, _OFFSET(offset), _OFFSET(size)) == 0:
            return
        code = ctypes.get_errno()
        if code not in _UNSUPPORTED:
            raise OSError(code, os.strerror(code))

    def _attached(self, handle: Handle | None) -> Handle:
        if handle is None:
            raise OSError(errno.ENODEV, "the drive is not attached", str(self.path))
        return handle

    def _take_lock(self, folder: Handle) -> Handle:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            lock = Handle(os.open("lock", flags, 0o600, dir_fd=folder.fd))
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            lock = Handle(os.open("lock", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder.fd))
        try:
            fcntl.flock(lock.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DriveBusy(f"{self.path}: is in use by another daemon") from error
        return lock

    def _in_memory(self) -> bool:
        """Whether the drive is a tmpfs, which knows no RWF_NOWAIT but never waits for a device."""
        device = os.stat(self.path).st_dev
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            for line in table:
                fields = line.split()
                if fields[2] == f"{os.major(device)}:{os.minor(device)}":
                    return fields[fields.index("-") + 1] == "tmpfs"
        return False
