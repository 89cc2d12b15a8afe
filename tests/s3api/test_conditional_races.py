"""Several clients at once make one key if it isn't there: exactly one of them does.

Sockets, not SDKs: each client waits until the server asks for its body ("100 Continue"), so all of
them have been let in before any of them is done. The mount's side joins in through the namespace.
"""

from __future__ import annotations

import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import trio

from store.errors import EntryExists
from tests.s3api import raw
from tests.store.posix import CALLER

CLIENTS = 8
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# As many bytes as go to the drives, and few enough to stay in the database.
SIZES = (10, 300_000)


class Sender:
    """A PUT with If-None-Match: * whose body the server has asked for."""

    def __init__(self, endpoint, target, body):
        self.body = body
        headers = {"if-none-match": "*", "expect": "100-continue"}
        head = raw.build(endpoint, "PUT", target, headers, size=len(body))
        self.connection = socket.create_connection(("127.0.0.1", endpoint.port), timeout=30)
        self.connection.sendall(head)
        received = b""
        while len(received) < len(CONTINUE):
            received += self.connection.recv(len(CONTINUE) - len(received))
        assert received == CONTINUE

    def finish(self):
        """Send the body; the status of the answer."""
        with self.connection:
            self.connection.sendall(self.body)
            return raw.receive(self.connection).status


@pytest.fixture(params=["plain", "versioned"])
def place(request, s3, bucket):
    """A bucket of either kind."""
    if request.param == "versioned":
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    return bucket


def at_once(calls):
    """The results of all, in order; each in a thread of its own, begun together."""
    barrier = threading.Barrier(len(calls))

    def run(call):
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def body_of(s3, bucket, key="k"):
    return s3.get_object(Bucket=bucket, Key=key)["Body"].read()


def versions_of(s3, bucket):
    return s3.list_object_versions(Bucket=bucket)["Versions"]


@pytest.mark.parametrize("size", SIZES)
def test_of_many_puts_one_makes_the_key(endpoint, s3, place, size):
    bodies = [bytes([65 + number]) * size for number in range(CLIENTS)]
    senders = [Sender(endpoint, f"/{place}/k", body) for body in bodies]
    statuses = at_once([sender.finish for sender in senders])
    assert sorted(statuses) == [200] + [412] * (CLIENTS - 1)
    assert body_of(s3, place) == bodies[statuses.index(200)]
    assert len(versions_of(s3, place)) == 1


def test_of_puts_copies_and_completes_one_makes_the_key(endpoint, s3, place):
    s3.put_object(Bucket=place, Key="source", Body=b"copied")
    condition = {"if-none-match": "*"}
    calls = [Sender(endpoint, f"/{place}/k", b"put").finish for _ in range(2)]
    copied = {**condition, "x-amz-copy-source": f"/{place}/source"}
    calls += [lambda: raw.send(endpoint, "PUT", f"/{place}/k", copied).status] * 3
    for _ in range(3):
        upload_id = s3.create_multipart_upload(Bucket=place, Key="k")["UploadId"]
        part = {"Bucket": place, "Key": "k", "UploadId": upload_id, "PartNumber": 1}
        etag = s3.upload_part(Body=b"uploaded", **part)["ETag"]
        body = (
            "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
            f"<ETag>{etag}</ETag></Part></CompleteMultipartUpload>"
        ).encode()
        target = f"/{place}/k?uploadId={upload_id}"
        calls.append(
            lambda target=target, body=body: (
                raw.send(endpoint, "POST", target, condition, body).status
            )
        )
    statuses = at_once(calls)
    assert sorted(statuses) == [200] + [412] * (len(calls) - 1)
    winner = ("put", "copied", "uploaded")[(statuses.index(200) + 1) // 3]
    assert body_of(s3, place) == winner.encode()


def test_of_many_that_replace_what_they_saw_each_sees_the_one_before(endpoint, s3, place):
    """Compare and swap as table formats do it: no update is lost."""
    s3.put_object(Bucket=place, Key="k", Body=b"0")

    def add_one():
        tries = 0
        while True:
            tries += 1
            seen = raw.send(endpoint, "GET", f"/{place}/k")
            body = b"%d" % (int(seen.body) + 1)
            headers = {"if-match": seen.headers["etag"]}
            if raw.send(endpoint, "PUT", f"/{place}/k", headers, body).status == 200:
                return tries

    at_once([add_one] * CLIENTS)
    assert body_of(s3, place) == b"%d" % CLIENTS


def test_of_many_who_delete_what_they_saw_one_does(endpoint, s3, versioned):
    etag = s3.put_object(Bucket=versioned, Key="k", Body=b"x")["ETag"]
    headers = {"if-match": etag}
    calls = [lambda: raw.send(endpoint, "DELETE", f"/{versioned}/k", headers).status] * CLIENTS
    assert sorted(at_once(calls)) == [204] + [412] * (CLIENTS - 1)
    assert len(s3.list_object_versions(Bucket=versioned)["DeleteMarkers"]) == 1


def make_file(endpoint, bucket, name, body):
    """open(O_CREAT | O_EXCL), write, close, as a program on the mount does; whether it could."""

    async def make():
        files = endpoint.namespace.files
        parent = endpoint.namespace.buckets.get(bucket).id
        try:
            handle, _ = files.create(parent, name, 0o644, os.O_WRONLY | os.O_EXCL, CALLER)
        except EntryExists:
            return False
        await trio.lowlevel.checkpoint()
        await handle.write(0, body)
        await handle.flush()
        await handle.release()
        return True

    return trio.from_thread.run(make, trio_token=endpoint.token)


def test_file_made_meanwhile_keeps_its_name(endpoint, s3, place):
    sender = Sender(endpoint, f"/{place}/k", b"put")
    assert make_file(endpoint, place, b"k", b"mount")
    assert sender.finish() == 412
    assert body_of(s3, place) == b"mount"


def test_file_that_is_still_being_written_keeps_its_name(endpoint, s3, place):
    async def create():
        parent = endpoint.namespace.buckets.get(place).id
        flags = os.O_WRONLY | os.O_EXCL
        handle, _ = endpoint.namespace.files.create(parent, b"k", 0o644, flags, CALLER)
        return handle

    async def close(handle):
        await handle.write(0, b"mount")
        await handle.flush()
        await handle.release()

    sender = Sender(endpoint, f"/{place}/k", b"put")
    handle = trio.from_thread.run(create, trio_token=endpoint.token)
    try:
        assert sender.finish() == 412
    finally:
        trio.from_thread.run(close, handle, trio_token=endpoint.token)
    assert body_of(s3, place) == b"mount"


def test_key_that_was_put_meanwhile_is_there_for_the_mount(endpoint, s3, place):
    sender = Sender(endpoint, f"/{place}/k", b"put")
    assert sender.finish() == 200
    assert not make_file(endpoint, place, b"k", b"mount")
    assert body_of(s3, place) == b"put"


@pytest.mark.slow
def test_of_puts_and_the_mount_one_makes_each_key(endpoint, s3, place):
    for number in range(20):
        name = f"k{number}"
        senders = [Sender(endpoint, f"/{place}/{name}", b"put") for _ in range(3)]
        calls = [sender.finish for sender in senders]
        made = [lambda name=name: make_file(endpoint, place, name.encode(), b"mount")] * 2
        outcomes = at_once(made + calls)
        winners = [outcome for outcome in outcomes if outcome in (True, 200)]
        assert len(winners) == 1, outcomes
        expected = b"mount" if winners[0] is True else b"put"
        assert body_of(s3, place, name) == expected
