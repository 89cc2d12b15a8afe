"""What is asked of the kernel, and that nobody waits for it for ever. The kernel is a fake."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyfuse3
import pytest
import trio
import trio.testing

from fusefs import invalidate
from fusefs.invalidate import MountInvalidator
from fusefs.kernelcache import KernelCache
from metadb.records import InodeId

DIRECTORY = InodeId(7)
ENTRY = (DIRECTORY, b"name")


@dataclass
class Kernel:
    """Records what it is told to forget. locked: cleared, calls block as on an inode's lock."""

    told: list[object] = field(default_factory=list)
    unlocked: threading.Event = field(default_factory=threading.Event)
    error: OSError | None = None

    def invalidate_inode(self, inode: int, attr_only: bool = False) -> None:
        assert attr_only
        self._tell(inode)

    def invalidate_entry(self, parent: int, name: bytes, deleted: int = 0) -> None:
        self._tell((parent, name))

    def _tell(self, what: object) -> None:
        assert self.unlocked.wait(10)
        if self.error is not None:
            raise self.error
        self.told.append(what)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    fake = Kernel()
    fake.unlocked.set()
    monkeypatch.setattr(pyfuse3, "invalidate_inode", fake.invalidate_inode)
    monkeypatch.setattr(pyfuse3, "invalidate_entry", fake.invalidate_entry)
    yield fake
    fake.unlocked.set()


@pytest.fixture
def locked(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """A kernel that answers nobody in time, until it is unlocked."""
    kernel.unlocked.clear()
    monkeypatch.setattr(invalidate, "WAIT_S", 0.02)
    return kernel


def holding() -> KernelCache:
    cache = KernelCache()
    cache.count(DIRECTORY)
    cache.note(*ENTRY)
    return cache


async def test_what_the_kernel_holds_is_invalidated_before_the_return(kernel: Kernel) -> None:
    cache = holding()
    invalidator = MountInvalidator(cache)
    assert invalidator.knows(*ENTRY)
    await invalidator.invalidate([ENTRY], [DIRECTORY])
    assert kernel.told == [DIRECTORY, ENTRY]
    assert not invalidator.knows(*ENTRY)


async def test_what_the_kernel_does_not_hold_costs_nothing(kernel: Kernel) -> None:
    invalidator = MountInvalidator(KernelCache())
    await invalidator.invalidate([ENTRY], [DIRECTORY])
    assert kernel.told == []


@pytest.mark.parametrize("number", [errno.ENOENT, errno.ENOTCONN, errno.EINVAL])
async def test_an_error_of_the_kernel_reaches_nobody(kernel: Kernel, number: int) -> None:
    kernel.error = OSError(number, "from the kernel")
    await MountInvalidator(holding()).invalidate([ENTRY], [DIRECTORY])


async def test_a_locked_directory_holds_nobody_up_and_is_invalidated_later(
    locked: Kernel,
) -> None:
    invalidator = MountInvalidator(holding())
    with trio.fail_after(30):
        await invalidator.invalidate([ENTRY], [])
    assert locked.told == []
    assert invalidator.timeout_count == 1
    locked.unlocked.set()
    with trio.fail_after(30):
        await invalidator.close()
    assert locked.told == [ENTRY]


async def test_what_found_no_thread_in_time_is_done_by_run(
    locked: Kernel, nursery: trio.Nursery
) -> None:
    cache = holding()
    invalidator = MountInvalidator(cache)
    for number in range(invalidate.THREADS_MAX):
        entry = (DIRECTORY, b"%d" % number)
        cache.note(*entry)
        nursery.start_soon(invalidator.invalidate, [entry], [])
    await trio.testing.wait_all_tasks_blocked()
    await invalidator.invalidate([ENTRY], [])
    locked.unlocked.set()
    nursery.start_soon(invalidator.run)
    with trio.fail_after(30):
        while ENTRY not in locked.told:  # noqa: ASYNC110
            await trio.sleep(0.005)
    nursery.cancel_scope.cancel()
