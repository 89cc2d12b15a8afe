"""A label says what was written, or that it is damaged."""

from __future__ import annotations

import pytest

from store.chunks.errors import LabelError
from store.chunks.label import Label, Member, decode_label, encode_label
from store.chunks.types import DriveId

LABEL = Label(
    store="0" * 32,
    drive=DriveId("1" * 32),
    epoch=3,
    parity=None,
    created="2026-01-31T12:00:00Z",
    next_segment=2049,
    members=(Member(drive=DriveId("1" * 32), path="/é"),),
)


def test_a_label_is_read_as_it_was_written() -> None:
    assert decode_label(encode_label(LABEL)) == LABEL


def test_a_label_with_any_one_bit_flipped_is_damaged() -> None:
    text = encode_label(LABEL)
    for bit in range(8 * len(text)):
        flipped = bytearray(text)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LabelError):
            decode_label(bytes(flipped))


def test_a_label_that_is_cut_anywhere_is_damaged() -> None:
    text = encode_label(LABEL).rstrip()
    for size in range(len(text)):
        with pytest.raises(LabelError):
            decode_label(text[:size])
