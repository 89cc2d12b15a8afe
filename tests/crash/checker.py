"""Drive a daemon hard, kill it, and compare what it kept with what it had promised.

    checker = Checker(harness, seed=1)
    checker.load(0.5)           # both doors at once, then SIGKILL in the middle
    harness.start()
    checker.verify()            # raises AssertionError with every broken promise

The promises: whatever was acknowledged is there, whole, through both doors; the operation that
was not is either seen whole or not at all; both doors list the same names and no others; no
upload is left that nobody began.
Concurrency: workers are threads of the test; `verify` runs while they are all ended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import botocore.exceptions

from tests.crash.content import Content
from tests.crash.ledger import UNPUBLISHED, State
from tests.crash.workers import BUCKET, Worker
from tests.daemon.harness import DaemonHarness

JOIN_WITHIN_S = 30.0
_READERS = 4


class Key(NamedTuple):
    """What a listing says of an object."""

    size: int
    etag: str


class Checker:
    """seed: draws the operations. workers: half of them use S3 only. See the module's text."""

    def __init__(self, harness: DaemonHarness, *, seed: int, workers: int = 6) -> None:
        self._harness = harness
        # No retries: an operation happens once, or the ledger could not tell what to expect.
        self._client = harness.client(
            retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60
        )
        self._client.create_bucket(Bucket=BUCKET)
        self._folder = harness.mount / BUCKET if harness.is_mounted() else None
        self.workers = []
        for number in range(workers):
            folder = None
            if self._folder is not None and number % 2 == 0:
                folder = self._folder / f"w{number}"
                folder.mkdir()
            self.workers.append(Worker(number, seed, self._client, folder))

    @property
    def acknowledged_count(self) -> int:
        """Operations that were answered so far."""
        return sum(worker.ledger.acknowledged_count for worker in self.workers)

    def load(
        self, seconds: float, *, kill: bool = True, end: Callable[[], None] | None = None
    ) -> None:
        """Let all workers run for a while, then kill the daemon in the middle.

        end: how to end the daemon instead. With neither, workers end their last operations.
        Raises AssertionError when one met an error while the daemon was alive, or does not come
        back from its last call.
        """
        ending = threading.Event()
        threads = [
            threading.Thread(target=worker.run, args=(ending,), name=worker.prefix, daemon=True)
            for worker in self.workers
        ]
        for thread in threads:
            thread.start()
        time.sleep(seconds)
        ending.set()
        if end is not None:
            end()
        elif kill:
            self._harness.kill()
        deadline = time.monotonic() + JOIN_WITHIN_S
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        stuck = [thread.name for thread in threads if thread.is_alive()]
        assert not stuck, f"still waiting for the daemon: {stuck}"
        for worker in self.workers:
            if worker.failure is not None:
                raise AssertionError(
                    f"{worker.prefix} failed:\n{self._harness.log_tail()}"
                ) from worker.failure

    def verify(self, *, everything: bool = False) -> None:
        """Compare all names, sizes and ETags, and the bytes of what changed since last time.

        everything: all bytes. Raises AssertionError.
        """
        keys, files = self._listed(), self._walked()
        faults = []
        for worker in self.workers:
            fault = worker.ledger.settle(lambda name, state: self._fault(name, state, keys, files))
            if fault is not None:
                faults.append(f"half-done: {fault}")
        expected = {
            name: state for worker in self.workers for name, state in worker.ledger.names.items()
        }
        faults += [f"{name}: is there and should not be" for name in {*keys, *files} - {*expected}]
        touched = {name for worker in self.workers for name in worker.ledger.touched}
        names = sorted(expected if everything else touched & expected.keys())
        for name in expected.keys() - set(names):
            fault = self._listing_fault(name, expected[name], keys, files)
            if fault is not None:
                faults.append(f"{name}: {fault}")
        with ThreadPoolExecutor(_READERS) as pool:
            found = pool.map(lambda name: self._fault(name, expected[name], keys, files), names)
            faults += [f"{name}: {why}" for name, why in zip(names, found, strict=True) if why]
        faults += self._end_uploads()
        assert not faults, "\n".join([*faults, "", self._harness.log_tail()])
        for worker in self.workers:
            worker.ledger.touched.clear()

    def delete_everything(self) -> None:
        """Empty the bucket: keys through S3, files that S3 doesn't know through the mount.

        Directories that the mount made stay.
        """
        for key in self._listed():
            self._client.delete_object(Bucket=BUCKET, Key=key)
        states = {n: state for worker in self.workers for n, state in worker.ledger.names.items()}
        for name in self._walked():
            assert states[name] is UNPUBLISHED, f"{name}: still on the mount"
            os.unlink(self._paths()[name])

    # -- looking at one name -----------------------------------------------------------

    def _fault(
        self, name: str, state: State, keys: dict[str, Key], files: dict[str, int]
    ) -> str | None:
        """How what both doors show differs from `state`, bytes included."""
        fault = self._listing_fault(name, state, keys, files)
        if fault is not None:
            return fault
        if not isinstance(state, Content):
            return self._presence_fault(name)
        answer = self._client.get_object(Bucket=BUCKET, Key=name)
        fault = state.etag_fault(answer["ETag"].strip('"'))
        fault = fault or state.fault([answer["Body"].read()])
        if fault is not None:
            return f"GET: {fault}"
        if self._folder is not None:
            fault = state.fault([(self._folder / name).read_bytes()])
        return None if fault is None else f"mount: {fault}"

    def _listing_fault(
        self, name: str, state: State, keys: dict[str, Key], files: dict[str, int]
    ) -> str | None:
        key, size = keys.get(name), files.get(name)
        if not isinstance(state, Content):
            if key is not None:
                return f"listed with {key.size} bytes instead of {state.value}"
            wanted = 0 if state is UNPUBLISHED else None
            if self._folder is not None and size != wanted:
                return f"{size} bytes on the mount instead of {state.value}"
            return None
        if key is None:
            return f"not listed, should have {state.size} bytes"
        if key.size != state.size:
            return f"listed with {key.size} bytes instead of {state.size}"
        if self._folder is not None and size != state.size:
            return f"{size} bytes on the mount instead of {state.size}"
        return state.etag_fault(key.etag)

    def _presence_fault(self, name: str) -> str | None:
        try:
            self._client.head_object(Bucket=BUCKET, Key=name)
        except botocore.exceptions.ClientError as error:
            status = error.response["ResponseMetadata"]["HTTPStatusCode"]
            return None if status == 404 else f"HEAD: {status} instead of 404"
        return "HEAD finds what should not be there"

    # -- looking at all of them --------------------------------------------------------

    def _listed(self) -> dict[str, Key]:
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, MaxKeys=50)
        rows = [row for page in pages for row in page.get("Contents", [])]
        names = [row["Key"] for row in rows]
        assert names == sorted(names, key=str.encode), "the listing is out of order"
        return {row["Key"]: Key(row["Size"], row["ETag"].strip('"')) for row in rows}

    def _walked(self) -> dict[str, int]:
        """Size of every file on the mount, by its key."""
        return {
            name: path.stat().st_size for name, path in self._paths().items() if not path.is_dir()
        }

    def _paths(self) -> dict[str, Path]:
        found: dict[str, Path] = {}
        if self._folder is not None:
            for folder, folders, names in os.walk(self._folder):
                for name in (*folders, *names):
                    path = Path(folder, name)
                    found[str(path.relative_to(self._folder))] = path
        return found

    def _end_uploads(self) -> list[str]:
        """Abort what crashes left open; each worker may have begun one we know no id of."""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)
        uploads = [row for page in pages for row in page.get("Uploads", [])]
        faults = []
        for worker in self.workers:
            own = [row for row in uploads if row["Key"].startswith(worker.prefix)]
            unknown = [row for row in own if row["UploadId"] not in worker.ledger.uploads]
            if len(unknown) > 1:
                faults.append(f"{worker.prefix}: {len(unknown)} uploads nobody began")
            worker.ledger.uploads.clear()
        for row in uploads:
            target: dict[str, Any] = {"Bucket": BUCKET, "Key": row["Key"]}
            self._client.abort_multipart_upload(**target, UploadId=row["UploadId"])
        return faults
