"""aws-chunked bodies: every mode decodes under any split, every flaw is refused."""

from __future__ import annotations

import hashlib
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s3api import signing
from s3api.chunked import SIGNED_CHUNK_SIZE_MAX_BYTES, AwsChunkedDecoder
from s3api.claims import PayloadMode
from s3api.refusals import (
    IncompleteBody,
    InvalidChunkSize,
    InvalidRequest,
    MalformedTrailer,
    Refusal,
    SignatureDoesNotMatch,
)
from tests.s3api.chunked_bodies import context, encode

CHUNKS = [b"a" * 300, b"b" * 5, b"c"]
PAYLOAD = b"".join(CHUNKS)
TRAILER = (b"x-amz-checksum-crc32", b"AAAAAA==")
SIGNED = PayloadMode.STREAMING
SIGNED_TRAILER = PayloadMode.STREAMING_TRAILER
UNSIGNED_TRAILER = PayloadMode.STREAMING_UNSIGNED_TRAILER
MODES = [SIGNED, SIGNED_TRAILER, UNSIGNED_TRAILER]
parametrize_mode = pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)


def decoder_for(mode: PayloadMode, size_bytes: int = len(PAYLOAD)) -> AwsChunkedDecoder:
    name = None if mode is SIGNED else TRAILER[0]
    return AwsChunkedDecoder(context(mode), size_bytes=size_bytes, trailer_name=name)


def body_of(mode: PayloadMode, *, like_minio: bool = False) -> bytes:
    trailer = None if mode is SIGNED else TRAILER
    return encode(context(mode), CHUNKS, trailer, like_minio=like_minio)


def decode(decoder: AwsChunkedDecoder, pieces: list[bytes]) -> bytes:
    payload = b"".join(bytes(view) for piece in pieces for view in decoder.feed(piece))
    decoder.finish()
    return payload


@parametrize_mode
@pytest.mark.parametrize("like_minio", [False, True])
@given(cuts=st.lists(st.integers(0, 1100), max_size=12))
def test_any_split_gives_the_payload_and_the_trailer(
    mode: PayloadMode, like_minio: bool, cuts: list[int]
) -> None:
    body = body_of(mode, like_minio=like_minio)
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[a:b] for a, b in itertools.pairwise(edges)]
    decoder = decoder_for(mode)
    assert decode(decoder, pieces) == PAYLOAD
    assert decoder.trailer == (None if mode is SIGNED else TRAILER[1])


@parametrize_mode
def test_byte_by_byte_gives_the_payload(mode: PayloadMode) -> None:
    assert decode(decoder_for(mode), [bytes([byte]) for byte in body_of(mode)]) == PAYLOAD


@parametrize_mode
def test_empty_payload_is_only_the_last_chunk(mode: PayloadMode) -> None:
    body = encode(context(mode), [], None if mode is SIGNED else TRAILER)
    assert decode(decoder_for(mode, 0), [body]) == b""


@parametrize_mode
def test_truncation_at_every_byte_is_refused(mode: PayloadMode) -> None:
    body = body_of(mode)
    for stop in range(len(body)):
        with pytest.raises(IncompleteBody):
            decode(decoder_for(mode), [body[:stop]])


@pytest.mark.parametrize("mode", [SIGNED, SIGNED_TRAILER], ids=lambda mode: mode.name)
def test_flip_of_any_byte_of_a_signed_body_is_refused(mode: PayloadMode) -> None:
    body = body_of(mode)
    for index in range(len(body)):
        flipped = bytearray(body)
        flipped[index] ^= 1
        with pytest.raises(Refusal):
            assert decode(decoder_for(mode), [bytes(flipped)]) == PAYLOAD


@pytest.mark.parametrize("size_bytes", [0, len(PAYLOAD) - 1])
@parametrize_mode
def test_more_than_the_decoded_length_is_never_given_out(
    mode: PayloadMode, size_bytes: int
) -> None:
    decoder = decoder_for(mode, size_bytes)
    given: list[memoryview] = []

    def feed_all() -> None:
        for byte in body_of(mode):
            given.extend(decoder.feed(bytes([byte])))

    with pytest.raises(IncompleteBody):
        feed_all()
    assert sum(map(len, given)) <= size_bytes


@parametrize_mode
def test_less_than_the_decoded_length_is_refused(mode: PayloadMode) -> None:
    with pytest.raises(IncompleteBody):
        decode(decoder_for(mode, len(PAYLOAD) + 1), [body_of(mode)])


MALFORMED: list[tuple[str, bytes, type[Refusal]]] = [
    ("negative size", b"-1\r\n", InvalidRequest),
    ("signed size", b"+5\r\nhello\r\n", InvalidRequest),
    ("0x size", b"0x5\r\nhello\r\n", InvalidRequest),
    ("spaced size", b" 5\r\nhello\r\n", InvalidRequest),
    ("underscored size", b"1_0\r\n", InvalidRequest),
    ("empty size", b"\r\n", InvalidRequest),
    ("size overflow", b"f" * 17 + b"\r\n", InvalidRequest),
    ("huge size", b"f" * 16 + b"\r\n", IncompleteBody),
    ("over-long size line", b"5" + b" " * 5000, InvalidRequest),
    ("LF after size", b"5\nhello\r\n", InvalidRequest),
    ("no CRLF after chunk", b"5\r\nhello0\r\n\r\n", InvalidRequest),
    ("LF after chunk", b"5\r\nhello\n0\r\n\r\n", InvalidRequest),
    ("CR without LF", b"5\r\nhello\rX", InvalidRequest),
    ("chunk too long", b"5\r\nhello world", InvalidRequest),
    ("extension", b"5;a=b\r\nhello\r\n", InvalidRequest),
    ("undeclared trailer", b"0\r\nx-amz-checksum-sha1:a\r\n\r\n", MalformedTrailer),
    ("trailer without colon", b"0\r\nx-amz-checksum-crc32\r\n\r\n", MalformedTrailer),
    ("trailer twice", b"0\r\n" + b"x-amz-checksum-crc32:a\r\n" * 2 + b"\r\n", MalformedTrailer),
    ("missing trailer", b"0\r\n\r\n", MalformedTrailer),
    ("CR in trailer", b"0\r\nx-amz-checksum-crc32:a\rb\r\n\r\n", MalformedTrailer),
    ("many trailers", b"0\r\n" + b"\r\n" * 20, MalformedTrailer),
    ("signature in unsigned", b"0\r\nx-amz-trailer-signature:a\r\n", MalformedTrailer),
    ("after the end", b"0\r\nx-amz-checksum-crc32:a\r\n\r\nGET / HTTP/1.1", InvalidRequest),
    ("CRLFs after the end", b"0\r\nx-amz-checksum-crc32:a\r\n\r\n\r\n\r\n", InvalidRequest),
]


@pytest.mark.parametrize(("what", "body", "refusal"), MALFORMED, ids=[row[0] for row in MALFORMED])
@pytest.mark.parametrize("split", [False, True])
def test_malformed_unsigned_body_is_refused(
    what: str, body: bytes, refusal: type[Refusal], split: bool
) -> None:
    pieces = [bytes([byte]) for byte in body] if split else [body]
    with pytest.raises(refusal):
        decode(decoder_for(UNSIGNED_TRAILER, 100), pieces)


def test_signed_chunk_without_signature_is_refused() -> None:
    for line in (b"5\r\n", b"5;chunk-signature=abc\r\n", b"5;sig=" + b"0" * 64 + b"\r\n"):
        with pytest.raises(InvalidRequest):
            decoder_for(SIGNED).feed(line)


def test_signed_chunk_beyond_16_mib_is_refused() -> None:
    size_bytes = SIGNED_CHUNK_SIZE_MAX_BYTES + 1
    line = b"%x;chunk-signature=%b\r\n" % (size_bytes, b"0" * 64)
    with pytest.raises(InvalidChunkSize):
        decoder_for(SIGNED, size_bytes).feed(line)


def test_chunks_in_another_order_are_refused() -> None:
    body = encode(context(SIGNED), [b"one", b"two"])
    line = len(b"3;chunk-signature=") + 64 + 2 + 3 + 2
    swapped = body[line : 2 * line] + body[:line] + body[2 * line :]
    with pytest.raises(SignatureDoesNotMatch):
        decode(decoder_for(SIGNED, 6), [swapped])


def test_trailer_without_its_signature_is_refused() -> None:
    body = body_of(SIGNED_TRAILER)
    stop = body.index(b"x-amz-trailer-signature")
    with pytest.raises(Refusal):
        decode(decoder_for(SIGNED_TRAILER), [body[:stop] + b"\r\n"])


def test_trailer_with_another_value_is_refused() -> None:
    body = body_of(SIGNED_TRAILER).replace(b"AAAAAA==", b"AAAAAQ==")
    with pytest.raises(SignatureDoesNotMatch):
        decode(decoder_for(SIGNED_TRAILER), [body])


def test_trailer_where_none_may_be_is_refused() -> None:
    body = encode(context(SIGNED), CHUNKS)
    with pytest.raises(MalformedTrailer):
        decode(decoder_for(SIGNED), [body[:-2] + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"])


def test_signatures_are_those_of_the_documented_example() -> None:
    # Amazon S3 API reference, "sigv4-streaming", example of a 66,560 byte upload.
    key = signing.signing_key("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "20130524", "us-east-1")
    proof = signing.chunk_signature(
        key,
        "20130524T000000Z",
        "20130524/us-east-1/s3/aws4_request",
        "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
        hashlib.sha256(b"a" * 65536).hexdigest(),
    )
    assert proof == "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"
