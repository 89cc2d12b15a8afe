"""Owners as the mount shows them."""

from __future__ import annotations

import errno

import pytest

from fusefs.idmap import AS_KEPT, OVERFLOW_ID, Anonymous, IdRefused, OwnersError, owners_of


def test_without_options_ids_are_what_they_are() -> None:
    assert owners_of([]) == AS_KEPT
    assert AS_KEPT.users.shown(7) == AS_KEPT.users.kept(7) == AS_KEPT.users.changed(7) == 7


def test_one_owner_has_all_there_is() -> None:
    users = owners_of(["uid=1000"]).users
    assert users.shown(0) == users.shown(5) == 1000
    assert users.kept(0) == users.kept(5) == users.changed(1000) == 1000
    with pytest.raises(IdRefused) as refused:
        users.changed(0)
    assert refused.value.number == errno.EPERM


def test_users_and_groups_are_mapped_each_by_itself() -> None:
    owners = owners_of(["uid=1", "gidmap=5:50:2"])
    assert (owners.users.shown(9), owners.groups.shown(6)) == (1, 51)


def test_ranges_lead_there_and_back() -> None:
    users = owners_of(["uidmap=0:1000", "uidmap=100:2000:10"]).users
    assert [users.shown(stored) for stored in (0, 100, 109)] == [1000, 2000, 2009]
    assert [users.kept(shown) for shown in (1000, 2000, 2009)] == [0, 100, 109]


def test_who_is_in_no_range_is_shown_as_nobody_and_owns_nothing() -> None:
    users = owners_of(["uidmap=100:2000:10"]).users
    assert users.shown(99) == users.shown(110) == OVERFLOW_ID
    for shown in (1999, 2010, OVERFLOW_ID):
        with pytest.raises(IdRefused) as refused:
            users.kept(shown)
        assert refused.value.number == errno.EOVERFLOW


def test_root_is_taken_for_whom_the_words_say() -> None:
    assert owners_of(["root_squash"]).root == Anonymous(uid=OVERFLOW_ID, gid=OVERFLOW_ID)
    owners = owners_of(["anongid=8", "root_squash", "anonuid=7", "uid=5"])
    assert owners.root == Anonymous(uid=7, gid=8)
    assert owners.users.shown(0) == 5
    assert owners_of(["uid=5"]).root is None


@pytest.mark.parametrize(
    "words",
    [
        ["uid="],
        ["uid=root"],
        ["uid=-1"],
        ["uid=4294967295"],
        ["uid=٣"],
        ["uidmap=1"],
        ["uidmap=1:2:3:4"],
        ["uidmap=1:2:0"],
        ["uidmap=1:4294967294:2"],
        ["uidmap=1:2", "uidmap=1:3"],
        ["gidmap=1:2:5", "gidmap=10:6"],
        ["uid=1", "uidmap=1:2"],
        ["anonuid=5"],
        ["root_squash", "anonuid=0"],
        ["root_squash", "anongid=x"],
        ["root_squash=yes"],
        ["gidmap=1:2", "gid=1"],
    ],
)
def test_what_can_not_be_meant_is_refused(words: list[str]) -> None:
    with pytest.raises(OwnersError):
        owners_of(words)
