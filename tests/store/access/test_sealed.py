"""Secrets at rest: they open for their owner, under a key of the ring, and only whole."""

from __future__ import annotations

import pickle

import pytest

from store.access.errors import SealBroken
from store.access.sealed import (
    OVERHEAD_BYTES,
    BadMasterKey,
    Keyring,
    Secret,
    master_key,
    new_master_key,
    parse_keyring,
    reseal,
    seal,
    sealed_under,
    unseal,
)

PURPOSE, OWNER = "access key", "AKIA1"
SECRET = Secret(b"wJalrXUtnFEMI")


def ring(*texts: str) -> Keyring:
    return parse_keyring("\n".join(texts or [new_master_key()]))


def open_for_owner(keyring: Keyring, sealed: bytes) -> bytes:
    return unseal(keyring, sealed, purpose=PURPOSE, owner=OWNER).reveal()


@pytest.mark.parametrize("size", [0, 1, 40, 64 * 1024])
def test_what_is_sealed_opens(size: int) -> None:
    keyring, value = ring(), bytes(range(256)) * 256
    sealed = seal(keyring, Secret(value[:size]), purpose=PURPOSE, owner=OWNER)
    assert len(sealed) == size + OVERHEAD_BYTES and open_for_owner(keyring, sealed) == value[:size]


def test_sealing_twice_gives_two_texts_and_neither_shows_the_secret() -> None:
    keyring = ring()
    first, second = (seal(keyring, SECRET, purpose=PURPOSE, owner=OWNER) for _ in range(2))
    assert first[9:] != second[9:] and SECRET.reveal() not in first


def test_another_owner_or_purpose_does_not_open_it() -> None:
    keyring = ring()
    sealed = seal(keyring, SECRET, purpose=PURPOSE, owner=OWNER)
    for purpose, owner in ((PURPOSE, "AKIA2"), ("object key", OWNER), (PURPOSE + "A", "KIA1")):
        with pytest.raises(SealBroken, match="another owner"):
            unseal(keyring, sealed, purpose=purpose, owner=owner)


def test_every_changed_bit_breaks_the_seal() -> None:
    keyring = ring()
    sealed = seal(keyring, SECRET, purpose=PURPOSE, owner=OWNER)
    for index in range(len(sealed)):
        changed = bytearray(sealed)
        changed[index] ^= 1
        with pytest.raises(SealBroken):
            open_for_owner(keyring, bytes(changed))


def test_every_shorter_piece_is_broken() -> None:
    keyring = ring()
    sealed = seal(keyring, SECRET, purpose=PURPOSE, owner=OWNER)
    for length in range(len(sealed)):
        with pytest.raises(SealBroken):
            open_for_owner(keyring, sealed[:length])


def test_without_its_master_key_nothing_opens() -> None:
    sealed = seal(ring(), SECRET, purpose=PURPOSE, owner=OWNER)
    with pytest.raises(SealBroken, match="master key of this secret"):
        open_for_owner(ring(), sealed)


def test_a_rotation_can_be_interrupted_anywhere() -> None:
    old, new = new_master_key(), new_master_key()
    sealed = [seal(ring(old), SECRET, purpose=PURPOSE, owner=OWNER) for _ in range(3)]
    both = ring(new, old)
    for index in range(3):
        assert all(open_for_owner(both, each) == SECRET.reveal() for each in sealed)
        again = reseal(both, sealed[index], purpose=PURPOSE, owner=OWNER)
        assert again is not None and sealed_under(again) == both.current.id
        sealed[index] = again
        assert reseal(both, again, purpose=PURPOSE, owner=OWNER) is None
    assert all(open_for_owner(ring(new), each) == SECRET.reveal() for each in sealed)


def test_a_key_file_has_keys_in_base64_or_hex_and_comments() -> None:
    text = new_master_key()
    raw = parse_keyring(text).current.key.reveal()
    keyring = parse_keyring(f"# of 2026\n\n  {new_master_key()}\n{raw.hex()}\n")
    assert len(keyring.keys) == 2 and keyring.keys[1] == master_key(raw)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "no master key"),
        ("# only this\n", "no master key"),
        ("changeme", "line 1: a master key"),
        ("A" * 44, "base64 or hex|32 bytes"),
        ("00" * 32, "not random"),
        ("zz" * 32, "base64 or hex"),
        ("AAAA", "32 bytes, not 3"),
    ],
)
def test_what_is_no_master_key_is_refused_and_not_repeated(text: str, word: str) -> None:
    with pytest.raises(BadMasterKey, match=word) as refused:
        parse_keyring(text)
    assert len(text) < 5 or text.strip() not in str(refused.value)


def test_a_key_that_is_there_twice_is_refused() -> None:
    text = new_master_key()
    with pytest.raises(BadMasterKey, match=r"line 2: .* twice"):
        parse_keyring(f"{text}\n{text}")


def test_a_secret_keeps_to_itself() -> None:
    keyring = ring()
    value = keyring.current.key.reveal()
    shown = repr(keyring) + repr(SECRET) + str(SECRET) + f"{SECRET}"
    assert "wJalr" not in shown and repr(value)[2:-1] not in shown
    assert Secret(b"a") == Secret(b"a") != Secret(b"b")
    assert Secret(b"a") != b"a"
    with pytest.raises(TypeError):
        pickle.dumps(SECRET)
    with pytest.raises(TypeError):
        hash(SECRET)
