"""A mounted namespace in a process of its own, for tests that use the mount from outside.

    python -m tests.fusefs.server FOLDER MOUNTPOINT [OPTION=VALUE ...]

The namespace stands on SQLite in FOLDER and on `MemoryChunks`. Once mounted it prints a line of
JSON, then answers one line of JSON for each on its standard input: {"do": name, ...}, see
`COMMANDS`. It stops in order when its input ends or at SIGTERM.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import signal
import stat as stat_module
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import trio

from fusefs import operations
from fusefs.idmap import owners_of
from fusefs.invalidate import MountInvalidator
from fusefs.kernelcache import NAMES_MAX
from fusefs.mount import MountOptions, serve_mount
from metadb.records import ROOT, InodeId
from store.files import Caller, Changes, Files
from store.namespace import Namespace
from store.types import LockRule, ObjectMeta, VersionEntry
from tests.store.bodies import BytesBody, join
from tests.store.conftest import open_namespace
from tests.store.posix import version_bytes

Arguments = dict[str, Any]


async def put(namespace: Namespace, arguments: Arguments) -> object:
    body = BytesBody(base64.b64decode(arguments["body"]))
    meta = ObjectMeta(user=arguments.get("user", {}))
    stat = await namespace.objects.put("box", arguments["key"], body, meta)
    return stat.etag


async def get(namespace: Namespace, arguments: Arguments) -> object:
    with closing(namespace.objects.open("box", arguments["key"])) as reader:
        pieces = [join(part) async for part in reader.stream(0, reader.stat.size)]
    return base64.b64encode(b"".join(pieces)).decode()


async def stat(namespace: Namespace, arguments: Arguments) -> object:
    found = namespace.objects.stat("box", arguments["key"])
    return {"size": found.size, "etag": found.etag, "user": found.meta.user}


async def delete(namespace: Namespace, arguments: Arguments) -> object:
    await namespace.objects.delete("box", arguments["key"])
    return None


async def keys(namespace: Namespace, arguments: Arguments) -> object:
    page = await namespace.listing.objects("box", prefix=arguments.get("prefix", ""), limit=100_000)
    return [entry if isinstance(entry, str) else entry.key for entry in page.entries]


async def make_bucket(namespace: Namespace, arguments: Arguments) -> object:
    await namespace.buckets.create(arguments["name"], "owner")
    return None


async def set_bucket(namespace: Namespace, arguments: Arguments) -> object:
    """Versioning, object lock and quota, as far as they are given."""
    name = arguments["name"]
    if "versioning" in arguments:
        await namespace.buckets.set_versioning(name, arguments["versioning"])
    if "lock" in arguments:
        await namespace.buckets.set_lock_rule(name, LockRule(**arguments["lock"]))
    if "quota" in arguments:
        await namespace.buckets.set_quota(name, arguments["quota"])
    return namespace.buckets.usage(name).bytes


async def hold(namespace: Namespace, arguments: Arguments) -> object:
    await namespace.objects.set_legal_hold(arguments["bucket"], arguments["key"], arguments["on"])
    return None


async def versions(namespace: Namespace, arguments: Arguments) -> object:
    """(key, version id, bytes or None for a delete marker) of each version, as they are listed."""
    bucket = arguments["bucket"]
    page = await namespace.listing.versions(bucket, limit=100_000)
    found = []
    for entry in page.entries:
        assert isinstance(entry, VersionEntry)
        text = None
        if entry.stat is not None:
            content = await version_bytes(namespace, entry.key, entry.version_id, bucket)
            text = base64.b64encode(content).decode()
        found.append((entry.key, entry.version_id, text))
    return found


async def delete_version(namespace: Namespace, arguments: Arguments) -> object:
    await namespace.objects.delete(
        arguments["bucket"], arguments["key"], version=arguments["version"]
    )
    return None


async def kept(namespace: Namespace, arguments: Arguments) -> object:
    """How many things the store and the mount remember, by what remembers them."""
    state = namespace._state
    found = {
        "pins": len(state.pins),
        "nameless": len(state.nameless),
        "rules": len(state.rules),
        "reserved": len(state.reserved),
        "unsynced": len(state.unsynced),
        "readers": len(state.readers._active),
        "drafts": len(namespace.files._drafts._drafts),
        "directories": state.engine.read(lambda tx: len(tx.directories)),
    }
    if isinstance(state.invalidator, MountInvalidator):
        cache = state.invalidator._cache
        found["kernel inodes"] = cache.inode_count
        found["kernel directories"] = len(cache._names)
        found["kernel names"] = sum(len(names or ()) for names in cache._names.values())
        found["kernel names used up"] = NAMES_MAX - cache._names_left
    return found


async def replace_often(namespace: Namespace, arguments: Arguments) -> object:
    """PUT `count` bodies under one key, each told of by a file outside the mount once it stands."""
    told = trio.Path(arguments["told"])
    for number in range(arguments["count"]):
        await namespace.objects.put(
            "box", arguments["key"], BytesBody(b"%d" % number), ObjectMeta()
        )
        await told.write_text(str(number))
    return None


async def plant(namespace: Namespace, arguments: Arguments) -> object:
    """Make names below the bucket, (path, mode with its type, uid, gid, text), past the kernel."""
    files = namespace.files
    for path, mode, uid, gid, text in arguments["tree"]:
        above, _, name = path.rpartition("/")
        parent, caller = _at(files, above), Caller(uid=uid, gid=gid)
        if stat_module.S_ISDIR(mode):
            row = files.mkdir(parent, name.encode(), 0o700, caller)
        elif stat_module.S_ISLNK(mode):
            files.symlink(parent, name.encode(), text.encode(), caller)
            continue
        else:
            handle, row = files.create(parent, name.encode(), 0o600, os.O_WRONLY, caller)
            await handle.write(0, text.encode())
            await handle.release()
        changes = Changes(uid=uid, gid=gid, mode=stat_module.S_IMODE(mode))
        await files.change(row.id, changes)
    return None


async def set_acl(namespace: Namespace, arguments: Arguments) -> object:
    files = namespace.files
    packed = base64.b64decode(arguments["packed"])
    inode = _at(files, arguments["path"])
    files.set_acl(inode, arguments["name"].encode(), packed, clear_set_gid=False)
    return None


async def tree(namespace: Namespace, arguments: Arguments) -> object:
    """(path, mode, uid, gid, size) of all below a directory of the bucket, past the kernel."""
    files, found = namespace.files, []
    waiting = [("", _at(files, arguments["path"]))]
    while waiting:
        above, number = waiting.pop()
        handle = files.open_directory(number)
        for name, _, row in handle.page(0, 1_000):
            path = f"{above}/{name.decode()}"
            size = 0 if stat_module.S_ISDIR(row.mode) else row.size
            found.append((path, row.mode, row.uid, row.gid, size))
            if stat_module.S_ISDIR(row.mode):
                waiting.append((path, row.id))
        handle.close()
    return sorted(found)


def _at(files: Files, path: str) -> InodeId:
    number = ROOT
    for name in ("box", *path.split("/")):
        number = files.lookup(number, name.encode()).id if name else number
    return number


COMMANDS: dict[str, Callable[[Namespace, Arguments], Awaitable[object]]] = {
    command.__name__: command
    for command in (
        *(put, get, stat, delete, keys, make_bucket, replace_often),
        *(set_bucket, hold, versions, delete_version, kept, plant, set_acl, tree),
    )
}


async def answer(namespace: Namespace, line: bytes) -> dict[str, object]:
    arguments = json.loads(line)
    try:
        return {"result": await COMMANDS[arguments.pop("do")](namespace, arguments)}
    except Exception as error:
        return {"error": type(error).__name__, "text": str(error)}


async def serve_input(namespace: Namespace) -> None:
    pending = b""
    async with trio.lowlevel.FdStream(0) as stream:
        async for piece in stream:
            *lines, pending = (pending + piece).split(b"\n")
            for line in lines:
                print(json.dumps(await answer(namespace, line)), flush=True)  # noqa: T201


async def stop_at_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def main(folder: str, mountpoint: str, *settings: str) -> None:
    chosen = {name: json.loads(value) for name, value in (pair.split("=", 1) for pair in settings)}
    pretended = chosen.pop("libfuse", None)
    if pretended is not None:
        operations.libfuse_version = lambda: pretended
    if "owners" in chosen:
        chosen["owners"] = owners_of(chosen["owners"])
    options = MountOptions(path=mountpoint, **chosen)
    async with open_namespace(Path(folder)) as opened, trio.open_nursery() as nursery:
        nursery.start_soon(stop_at_signal, nursery.cancel_scope)
        await nursery.start(
            lambda task_status: serve_mount(opened.namespace, options, task_status=task_status)
        )
        print(json.dumps({"result": "mounted"}), flush=True)  # noqa: T201
        await serve_input(opened.namespace)
        nursery.cancel_scope.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    trio.run(main, *sys.argv[1:])
