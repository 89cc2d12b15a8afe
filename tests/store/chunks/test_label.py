"""A label says what was written, or that it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from store.chunks.errors import LabelError
from store.chunks.label import (
    Label,
    Member,
    decode_label,
    encode_label,
    format_drives,
    is_emptied,
    prepare_folder,
)
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


def test_a_folder_that_a_power_cut_kept_from_its_label_is_an_empty_drive(tmp_path: Path) -> None:
    other, path = tmp_path / "other", tmp_path / "drive"
    format_drives([other])
    prepare_folder(path)
    assert is_emptied(path, [other])
    (path / "twofold" / "label.new").write_bytes(b'{"checks')
    assert is_emptied(path, [other])
    (path / "twofold" / "label").write_bytes(b'{"checks')
    assert not is_emptied(path, [other]), "a label that can't be read may be of a drive with bytes"
