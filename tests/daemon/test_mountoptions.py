"""The words behind -o."""

from __future__ import annotations

import pytest

from daemon.mountoptions import MountRequest, OptionsError, options_text, parse_options
from fusefs import mounttable as table
from fusefs.mounttable import Mounted


def test_without_options_everything_is_mounted_with_nothing_forbidden() -> None:
    assert parse_options("") == MountRequest()
    assert parse_options("rw,defaults") == MountRequest()


def test_the_last_word_on_a_thing_counts() -> None:
    assert parse_options("ro,noexec,rw").attributes == table.NOEXEC
    assert parse_options("noatime,strictatime").attributes == table.STRICTATIME
    assert parse_options("noatime,relatime").attributes == table.RELATIME


def test_what_is_not_set_is_cleared() -> None:
    request = parse_options("ro,nodev")
    assert request.attributes == table.RDONLY | table.NODEV
    assert request.cleared == table.NOSUID | table.NOEXEC | table.NODIRATIME | table.ATIME


@pytest.mark.parametrize(
    "word",
    [
        *("_netdev", "nofail", "user", "user=ann", "users", "noauto", "comment=x y"),
        *("x-systemd.automount", "x-systemd.requires=a.service", "X-mount.mkdir=0755"),
        *("fsname=x", "default_permissions", "user_id=0", "group_id=0", "async", "nonempty"),
    ],
)
def test_words_for_others_are_passed_over(word: str) -> None:
    assert parse_options(f"ro,{word}") == parse_options("ro")


@pytest.mark.parametrize("text", ["bogus", "ro=1", "size=3", "sync", "subdir", "subdir=/", "uid=x"])
def test_words_that_can_not_be_meant_are_refused(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_options(text)


def test_unknown_words_can_be_passed_over() -> None:
    assert parse_options("bogus,ro", sloppy=True) == parse_options("ro")


@pytest.mark.parametrize(
    ("text", "subdir"),
    [
        ("subdir=box", "box"),
        ("subdir=/box/a/", "box/a"),
        ('subdir="box/a,b"', "box/a,b"),
        ('"subdir=box/a,b",ro', "box/a,b"),
        ("subdir=box/...", "box/..."),
    ],
)
def test_a_directory_is_named_from_the_root(text: str, subdir: str) -> None:
    assert parse_options(text).subdir == subdir


@pytest.mark.parametrize("text", ["subdir=..", "subdir=a/../b", "subdir=./a", "subdir=a//b"])
def test_a_directory_is_named_without_detours(text: str) -> None:
    with pytest.raises(OptionsError):
        parse_options(text)


def test_a_mount_can_be_asked_for_once_more() -> None:
    options = ("ro", "nosuid", "nodev", "noexec", "noatime")
    mounted = Mounted("0:39", "/box/a, b", "/mnt", options, "fuse.twofold", "twofold")
    request = parse_options(options_text(mounted, ["uidmap=1:2", "allow_other"]))
    assert request == parse_options(
        'ro,nosuid,nodev,noexec,noatime,"subdir=box/a, b",uidmap=1:2,allow_other'
    )
