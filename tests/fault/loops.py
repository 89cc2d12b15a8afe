"""A drive that can break: ext4 in a file, on a loop device, mounted at a folder.

Blocks; needs root and loop devices. Source: losetup(8), ext4(5), linux include/uapi/linux/ext4.h
(EXT4_IOC_SHUTDOWN), Documentation/ABI/testing/sysfs-fs-ext4 (trigger_fs_error).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
from pathlib import Path
from types import TracebackType

_EXT4_IOC_SHUTDOWN = 0x8004587D
_GOING_DOWN_NO_LOG_FLUSH = 2
_FIFREEZE = 0xC0045877
_FITHAW = 0xC0045878


def why_no_loops() -> str:
    """Why loop mounts can't be had here, "" when they can."""
    if os.geteuid() != 0:
        return "loop mounts need root"
    if not os.path.exists("/dev/loop-control"):
        return "there is no /dev/loop-control"
    found = subprocess.run(["losetup", "-f"], capture_output=True, text=True, check=False)
    return "" if found.returncode == 0 else f"no loop device: {found.stderr.strip()}"


class LoopDrive:
    """Mounted on entering, gone on leaving, whatever state it is in by then."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self._image = path.with_suffix(".img")
        self._size_bytes = size_bytes
        self._device = ""

    def __enter__(self) -> LoopDrive:
        self.path.mkdir()
        with self._image.open("wb") as image:
            image.truncate(self._size_bytes)
        _run("mkfs.ext4", "-q", "-m", "0", "-E", "lazy_itable_init=1", str(self._image))
        self._device = _run("losetup", "--find", "--show", str(self._image)).strip()
        try:
            self._mount()
            (self.path / "lost+found").rmdir()
        except BaseException:
            self._detach()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.thaw()
        subprocess.run(["umount", "-l", str(self.path)], check=False, capture_output=True)
        self._detach()

    def unplug(self) -> None:
        """From now on every write, and every read that isn't cached, fails with EIO."""
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, _EXT4_IOC_SHUTDOWN, struct.pack("I", _GOING_DOWN_NO_LOG_FLUSH))
        finally:
            os.close(folder)

    def freeze(self) -> None:
        """From now on every write sleeps in the kernel, where no signal wakes it; see `thaw`."""
        self._ioctl(_FIFREEZE)

    def thaw(self) -> None:
        """Let writes go on. No error where it is not frozen."""
        with contextlib.suppress(OSError):
            self._ioctl(_FITHAW)

    def _ioctl(self, request: int) -> None:
        folder = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(folder, request, struct.pack("i", 0))
        finally:
            os.close(folder)

    def cut_power(self) -> None:
        """Lose whatever was not synced, and come back as after a power cut. Nobody may use it."""
        self.unplug()
        _run("umount", str(self.path))
        self._mount()

    def fail(self) -> None:
        """Let the kernel find an error in the file system: it becomes read-only at once."""
        name = self._device.rpartition("/")[2]
        Path(f"/sys/fs/ext4/{name}/trigger_fs_error").write_text("a test")

    def remount(self, mode: str) -> None:
        """mode: ro or rw. Raises CalledProcessError, for ro also while a file is open to write."""
        _run("mount", "-o", f"remount,{mode}", str(self.path))

    def free_bytes(self) -> int:
        """As any program sees it."""
        sizes = os.statvfs(self.path)
        return sizes.f_bavail * sizes.f_frsize

    def _mount(self) -> None:
        # Errors turn it read-only, as the defaults of most systems say.
        _run("mount", "-o", "errors=remount-ro", self._device, str(self.path))

    def _detach(self) -> None:
        subprocess.run(["losetup", "-d", self._device], check=False, capture_output=True)
        self._image.unlink(missing_ok=True)


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
