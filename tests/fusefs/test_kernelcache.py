"""What the kernel may hold, and what it can't."""

from fusefs.kernelcache import KernelCache
from metadb.records import ROOT, InodeId

DIRECTORY = InodeId(7)


def test_only_noted_names_are_known() -> None:
    cache = KernelCache()
    cache.note(DIRECTORY, b"a")
    assert cache.knows(DIRECTORY, b"a")
    assert not cache.knows(DIRECTORY, b"b")
    assert not cache.knows(InodeId(8), b"a")


def test_a_dropped_name_is_unknown_until_it_is_noted_again() -> None:
    cache = KernelCache()
    cache.note(DIRECTORY, b"a")
    cache.drop([(DIRECTORY, b"a"), (DIRECTORY, b"never there")])
    assert not cache.knows(DIRECTORY, b"a")
    cache.note(DIRECTORY, b"a")
    assert cache.knows(DIRECTORY, b"a")


def test_an_inode_is_held_until_all_lookups_are_given_back() -> None:
    cache = KernelCache()
    cache.count(DIRECTORY)
    cache.count(DIRECTORY)
    cache.forget(DIRECTORY, 1)
    assert cache.holds(DIRECTORY)
    cache.forget(DIRECTORY, 1)
    assert not cache.holds(DIRECTORY)
    assert cache.inode_count == 0


def test_the_root_is_always_held() -> None:
    assert KernelCache().holds(ROOT)


def test_names_go_with_their_directory() -> None:
    cache = KernelCache(names_max=2)
    cache.count(DIRECTORY)
    cache.note(DIRECTORY, b"a")
    cache.note(DIRECTORY, b"b")
    cache.forget(DIRECTORY, 1)
    assert not cache.knows(DIRECTORY, b"a")
    cache.note(InodeId(8), b"c")
    cache.note(InodeId(8), b"d")
    assert not cache.knows(InodeId(8), b"x"), "the room of the forgotten names was not given back"


def test_beyond_its_bound_a_directory_counts_as_known_whole() -> None:
    cache = KernelCache(names_max=2)
    for name in (b"a", b"b", b"c"):
        cache.note(DIRECTORY, name)
    assert cache.knows(DIRECTORY, b"a")
    assert cache.knows(DIRECTORY, b"never asked for")
    cache.drop([(DIRECTORY, b"a")])
    assert cache.knows(DIRECTORY, b"a"), "safe means asking the kernel once too often"
    assert not cache.knows(InodeId(8), b"a"), "its names gave their room back"
    cache.note(InodeId(8), b"a")
    assert not cache.knows(InodeId(8), b"b")


def test_a_name_noted_twice_takes_room_once() -> None:
    cache = KernelCache(names_max=2)
    for name in (b"a", b"a", b"a", b"b"):
        cache.note(DIRECTORY, name)
    assert not cache.knows(DIRECTORY, b"c")


def test_the_last_forget_says_so() -> None:
    cache = KernelCache()
    cache.count(DIRECTORY)
    cache.count(DIRECTORY)
    assert not cache.forget(DIRECTORY, 1)
    assert cache.forget(DIRECTORY, 1)
