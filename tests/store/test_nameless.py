"""Inodes that lost their last name while the kernel had them: they open and read until it forgets.

The kernel opens by the number that it was told for the name, so the name may have gone to another
inode by then; open(2) of a name that always exists must never fail for that.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from metadb.records import InodeId
from store import entries, errors
from store.namespace import Namespace
from store.types import ObjectMeta
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import box, broken, contents, made

OLD, NEW = b"old" * 20_000, b"new" * 20_000


class Kernel:
    """A mount whose kernel holds what it is told to hold."""

    def __init__(self, namespace: Namespace) -> None:
        self.held: set[InodeId] = set()
        self._namespace = namespace
        namespace.set_invalidator(self)

    def knows(self, parent: InodeId, name: bytes) -> bool:
        return False

    def holds(self, inode: InodeId) -> bool:
        return inode in self.held

    async def invalidate(
        self, entries: Sequence[tuple[InodeId, bytes]], inodes: Sequence[InodeId]
    ) -> None:
        return None

    def forget(self, inode: InodeId) -> None:
        self.held.discard(inode)
        self._namespace.files.forgotten([inode])


async def put(opened: Opened, body: bytes) -> InodeId:
    stat = await opened.namespace.objects.put("box", "key", BytesBody(body), ObjectMeta())
    return stat.inode


@pytest.mark.parametrize("how", ["put", "delete", "unlink", "rename"])
async def test_what_the_kernel_holds_outlives_its_name_until_it_is_forgotten(
    opened: Opened, how: str
) -> None:
    files, kernel = opened.namespace.files, Kernel(opened.namespace)
    old = await put(opened, OLD)
    kernel.held.add(old)
    if how == "put":
        await put(opened, NEW)
    elif how == "delete":
        await opened.namespace.objects.delete("box", "key")
    elif how == "unlink":
        files.unlink(box(files), b"key")
    else:
        await made(files, box(files), b"other", NEW)
        await files.rename(box(files), b"other", box(files), b"key", 0)
    assert files.attributes(old).nlink == 0
    assert await contents(files, old) == OLD
    assert files.attributes(old).nlink == 0, "a look took it away, or gave it a name"
    kernel.forget(old)
    with pytest.raises(errors.NoSuchEntry):
        files.attributes(old)
    assert not broken(opened.namespace)


async def test_it_stays_as_long_as_either_a_handle_or_the_kernel_has_it(opened: Opened) -> None:
    files, kernel = opened.namespace.files, Kernel(opened.namespace)
    for last in ("handle", "kernel"):
        old = await put(opened, OLD)
        kernel.held.add(old)
        handle = files.open(old, os.O_RDONLY)
        await put(opened, NEW)
        if last == "handle":
            kernel.forget(old)
            assert b"".join(await handle.read(0, len(OLD))) == OLD
            await handle.release()
        else:
            await handle.release()
            assert await contents(files, old) == OLD
            kernel.forget(old)
        with pytest.raises(errors.NoSuchEntry):
            files.attributes(old)
    assert not broken(opened.namespace)


async def test_what_the_kernel_does_not_hold_goes_at_once(opened: Opened) -> None:
    files, kernel = opened.namespace.files, Kernel(opened.namespace)
    old = await put(opened, OLD)
    kernel.held.add(await put(opened, NEW))
    with pytest.raises(errors.NoSuchEntry):
        files.attributes(old)


async def test_an_unmount_lets_everything_go(opened: Opened) -> None:
    files, kernel = opened.namespace.files, Kernel(opened.namespace)
    old = await put(opened, OLD)
    kernel.held.add(old)
    await put(opened, NEW)
    opened.namespace.set_invalidator(None)
    with pytest.raises(errors.NoSuchEntry):
        files.attributes(old)
    assert not broken(opened.namespace)


async def test_a_transaction_that_fails_leaves_nothing_to_forget(opened: Opened) -> None:
    files, kernel = opened.namespace.files, Kernel(opened.namespace)
    old = await put(opened, OLD)
    kernel.held.add(old)

    def fail(tx: object) -> None:
        entries.unlink(tx, opened.namespace._state, box(files), b"key", 1)  # type: ignore[arg-type]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        opened.engine.transact(fail)
    kernel.forget(old)
    assert await contents(files, old) == OLD
    assert files.attributes(old).nlink == 1
