"""root_squash on a real mount: root may what the kernel lets the anonymous user do, and no more."""

from __future__ import annotations

import base64
import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from fusefs.idmap import Anonymous
from fusefs.squash import READ, SEARCH, WRITE, rights_by_list
from metadb.records import InodeRow
from store import posixacl
from store.posixacl import GROUP, MASK, OTHERS, OWNER, OWNING_GROUP, USER, Entry
from tests.fusefs.conftest import Mount, needs_fuse
from tests.fusefs.users import errno_as, needs_root

pytestmark = [needs_fuse, needs_root]

FULL: Final = bool(os.environ.get("TWOFOLD_FULL"))
SAMPLE: Final = 40
"""About so many cases of each kind are tried at every change."""

ROOT, NOBODY, ANNA, BERT, TEAM = 0, 4711, 3001, 3002, 3100
FILE, FOLDER, LINK = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK
Planted = tuple[str, int, int, int, str]

# What is below the directory of a scene: something to remove, to replace, to open, to look at.
INSIDE: Final = (
    ("theirs", FILE | 0o644, ANNA, ANNA, "0123456789"),
    ("closed", FILE | 0o600, ANNA, ANNA, "0123456789"),
    ("shared", FILE | 0o6777, ANNA, TEAM, "0123456789"),
    ("team", FILE | 0o664, ANNA, NOBODY, "0123456789"),
    ("own", FILE | 0o640, NOBODY, NOBODY, "0123456789"),
    ("own-team", FILE | 0o2070, NOBODY, TEAM, "0123456789"),
    ("listed", FILE | 0o600, ANNA, ANNA, "0123456789"),
    ("tool", FILE | 0o711, ANNA, ANNA, "#!/bin/true"),
    ("link", LINK | 0o777, ANNA, ANNA, "theirs"),
    ("folder", FOLDER | 0o755, ANNA, ANNA, ""),
    ("own-folder", FOLDER | 0o755, NOBODY, NOBODY, ""),
    ("open-folder", FOLDER | 0o1777, ANNA, ANNA, ""),
)
FILES: Final = [name for name, mode, *_ in INSIDE if stat.S_ISREG(mode)]
FOLDERS: Final = [name for name, mode, *_ in INSIDE if stat.S_ISDIR(mode)]
# The directory itself: mode, owner, group.
SCENES: Final = {
    "open": (0o777, ANNA, ANNA),
    "sticky": (0o1777, ANNA, ANNA),
    "read": (0o755, ANNA, ANNA),
    "closed": (0o700, ANNA, ANNA),
    "listable": (0o744, ANNA, ANNA),
    "walkable": (0o711, ANNA, ANNA),
    "team": (0o3770, ANNA, NOBODY),
    "other team": (0o2777, ANNA, TEAM),
    "own": (0o755, NOBODY, NOBODY),
}
NAMES: Final = "here, one, two = sys.argv[1:4]; "
IN_SCENES: Final = [
    "os.listdir(here)",
    "open(here + '/made', 'x').write('abc')",
    "os.open(here + '/made', os.O_CREAT | os.O_WRONLY, 0o6777)",
    "os.mkdir(here + '/made')",
    "os.mkdir(here + '/made', 0o7777)",
    "os.mkfifo(here + '/made')",
    "os.mknod(here + '/made', 0o20666, os.makedev(1, 3))",
    "os.symlink('x', here + '/made')",
    "os.chmod(here, 0o700)",
    "os.utime(here)",
    "os.setxattr(here, 'user.k', b'v')",
]
ON_FILES: Final = [
    "os.stat(one)",
    "os.open(one, os.O_RDONLY)",
    "os.open(one, os.O_WRONLY)",
    "os.open(one, os.O_RDWR | os.O_CREAT)",
    "os.open(one, os.O_RDONLY | os.O_TRUNC)",
    "os.open(one, os.O_RDWR | os.O_CREAT | os.O_EXCL)",
    "os.write(os.open(one, os.O_WRONLY | os.O_APPEND), b'x')",
    "os.ftruncate(os.open(one, os.O_WRONLY), 3)",
    "os.truncate(one, 3)",
    "os.chmod(one, 0o2770)",
    "os.chown(one, 0, -1)",
    "os.chown(one, 4711, 4711)",
    "os.chown(one, -1, 3100)",
    "os.chown(one, -1, 4711)",
    "os.utime(one)",
    "os.unlink(one)",
    "os.rename(one, here + '/made')",
    "os.rename(here + '/own', one)",
    "os.rename(one, here + '/open-folder/made')",
    "os.rename(one, here + '/own-folder/made')",
    "os.link(here + '/own', here + '/linked')",
    "os.link(here + '/own', here + '/folder/linked')",
    "os.setxattr(one, 'user.k', b'v')",
    "os.getxattr(one, 'user.s3.key')",
    "os.removexattr(one, 'user.k')",
    "os.setxattr(one, 'system.posix_acl_access', bytes.fromhex(two))",
    "os.removexattr(one, 'system.posix_acl_access')",
    "os.posix_spawn(one, [one], {}) ",
]
ON_FOLDERS: Final = [
    "os.listdir(one)",
    "os.rmdir(one)",
    "os.mkdir(one + '/made')",
    "os.rename(one, here + '/made')",
    "os.rename(one, here + '/open-folder/made')",
    "os.rename(one, here + '/own-folder/made')",
    "os.chmod(one, 0o2750)",
    "os.setxattr(one, 'user.k', b'v')",
    "os.removexattr(one, 'user.k')",
]
MINIMAL: Final = posixacl.pack((Entry(OWNER, 6), Entry(OWNING_GROUP, 4), Entry(OTHERS, 0)))
NAMED: Final = posixacl.pack(
    (
        Entry(OWNER, 6),
        Entry(USER, 6, NOBODY),
        Entry(OWNING_GROUP, 0),
        Entry(MASK, 6),
        Entry(OTHERS, 0),
    )
)


@pytest.fixture(scope="module")
def squashed() -> Iterator[Mount]:
    words = ["root_squash", f"anonuid={NOBODY}", f"anongid={NOBODY}"]
    with tempfile.TemporaryDirectory(prefix="twofold-") as folder:
        os.chmod(folder, 0o755)
        mounted = Mount(Path(folder), owners=words)
        yield mounted
        mounted.close()


def outcome(mounted: Mount, name: str, scene: str, who: int, program: str, one: str) -> object:
    """Of a program in a scene of its own that no cache knows: its errno, and what is there."""
    mode, uid, gid = SCENES[scene]
    planted: list[Planted] = [(name, FOLDER | mode, uid, gid, "")]
    planted += [(f"{name}/{path}", *others) for path, *others in INSIDE]
    mounted.do("plant", tree=planted)
    packed = base64.b64encode(NAMED).decode()
    acl = {"name": "system.posix_acl_access", "packed": packed}
    mounted.do("set_acl", path=f"{name}/listed", **acl)
    here = mounted.box / name
    number = errno_as(who, NAMES + program, here, here / one, MINIMAL.hex())
    return number, mounted.do("tree", path=name)


def is_the_kernels_own(scene: str, program: str) -> bool:
    """Whether the kernel compares the file's owner with root itself, whatever we say (proc(5))."""
    protected = int(Path("/proc/sys/fs/protected_regular").read_text())
    creates = "O_CREAT" in program or "'x')" in program
    return bool(protected and creates and SCENES[scene][0] & stat.S_ISVTX)


@pytest.mark.parametrize(
    ("kind", "names", "programs"),
    [("in", [""], IN_SCENES), ("file", FILES, ON_FILES), ("folder", FOLDERS, ON_FOLDERS)],
)
def test_root_is_taken_for_the_anonymous_user(
    squashed: Mount, kind: str, names: list[str], programs: list[str]
) -> None:
    """The reference is the kernel itself, which checks the anonymous user."""
    cases = [(scene, one, program) for scene in SCENES for one in names for program in programs]
    # Odd, and no divisor of what there is, so that each program meets other scenes and files.
    step = 1 if FULL else len(cases) // SAMPLE | 1
    differing = []
    for number, (scene, one, program) in enumerate(cases[::step]):
        if is_the_kernels_own(scene, program):
            continue
        as_root, as_nobody = (
            outcome(squashed, f"{kind}-{number}-{who}", scene, who, program, one)
            for who in (ROOT, NOBODY)
        )
        if as_root != as_nobody:
            differing.append((scene, one, program, as_root, as_nobody))
    assert not differing, differing[:5]


def test_root_owns_nothing_and_makes_what_belongs_to_the_anonymous_user(squashed: Mount) -> None:
    squashed.do("plant", tree=[("making", FOLDER | 0o777, ANNA, ANNA, "")])
    folder = squashed.box / "making"
    (folder / "file").write_bytes(b"abc")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "fifo")
    (folder / "link").symlink_to("file")
    for name in ("file", "folder", "fifo", "link"):
        status = (folder / name).lstat()
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY), name
    assert errno_as(BERT, "open(sys.argv[1], 'x').close()", folder / "of-bert") == 0
    assert (folder / "of-bert").stat().st_uid == BERT


def test_root_makes_no_bucket_where_nobody_may(squashed: Mount) -> None:
    with pytest.raises(PermissionError):
        (squashed.path / "bucket").mkdir()


def test_others_are_who_they_are(squashed: Mount) -> None:
    planted = [
        ("others", FOLDER | 0o755, ANNA, ANNA, ""),
        ("others/file", FILE | 0o600, ANNA, ANNA, ""),
    ]
    squashed.do("plant", tree=planted)
    file = squashed.box / "others" / "file"
    assert errno_as(ANNA, "open(sys.argv[1], 'w').write('abc')", file) == 0
    assert errno_as(BERT, "open(sys.argv[1])", file) == errno.EACCES
    assert errno_as(ROOT, "open(sys.argv[1])", file) == errno.EACCES


def test_of_what_others_have_looked_at_root_sees_the_attributes_and_no_more(
    squashed: Mount,
) -> None:
    """The kernel answers from what it holds, as SEMANTICS.md says (R13)."""
    planted = [
        ("looked", FOLDER | 0o700, ANNA, ANNA, ""),
        ("looked/file", FILE | 0o600, ANNA, ANNA, "0123456789"),
    ]
    squashed.do("plant", tree=planted)
    folder = squashed.box / "looked"
    stat_file = "os.stat(sys.argv[1] + '/file')"
    assert errno_as(ROOT, stat_file, folder) == errno.EACCES
    assert errno_as(ANNA, stat_file, folder) == 0
    assert errno_as(ROOT, stat_file, folder) == 0
    for program in (
        "open(sys.argv[1] + '/file')",
        "os.truncate(sys.argv[1] + '/file', 0)",
        "os.utime(sys.argv[1] + '/file')",
        "os.unlink(sys.argv[1] + '/file')",
        "os.listdir(sys.argv[1])",
        "os.mkdir(sys.argv[1] + '/folder')",
    ):
        assert errno_as(ROOT, program, folder) == errno.EACCES, program


def test_what_one_user_opened_root_writes_by_its_descriptor(squashed: Mount) -> None:
    """Rights are asked for at open(2): what is inherited stays open."""
    squashed.do("plant", tree=[("handed", FILE | 0o600, NOBODY, NOBODY, "")])
    program = "f = os.open(sys.argv[1], os.O_RDWR); os.write(f, b'abc'); os.ftruncate(f, 2)"
    assert errno_as(ROOT, program, squashed.box / "handed") == 0
    assert squashed.get("handed") == b"ab"


@pytest.mark.parametrize(
    ("entries", "wanted", "rights"),
    [
        ([Entry(OWNER, 7), Entry(OWNING_GROUP, 0), Entry(OTHERS, 5)], READ, 5),
        ([Entry(USER, 6, 9), Entry(OWNING_GROUP, 0), Entry(MASK, 5), Entry(OTHERS, 7)], READ, 4),
        ([Entry(USER, 7, 1), Entry(OWNING_GROUP, 0), Entry(MASK, 5), Entry(OTHERS, 2)], WRITE, 2),
        # Of several groups one has to have it all; who is in one of them is no other.
        ([Entry(GROUP, 4, 5), Entry(GROUP, 2, 9), Entry(MASK, 7), Entry(OTHERS, 7)], WRITE, 2),
        ([Entry(GROUP, 4, 9), Entry(MASK, 7), Entry(OTHERS, 7)], READ | WRITE, 0),
        ([Entry(GROUP, 7, 9), Entry(MASK, 1), Entry(OTHERS, 7)], SEARCH, 1),
    ],
)
def test_a_list_gives_what_acl_5_says(entries: list[Entry], wanted: int, rights: int) -> None:
    row = InodeRow._make([0] * len(InodeRow._fields))
    assert rights_by_list(tuple(entries), row, Anonymous(uid=9, gid=9), wanted) == rights
