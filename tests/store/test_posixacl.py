"""POSIX ACLs as values: their bytes, and what they have to do with mode bits."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import errors, posixacl
from store.posixacl import GROUP, MASK, NOBODY, OTHERS, OWNER, OWNING_GROUP, USER, Acl, Entry

rights = st.integers(0, 7)
ids = st.sets(st.integers(0, 2**32 - 2), max_size=4)
modes = st.integers(0, 0o7777)


@st.composite
def acls(draw: st.DrawFn) -> Acl:
    users = [Entry(USER, draw(rights), each) for each in sorted(draw(ids))]
    groups = [Entry(GROUP, draw(rights), each) for each in sorted(draw(ids))]
    masked = bool(users or groups) or draw(st.booleans())
    return (
        Entry(OWNER, draw(rights)),
        *users,
        Entry(OWNING_GROUP, draw(rights)),
        *groups,
        *([Entry(MASK, draw(rights))] if masked else []),
        Entry(OTHERS, draw(rights)),
    )


def effective(acl: Acl) -> dict[tuple[int, int], int]:
    """What each entry really allows: all but owner and others are cut by the mask."""
    mask = next((each.rights for each in acl if each.tag == MASK), 7)
    return {
        (each.tag, each.id): each.rights & (7 if each.tag in (OWNER, OTHERS) else mask)
        for each in acl
    }


@given(acls())
def test_what_is_packed_is_parsed_again(acl: Acl) -> None:
    assert posixacl.parse(posixacl.pack(acl)) == acl


@given(st.binary(max_size=64))
def test_whatever_the_bytes_they_are_a_list_or_refused(packed: bytes) -> None:
    try:
        acl = posixacl.parse(packed)
    except errors.InvalidArgument:
        return
    assert not posixacl.fault_of(acl)


@pytest.mark.parametrize(
    "packed",
    [
        b"",
        struct.pack("<I", 2),
        struct.pack("<I", 1) + posixacl.pack((Entry(OWNER, 7),))[4:],
        posixacl.pack((Entry(OWNER, 7), Entry(OWNING_GROUP, 7), Entry(OTHERS, 7)))[:-1],
        posixacl.pack((Entry(OWNER, 7), Entry(OTHERS, 7))),
        posixacl.pack((Entry(OWNER, 7), Entry(OTHERS, 7), Entry(OWNING_GROUP, 7))),
        posixacl.pack((Entry(OWNER, 7), Entry(OWNER, 7), Entry(OWNING_GROUP, 7), Entry(OTHERS, 7))),
        posixacl.pack(
            (Entry(OWNER, 7), Entry(USER, 7, 1), Entry(OWNING_GROUP, 7), Entry(OTHERS, 7))
        ),
        posixacl.pack((Entry(OWNER, 8), Entry(OWNING_GROUP, 7), Entry(OTHERS, 7))),
        posixacl.pack(
            (
                *(Entry(OWNER, 7), Entry(USER, 7, NOBODY), Entry(OWNING_GROUP, 7)),
                *(Entry(MASK, 7), Entry(OTHERS, 7)),
            )
        ),
        posixacl.pack((Entry(OWNER, 7), Entry(OWNING_GROUP, 7), Entry(0x40, 7), Entry(OTHERS, 7))),
    ],
)
def test_what_is_no_list_is_refused(packed: bytes) -> None:
    with pytest.raises(errors.InvalidArgument):
        posixacl.parse(packed)


@given(acls(), modes)
def test_chmod_sets_what_stat_then_shows_and_keeps_the_named(acl: Acl, mode: int) -> None:
    changed = posixacl.with_mode(acl, mode)
    assert not posixacl.fault_of(changed)
    assert posixacl.mode_of(changed, 0o7000) == 0o7000 | mode & 0o777
    named = [each for each in acl if each.tag in (USER, GROUP)]
    assert [each for each in changed if each.tag in (USER, GROUP)] == named


@given(acls())
def test_the_mode_that_is_shown_sets_nothing_else(acl: Acl) -> None:
    assert posixacl.with_mode(acl, posixacl.mode_of(acl, 0)) == acl


@given(acls(), modes)
def test_nothing_is_inherited_that_the_default_list_or_the_mode_refuse(acl: Acl, mode: int) -> None:
    made = posixacl.inherited(acl, mode)
    assert not posixacl.fault_of(made)
    shown = posixacl.mode_of(made, 0)
    assert shown & ~mode == 0
    before = effective(acl)
    assert all(allowed & ~before[who] == 0 for who, allowed in effective(made).items())
    if mode & 0o777 == 0o777:
        assert made == acl


@given(acls())
def test_a_list_is_minimal_exactly_if_the_mode_says_it_all(acl: Acl) -> None:
    mode = posixacl.mode_of(acl, 0)
    said = (Entry(OWNER, mode >> 6), Entry(OWNING_GROUP, mode >> 3 & 7), Entry(OTHERS, mode & 7))
    assert posixacl.is_minimal(acl) == (acl == said)


@given(acls())
def test_ids_are_mapped_there_and_back(acl: Acl) -> None:
    there = posixacl.with_ids(acl, lambda uid: uid ^ 1, lambda gid: gid ^ 3)
    again = posixacl.with_ids(there, lambda uid: uid ^ 1, lambda gid: gid ^ 3)
    assert again == acl
