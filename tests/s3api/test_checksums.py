"""Checksums: known answers, combination of parts, and the headers that promise them."""

from __future__ import annotations

import base64
import hashlib

import pytest
from botocore.httpchecksum import _CHECKSUM_CLS
from hypothesis import given
from hypothesis import strategies as st

from s3api import checksums
from s3api.checksums import ALGORITHMS, COMPOSITE, FULL_OBJECT, Algorithm
from s3api.refusals import BadDigest, InvalidDigest, InvalidRequest

# Of b"123456789", from the catalogue of parametrised CRC algorithms.
CHECK_VALUES = {
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
    "MD5": "25f9e794323b453885f5181f1b624d0b",
    "SHA1": "f7c3bc1d808e04732adf679965ccc34ca7ae3441",
}

parametrize_algorithm = pytest.mark.parametrize(
    "algorithm", ALGORITHMS.values(), ids=ALGORITHMS.keys()
)
parts = st.lists(st.binary(max_size=300), max_size=6)


@pytest.mark.parametrize(("name", "expected"), CHECK_VALUES.items())
def test_check_value_of_algorithm_is_known(name: str, expected: str) -> None:
    digest = ALGORITHMS[name].new()
    digest.update(b"12345")
    digest.update(memoryview(bytearray(b"6789")))
    assert digest.digest().hex() == expected


@parametrize_algorithm
def test_digest_equals_botocore(algorithm: Algorithm) -> None:
    theirs = _CHECKSUM_CLS.get(algorithm.name.lower())
    expected = theirs().handle(b"some bytes") if theirs else None
    if algorithm.name == "MD5":
        expected = base64.b64encode(hashlib.md5(b"some bytes").digest()).decode()
    ours = algorithm.new()
    ours.update(b"some bytes")
    assert checksums.encode(ours.digest()) == expected
    assert len(ours.digest()) == algorithm.size_bytes


@pytest.mark.parametrize("name", ["CRC32", "CRC32C", "CRC64NVME"])
@given(pieces=parts)
def test_full_object_of_parts_is_the_checksum_of_the_bytes(name: str, pieces: list[bytes]) -> None:
    algorithm = ALGORITHMS[name]
    digests = []
    for piece in pieces:
        digest = algorithm.new()
        digest.update(piece)
        digests.append((digest.digest(), len(piece)))
    whole = algorithm.new()
    whole.update(b"".join(pieces))
    assert checksums.full_object(algorithm, digests) == whole.digest()


def test_composite_is_the_digest_of_digests_and_the_count() -> None:
    algorithm = ALGORITHMS["SHA256"]
    digests = [hashlib.sha256(piece).digest() for piece in (b"a", b"b", b"c")]
    expected = base64.b64encode(hashlib.sha256(b"".join(digests)).digest()).decode() + "-3"
    assert checksums.composite(algorithm, digests) == expected


def test_full_object_of_a_hash_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        checksums.full_object(ALGORITHMS["SHA1"], [])


def test_type_of_multipart_checksum_is_checked_and_defaulted() -> None:
    assert checksums.check_type(ALGORITHMS["CRC32"], "") == COMPOSITE
    assert checksums.check_type(ALGORITHMS["CRC32"], FULL_OBJECT) == FULL_OBJECT
    assert checksums.check_type(ALGORITHMS["CRC64NVME"], "") == FULL_OBJECT
    for name, checksum_type in (("CRC64NVME", COMPOSITE), ("SHA256", FULL_OBJECT), ("CRC32", "X")):
        with pytest.raises(InvalidRequest):
            checksums.check_type(ALGORITHMS[name], checksum_type)


@parametrize_algorithm
def test_header_promises_its_algorithm(algorithm: Algorithm) -> None:
    value = base64.b64encode(bytes(algorithm.size_bytes))
    promise = checksums.parse_promise(
        {algorithm.header: value, b"x-amz-sdk-checksum-algorithm": algorithm.name.encode()}
    )
    assert promise is not None
    assert promise.algorithm is algorithm
    promise.check(bytes(algorithm.size_bytes))
    with pytest.raises(BadDigest):
        promise.check(b"\1" * algorithm.size_bytes)


def test_trailer_promises_its_algorithm_without_a_value() -> None:
    promise = checksums.parse_promise({b"x-amz-trailer": b" X-Amz-Checksum-CRC32C "})
    assert promise is not None
    assert (promise.algorithm.name, promise.expected) == ("CRC32C", None)


def test_neighbouring_headers_promise_nothing() -> None:
    headers = {
        b"x-amz-checksum-mode": b"ENABLED",
        b"x-amz-checksum-algorithm": b"CRC32",
        b"x-amz-checksum-type": b"COMPOSITE",
        b"content-type": b"a/b",
    }
    assert checksums.parse_promise(headers) is None


CRC32_ZERO = base64.b64encode(bytes(4))


@pytest.mark.parametrize(
    "headers",
    [
        {b"x-amz-checksum-crc33": CRC32_ZERO},
        {b"x-amz-checksum-crc32": CRC32_ZERO, b"x-amz-checksum-crc32c": CRC32_ZERO},
        {b"x-amz-checksum-crc32": CRC32_ZERO, b"x-amz-trailer": b"x-amz-checksum-crc32"},
        {b"x-amz-checksum-crc32": CRC32_ZERO, b"x-amz-sdk-checksum-algorithm": b"SHA1"},
        {b"x-amz-sdk-checksum-algorithm": b"SHA1"},
        {b"x-amz-trailer": b"x-amz-meta-a"},
        {b"x-amz-trailer": b"x-amz-checksum-crc32,x-amz-checksum-sha1"},
    ],
)
def test_contradictory_promise_is_refused(headers: dict[bytes, bytes]) -> None:
    with pytest.raises(InvalidRequest):
        checksums.parse_promise(headers)


@pytest.mark.parametrize(
    "value", [b"?", b"", b"bad", CRC32_ZERO + b" ", base64.b64encode(bytes(5)), b"AAAAAB=="]
)
def test_checksum_that_is_none_matches_nothing(value: bytes) -> None:
    with pytest.raises(BadDigest):
        checksums.parse_promise({b"x-amz-checksum-crc32": value})


@pytest.mark.parametrize("value", [b"", b"abc", b"?" * 24, base64.b64encode(bytes(15))])
def test_malformed_content_md5_is_refused(value: bytes) -> None:
    with pytest.raises(InvalidDigest):
        checksums.parse_content_md5({b"content-md5": value})


def test_unknown_algorithm_name_is_refused() -> None:
    assert checksums.find_algorithm("crc64nvme") is ALGORITHMS["CRC64NVME"]
    with pytest.raises(InvalidRequest):
        checksums.find_algorithm("CRC16")
