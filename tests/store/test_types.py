"""What is said of objects, as JSON and back."""

from __future__ import annotations

import pytest

from store.types import DEFAULT_META, ObjectMeta, decode_listed_meta, decode_meta, encode_meta

CRC64 = ObjectMeta(checksums={"CRC64NVME": "Qeh8oXvGiSo="})


@pytest.mark.parametrize(
    "meta",
    [
        DEFAULT_META,
        CRC64,
        ObjectMeta(checksums={"CRC32": "JRTCyQ=="}, checksum_type="COMPOSITE"),
        ObjectMeta(checksums={"CRC32C": "JRTCyQ=="}, user={"a": "1"}),
        ObjectMeta(checksums={"CRC32": "JRTCyQ==", "CRC64NVME": "Qeh8oXvGiSo="}),
        ObjectMeta(content_type="a/b", part_sizes=(1, 2), part_checksums=("x", "y")),
    ],
)
def test_a_listing_tells_all_but_the_values_of_checksums(meta: ObjectMeta) -> None:
    text = encode_meta(meta)
    assert decode_meta(text) == meta
    listed = decode_listed_meta(text)
    assert list(listed.checksums) == list(meta.checksums)
    assert (listed.checksum_type, listed.user) == (meta.checksum_type, meta.user)
    assert (listed.content_type, listed.part_sizes) == (meta.content_type, meta.part_sizes)


def test_the_commonest_kind_is_not_decoded_at_all() -> None:
    assert decode_listed_meta(encode_meta(CRC64)) is decode_listed_meta(encode_meta(CRC64))
