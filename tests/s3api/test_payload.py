"""Payloads: each promise about a body is checked, in one go, in stripes, and in threads."""

from __future__ import annotations

import base64
import hashlib
import zlib
from dataclasses import replace

import pytest
import trio

from s3api.checksums import DEFAULT
from s3api.claims import AuthContext, PayloadMode
from s3api.httpstream import (
    AsgiStream,
    BodyMalformed,
    BodyStalled,
    ClientDisconnected,
    Header,
)
from s3api.payload import Payload, open_payload
from s3api.refusals import (
    BadDigest,
    EntityTooLarge,
    IncompleteBody,
    InvalidArgument,
    InvalidRequest,
    MissingContentLength,
    Refusal,
    RequestTimeout,
    SignatureDoesNotMatch,
    XAmzContentSHA256Mismatch,
)
from tests.s3api.chunked_bodies import context, encode

BODY = bytes(range(256)) * 40
MD5 = base64.b64encode(hashlib.md5(BODY).digest())
SHA256 = hashlib.sha256(BODY).hexdigest()
CRC32 = base64.b64encode(zlib.crc32(BODY).to_bytes(4, "big"))
UNSIGNED = AuthContext(access_key="AKID")
HASHED = replace(UNSIGNED, payload_mode=PayloadMode.HASHED, payload_sha256=SHA256)


class SlicedStream(AsgiStream):
    """A stream that receives `body` in slices, and then `failure` if there is one."""

    def __init__(
        self,
        body: bytes,
        headers: list[Header],
        *,
        slice_size: int = 1000,
        failure: Exception | None = None,
        chunked: bool = False,
    ) -> None:
        slices = [body[at : at + slice_size] for at in range(0, len(body), slice_size)]

        async def receive() -> dict[str, object]:
            await trio.lowlevel.checkpoint()
            if slices:
                return {"type": "http.request", "body": slices.pop(0), "more_body": True}
            if failure is not None:
                raise failure
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: dict[str, object]) -> None:
            raise AssertionError(message)

        framing = (
            (b"transfer-encoding", b"chunked")
            if chunked
            else (b"content-length", b"%d" % len(body))
        )
        scope = {
            "method": "PUT",
            "raw_path": b"/b/k",
            "query_string": b"",
            "headers": [*headers, framing],
        }
        super().__init__(scope, receive, send)


def open_for(body: bytes, *headers: Header, auth: AuthContext = UNSIGNED) -> Payload:
    return open_payload(SlicedStream(body, list(headers)), auth)


PROMISES: list[tuple[list[Header], AuthContext]] = [
    ([], UNSIGNED),
    ([(b"content-md5", MD5)], UNSIGNED),
    ([(b"x-amz-checksum-crc32", CRC32)], UNSIGNED),
    ([(b"x-amz-checksum-crc32", CRC32), (b"content-md5", MD5)], HASHED),
    ([(b"x-amz-checksum-sha256", base64.b64encode(bytes.fromhex(SHA256)))], HASHED),
    ([(b"x-amz-checksum-md5", MD5)], HASHED),
]


@pytest.mark.parametrize(("headers", "auth"), PROMISES)
async def test_kept_promises_are_verified(headers: list[Header], auth: AuthContext) -> None:
    payload = open_for(BODY, *headers, auth=auth)
    assert await payload.read(len(BODY)) == BODY
    proof = payload.verify()
    assert proof.size_bytes == len(BODY)
    assert base64.b64encode(proof.md5) == MD5
    if headers and headers[0][0].startswith(b"x-amz-checksum"):
        name = headers[0][0].rpartition(b"-")[2].decode().upper()
        assert proof.checksums == {name: headers[0][1].decode()}
    else:
        assert proof.checksums == {}


BROKEN: list[tuple[list[Header], AuthContext, type[Refusal]]] = [
    ([(b"content-md5", MD5)], UNSIGNED, BadDigest),
    ([(b"x-amz-checksum-crc32", CRC32)], UNSIGNED, BadDigest),
    ([(b"x-amz-checksum-md5", MD5)], UNSIGNED, BadDigest),
    ([], HASHED, XAmzContentSHA256Mismatch),
]


@pytest.mark.parametrize(("headers", "auth", "refusal"), BROKEN)
@pytest.mark.parametrize("in_stripes", [False, True])
async def test_broken_promise_is_refused(
    headers: list[Header], auth: AuthContext, refusal: type[Refusal], in_stripes: bool
) -> None:
    payload = open_for(BODY[:-1] + b"\0", *headers, auth=auth)
    if in_stripes:
        await fill_stripes(payload, 4096)
    else:
        await payload.read(len(BODY))
    with pytest.raises(refusal):
        payload.verify()


async def fill_stripes(payload: Payload, stripe_size: int) -> bytes:
    stripe = memoryview(bytearray(stripe_size))
    received = b""
    while count := await payload.fill(stripe):
        received += stripe[:count]
        await trio.to_thread.run_sync(payload.digest, stripe[:count])
    return received


@pytest.mark.parametrize("stripe_size", [1, 999, 1000, 4096, len(BODY), len(BODY) + 1])
async def test_stripes_of_any_size_hold_the_body(stripe_size: int) -> None:
    body = BODY[: 4 * stripe_size + 3]
    payload = open_for(body)
    assert await fill_stripes(payload, stripe_size) == body
    assert payload.verify().md5 == hashlib.md5(body).digest()


async def test_verify_refuses_what_was_not_digested() -> None:
    payload = open_for(BODY)
    await payload.fill(memoryview(bytearray(len(BODY))))
    with pytest.raises(RuntimeError):
        payload.verify()


@pytest.mark.parametrize("auth", [UNSIGNED, context(PayloadMode.STREAMING)])
async def test_verify_refuses_what_was_not_received(auth: AuthContext) -> None:
    body = BODY if auth is UNSIGNED else encode(auth, [BODY])
    payload = open_for(body, (b"x-amz-decoded-content-length", b"%d" % len(BODY)), auth=auth)
    stripe = memoryview(bytearray(100))
    payload.digest(stripe[: await payload.fill(stripe)])
    with pytest.raises(IncompleteBody):
        payload.verify()


STREAMING = [
    PayloadMode.STREAMING,
    PayloadMode.STREAMING_TRAILER,
    PayloadMode.STREAMING_UNSIGNED_TRAILER,
]


def chunked(mode: PayloadMode, value: bytes = CRC32, size: int = len(BODY)) -> Payload:
    headers: list[Header] = [(b"x-amz-decoded-content-length", b"%d" % size)]
    trailer = None
    if mode is not PayloadMode.STREAMING:
        headers.append((b"x-amz-trailer", b"x-amz-checksum-crc32"))
        trailer = (b"x-amz-checksum-crc32", value)
    body = encode(context(mode), [BODY[:5000], BODY[5000:]], trailer)
    return open_payload(SlicedStream(body, headers, chunked=True), context(mode))


@pytest.mark.parametrize("mode", STREAMING, ids=lambda mode: mode.name)
@pytest.mark.parametrize("stripe_size", [4096, len(BODY), 2 * len(BODY)])
async def test_chunked_payload_is_unframed_and_verified(
    mode: PayloadMode, stripe_size: int
) -> None:
    payload = chunked(mode)
    assert payload.size_bytes == len(BODY)
    assert await fill_stripes(payload, stripe_size) == BODY
    proof = payload.verify()
    if mode is not PayloadMode.STREAMING:
        assert proof.checksums == {"CRC32": CRC32.decode()}


@pytest.mark.parametrize("mode", STREAMING[1:], ids=lambda mode: mode.name)
async def test_trailer_with_wrong_checksum_is_refused(mode: PayloadMode) -> None:
    payload = chunked(mode, base64.b64encode(bytes(4)))
    assert await payload.read(len(BODY)) == BODY
    with pytest.raises(BadDigest):
        payload.verify()


@pytest.mark.parametrize("mode", STREAMING[1:], ids=lambda mode: mode.name)
async def test_trailer_that_is_no_checksum_is_refused(mode: PayloadMode) -> None:
    payload = chunked(mode, b"?")
    await payload.read(len(BODY))
    with pytest.raises(BadDigest):
        payload.verify()


async def test_stopping_at_the_size_still_checks_the_end() -> None:
    auth = context(PayloadMode.STREAMING)
    body = bytearray(encode(auth, [BODY]))
    # Another digit within the last chunk's signature.
    body[-40] = ord("1") if body[-40] == ord("0") else ord("0")
    payload = open_for(bytes(body), (b"x-amz-decoded-content-length", b"%d" % len(BODY)), auth=auth)
    with pytest.raises(SignatureDoesNotMatch):
        await payload.fill(memoryview(bytearray(len(BODY))))


async def test_payload_beyond_the_limit_is_refused_before_it_is_received() -> None:
    with pytest.raises(EntityTooLarge):
        await open_for(BODY).read(len(BODY) - 1)
    unknown = open_payload(SlicedStream(BODY, [], chunked=True), UNSIGNED, size_required=False)
    with pytest.raises(EntityTooLarge):
        await unknown.read(len(BODY) - 1)


async def test_payload_of_unknown_size_ends_where_the_body_ends() -> None:
    payload = open_payload(SlicedStream(BODY, [], chunked=True), UNSIGNED, size_required=False)
    assert payload.size_bytes is None
    assert await fill_stripes(payload, 4096) == BODY
    assert payload.verify().size_bytes == len(BODY)
    with pytest.raises(MissingContentLength):
        open_payload(SlicedStream(BODY, [], chunked=True), UNSIGNED)


@pytest.mark.parametrize(
    ("failure", "refusal"),
    [
        (ClientDisconnected(), IncompleteBody),
        (BodyStalled(), RequestTimeout),
        (BodyMalformed(), InvalidRequest),
    ],
)
@pytest.mark.parametrize("auth", [UNSIGNED, context(PayloadMode.STREAMING)])
async def test_failing_stream_is_a_refusal(
    failure: Exception, refusal: type[Refusal], auth: AuthContext
) -> None:
    headers = [(b"x-amz-decoded-content-length", b"%d" % len(BODY))]

    def open_failing() -> Payload:
        stream = SlicedStream(b"", headers, failure=failure, chunked=True)
        return open_payload(stream, auth, size_required=False)

    with pytest.raises(refusal):
        await open_failing().fill(memoryview(bytearray(len(BODY))))
    with pytest.raises(refusal):
        await open_failing().read(len(BODY))


@pytest.mark.parametrize(
    ("headers", "auth", "refusal"),
    [
        ([], context(PayloadMode.STREAMING), MissingContentLength),
        ([(b"x-amz-decoded-content-length", b"-1")], context(STREAMING[0]), InvalidArgument),
        ([(b"x-amz-decoded-content-length", b"1e3")], context(STREAMING[0]), InvalidArgument),
        ([(b"x-amz-trailer", b"x-amz-checksum-crc32")], UNSIGNED, InvalidRequest),
    ],
)
def test_headers_that_contradict_the_mode_are_refused(
    headers: list[Header], auth: AuthContext, refusal: type[Refusal]
) -> None:
    with pytest.raises(refusal):
        open_for(BODY, *headers, auth=auth)


@pytest.mark.parametrize(
    ("headers", "always", "names"),
    [
        ([], False, ["CRC64NVME"]),
        ([(b"x-amz-checksum-crc32", CRC32)], False, ["CRC32"]),
        ([(b"x-amz-checksum-crc32", CRC32)], True, ["CRC32", "CRC64NVME"]),
    ],
)
async def test_default_checksum_is_computed_if_nothing_was_promised_or_always(
    headers: list[Header], always: bool, names: list[str]
) -> None:
    payload = open_payload(SlicedStream(BODY, headers), UNSIGNED, default=DEFAULT, always=always)
    await payload.read(len(BODY))
    assert list(payload.verify().checksums) == names
