"""mount -t fuse.twofold and its like: options by what they do, and mounts that come and go."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import botocore.exceptions
import pytest

from daemon.control import NoDaemon
from daemon.mountwire import Handover, MountTalk
from tests.daemon.harness import ROOT, DaemonHarness
from tests.daemon.mounts import CAN_MOUNT, ROOTS, TYPES, Mounts, linked_programs, run, umount

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_MOUNT, reason="takes root and /dev/fuse"),
]
WITHIN_S = 60.0
STRANGER = 12345


@pytest.fixture(scope="module", autouse=True)
def programs() -> Iterator[None]:
    with linked_programs():
        yield


@pytest.fixture(scope="module")
def harness() -> Iterator[DaemonHarness]:
    """One daemon, which mounts nothing by itself, for all tests that leave it running."""
    with open_folder() as folder, DaemonHarness(folder, mount=False) as started:
        client = started.client()
        client.create_bucket(Bucket="box")
        client.put_object(Bucket="box", Key="a/b", Body=b"hello")
        yield started


@contextlib.contextmanager
def open_folder() -> Iterator[Path]:
    """A folder where other users can reach what is mounted."""
    with tempfile.TemporaryDirectory(prefix="twofold-") as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def mounts(harness: DaemonHarness) -> Iterator[Mounts]:
    made = Mounts(harness)
    made.start_at = len(os.listdir(harness.folder))
    yield made
    made.clear()
    harness.wait_for(lambda report: report["mount"]["state"] == "off")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Mounts]:
    """Mounts of a daemon that the test may stop or kill."""
    with DaemonHarness(tmp_path, mount=False) as started:
        started.client().create_bucket(Bucket="box")
        made = Mounts(started)
        try:
            yield made
        finally:
            made.clear()


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def state(mounts: Mounts) -> str:
    found: str = mounts.harness.status()["mount"]["state"]
    return found


def as_user(user: int, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, user=user, group=user, extra_groups=[], capture_output=True, text=True, check=False
    )


# -- mounting and unmounting ---------------------------------------------------------------


@pytest.mark.parametrize("kind", TYPES)
def test_a_mount_shows_the_store_and_umount_ends_the_session(mounts: Mounts, kind: str) -> None:
    assert state(mounts) == "off"
    path = mounts.made(kind=kind)
    assert (path / "box" / "a" / "b").read_bytes() == b"hello"
    assert mounts.entry(path).type == "fuse.twofold"
    assert mounts.harness.status()["mount"] == {"path": str(path), "state": "mounted"}

    result = umount(path)
    assert (result.returncode, result.stderr) == (0, "")
    assert mounts.seen() == []
    assert os.listdir(path) == []
    mounts.harness.wait_for(lambda report: report["mount"]["state"] == "off")
    assert mounts.harness.client().head_object(Bucket="box", Key="a/b")["ContentLength"] == 5


def test_it_can_be_mounted_again_and_again(mounts: Mounts) -> None:
    path = mounts.folder()
    for number in range(5):
        assert mounts.mount(path).returncode == 0
        (path / "box" / "again").write_text(str(number))
        assert umount(path).returncode == 0
    body = mounts.harness.client().get_object(Bucket="box", Key="again")["Body"].read()
    assert body == b"4"


def test_many_at_once_are_mounts_of_one_session(mounts: Mounts) -> None:
    paths = [mounts.folder() for _ in range(4)]
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(mounts.mount, paths))
    assert [result.stderr for result in results] == [""] * 4
    assert len({each.device for each in mounts.seen()}) == 1
    for path in paths:
        assert os.listdir(path / "box" / "a") == ["b"]
    for path in paths[:-1]:
        assert umount(path).returncode == 0
        assert state(mounts) == "mounted"
    assert (paths[-1] / "box" / "a" / "b").read_bytes() == b"hello"
    assert umount(paths[-1]).returncode == 0
    assert mounts.seen() == []


def test_the_session_itself_is_where_only_root_gets_to(mounts: Mounts) -> None:
    path = mounts.made()
    (root,) = (each.path for each in mounts.seen() if each.path != str(path))
    assert root.startswith(f"{ROOTS}/")
    assert as_user(STRANGER, "ls", root).returncode != 0
    assert as_user(STRANGER, "cat", str(path / "box/a/b")).stdout == "hello"


def test_an_unmount_that_nobody_tells_ends_the_session_too(mounts: Mounts) -> None:
    path = mounts.made()
    assert umount(path, "-i").returncode == 0
    mounts.harness.wait_for(lambda report: report["mount"]["state"] == "off")
    assert mounts.seen() == []
    assert mounts.mount(path).returncode == 0


def test_a_mount_point_may_be_reached_by_a_link(mounts: Mounts) -> None:
    path = mounts.folder()
    link = path.with_name(f"{path.name}-link")
    link.symlink_to(path)
    config = str(mounts.harness.config_file)
    assert mounts.harness.run("mount", config, str(link)).returncode == 0
    assert os.listdir(path) == ["box"]
    assert mounts.harness.run("umount", str(link)).returncode == 0
    assert mounts.seen() == []


def test_a_line_of_fstab_mounts_it_once(mounts: Mounts) -> None:
    path, table = mounts.folder(), mounts.harness.folder / "fstab"
    words = "defaults,_netdev,nofail,ro,subdir=box/a,x-systemd.automount,comment=twofold"
    table.write_text(f"{mounts.harness.config_file} {path} fuse.twofold {words} 0 0\n")
    result = run("mount", "-T", str(table), str(path))
    assert (result.returncode, result.stderr) == (0, "")
    assert os.listdir(path) == ["b"]
    # Neither a second time by its name nor by mount -a.
    assert run("mount", "-T", str(table), str(path)).returncode == 32
    run("mount", "-T", str(table), "-a")
    assert len([each for each in mounts.seen() if each.path == str(path)]) == 1
    assert umount(path).returncode == 0


def test_what_a_user_line_of_fstab_adds_is_accepted(mounts: Mounts) -> None:
    path = mounts.made("user,noauto,rw,suid,dev,exec,async,X-mount.mkdir,x-gvfs-hide")
    assert "nosuid" not in mounts.entry(path).options


def test_mount_f_changes_nothing(mounts: Mounts) -> None:
    path = mounts.folder()
    assert (
        run("mount", "-f", "-t", "twofold", str(mounts.harness.config_file), str(path)).returncode
        == 0
    )
    assert mounts.seen() == []


def test_a_mount_in_use_is_busy_and_goes_lazily(mounts: Mounts) -> None:
    path = mounts.made()
    with (path / "box" / "held").open("wb", buffering=0) as held:
        held.write(b"before ")
        result = umount(path)
        assert result.returncode == 32
        assert "is in use" in result.stderr
        assert (path / "box").is_dir()

        assert umount(path, "-l").returncode == 0
        assert os.listdir(path) == []
        held.write(b"after")
        # Who comes now joins the session that is still in use.
        other = mounts.made()
        assert (other / "box" / "held").read_bytes() == b"before after"
    assert umount(other).returncode == 0
    mounts.harness.wait_for(lambda report: report["mount"]["state"] == "off")


def test_under_load_a_lazy_unmount_lets_who_is_writing_finish(mounts: Mounts) -> None:
    path = mounts.made()
    stop, written, failed = threading.Event(), [0], []

    def write() -> None:
        try:
            with (path / "box" / "load").open("wb", buffering=0) as file:
                while not stop.is_set() or written[0] < 200:
                    written[0] += file.write(b"x" * 8192) // 8192
        except OSError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        eventually(lambda: written[0] > 50)
        assert umount(path).returncode == 32
        assert umount(path, "-l").returncode == 0
        mark = written[0]
        eventually(lambda: written[0] > mark + 50)
    finally:
        stop.set()
        writer.join()
    assert failed == []
    size = mounts.harness.client().head_object(Bucket="box", Key="load")["ContentLength"]
    assert size == written[0] * 8192


# -- options -------------------------------------------------------------------------------


def test_a_read_only_mount_refuses_changes_beside_one_that_takes_them(mounts: Mounts) -> None:
    whole, readonly = mounts.made(), mounts.made("ro")
    for change in (
        lambda: (readonly / "box" / "new").write_bytes(b""),
        lambda: (readonly / "box" / "a" / "b").unlink(),
        lambda: os.chmod(readonly / "box", 0o700),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()
    (whole / "box" / "fresh").write_bytes(b"1")
    assert (readonly / "box" / "fresh").read_bytes() == b"1"
    mounts.harness.client().put_object(Bucket="box", Key="fresh", Body=b"22")
    assert (readonly / "box" / "fresh").read_bytes() == b"22"


def test_noexec_runs_nothing(mounts: Mounts) -> None:
    whole, noexec = mounts.made(), mounts.made("noexec")
    program = whole / "box" / "program"
    program.write_text("#!/bin/sh\necho ran\n")
    program.chmod(0o755)
    assert subprocess.check_output([program], text=True) == "ran\n"
    with pytest.raises(PermissionError):
        subprocess.run([noexec / "box" / "program"], check=False)


def test_nodev_and_nosuid_make_devices_and_set_id_bits_void(mounts: Mounts) -> None:
    usual, trusting = mounts.made("nodev,nosuid"), mounts.made()
    null = trusting / "box" / "null"
    os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    assert null.read_bytes() == b""
    with pytest.raises(PermissionError):
        (usual / "box" / "null").read_bytes()

    program = trusting / "box" / "id"
    shutil.copy("/usr/bin/id", program)
    program.chmod(0o4755)
    assert as_user(STRANGER, str(program), "-u").stdout == "0\n"
    assert as_user(STRANGER, str(usual / "box" / "id"), "-u").stdout == f"{STRANGER}\n"


@pytest.mark.parametrize("word", ["noatime", "relatime", "nodiratime", "noexec", "ro", "nosuid"])
def test_the_mount_table_shows_the_option(mounts: Mounts, word: str) -> None:
    assert word in mounts.entry(mounts.made(word)).options


def test_a_part_of_the_store_is_all_there_is(mounts: Mounts) -> None:
    mounts.harness.client().put_object(Bucket="box", Key="deep/er/x", Body=b"x")
    path = mounts.made("subdir=box/deep")
    assert os.listdir(path) == ["er"]
    assert os.path.samefile(path / "..", mounts.harness.folder)
    mounts.harness.client().put_object(Bucket="box", Key="deep/new", Body=b"n")
    assert sorted(os.listdir(path)) == ["er", "new"]
    (path / "er" / "y").write_bytes(b"y")
    body = mounts.harness.client().get_object(Bucket="box", Key="deep/er/y")["Body"].read()
    assert body == b"y"


def test_names_with_blanks_and_commas_can_be_mounted(mounts: Mounts) -> None:
    mounts.harness.client().put_object(Bucket="box", Key="one, two/x", Body=b"x")
    assert os.listdir(mounts.made('subdir="box/one, two",ro')) == ["x"]


def test_a_link_in_the_store_leads_no_mount_out_of_it(mounts: Mounts) -> None:
    (mounts.made() / "box" / "link").symlink_to("/etc")
    result = mounts.mount(mounts.folder(), "subdir=box/link")
    assert result.returncode == 32
    assert "box/link" in result.stderr


def test_all_files_can_be_shown_as_one_owners(mounts: Mounts) -> None:
    path = mounts.made(f"uid={STRANGER},gid=77")
    there = path / "box" / "a" / "b"
    assert (there.stat().st_uid, there.stat().st_gid) == (STRANGER, 77)
    assert as_user(STRANGER, "touch", str(path / "box" / "mine")).returncode == 0
    (path / "box" / "roots").write_bytes(b"")
    os.chown(path / "box" / "roots", STRANGER, 77)
    with pytest.raises(PermissionError):
        os.chown(path / "box" / "roots", 0, -1)
    listed = {each.name: each.stat(follow_symlinks=False) for each in os.scandir(path / "box")}
    assert {(each.st_uid, each.st_gid) for each in listed.values()} == {(STRANGER, 77)}
    umount(path)

    plain = mounts.made() / "box"
    owners = {name: (plain / name).stat() for name in ("mine", "roots", "a/b")}
    assert [(each.st_uid, each.st_gid) for each in owners.values()] == [
        *((STRANGER, 77),) * 2,
        (0, 0),
    ]


def test_owners_can_be_mapped(mounts: Mounts) -> None:
    words = f"uidmap=0:{STRANGER},uidmap=500:0,gidmap=0:{STRANGER}:2,gidmap=500:0"
    path = mounts.made(words)
    there = path / "box" / "a" / "b"
    assert (there.stat().st_uid, there.stat().st_gid) == (STRANGER, STRANGER)
    assert as_user(STRANGER, "touch", str(path / "box" / "mapped")).returncode == 0
    (path / "box" / "by-root").write_bytes(b"")
    assert (path / "box" / "by-root").stat().st_uid == 0
    os.chown(path / "box" / "by-root", STRANGER, STRANGER + 1)
    with pytest.raises(OSError, match=os.strerror(errno.EOVERFLOW)):
        os.chown(path / "box" / "by-root", 4321, -1)
    umount(path)

    plain = mounts.made() / "box"
    kept = [(plain / name).stat() for name in ("mapped", "by-root")]
    assert [(each.st_uid, each.st_gid) for each in kept] == [(0, 0), (0, 1)]
    os.chown(plain / "by-root", 4321, 4321)
    umount(plain.parent)

    unmapped = (mounts.made(words) / "box" / "by-root").stat()
    assert (unmapped.st_uid, unmapped.st_gid) == (65534, 65534)


def test_who_is_in_no_range_can_make_nothing(mounts: Mounts) -> None:
    path = mounts.made(f"uidmap=0:{STRANGER}")
    with pytest.raises(OSError, match=os.strerror(errno.EOVERFLOW)):
        (path / "box" / "new").write_bytes(b"")


def test_root_is_squashed_by_an_option(mounts: Mounts) -> None:
    path = mounts.made(f"root_squash,anonuid={STRANGER},uid=1000")
    with pytest.raises(PermissionError):
        (path / "box" / "made").mkdir()
    other = mounts.folder()
    result = mounts.mount(other, "root_squash,anonuid=5")
    assert result.returncode == 32
    assert f"mounted with root_squash,anonuid={STRANGER},uid=1000 already" in result.stderr
    assert mounts.mount(other, f"anonuid={STRANGER},root_squash").returncode == 0


def test_mounts_of_one_session_share_its_owners(mounts: Mounts) -> None:
    mounts.made("uid=1")
    other = mounts.folder()
    result = mounts.mount(other, "uid=2")
    assert result.returncode == 32
    assert "mounted with uid=1 already" in result.stderr
    assert mounts.mount(other, "uid=1").returncode == 0


def test_a_remount_changes_the_options_of_one_mount(mounts: Mounts) -> None:
    path, other = mounts.made(), mounts.made()
    assert run("mount", "-o", "remount,ro", str(path)).returncode == 0
    with pytest.raises(OSError, match="Read-only"):
        (path / "box" / "new").write_bytes(b"")
    (other / "box" / "new").write_bytes(b"")
    assert run("mount", "-o", "remount,rw", str(path)).returncode == 0
    (path / "box" / "new").unlink()


# -- what can't be mounted -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ("size=5", 1, "there is no option size=5"),
        ("ro,sync", 1, "there is no option sync"),
        ("uid=4294967295", 1, "is not a number that an owner can have"),
        ("uidmap=5", 1, "uidmap=5 is not STORED:SHOWN"),
        ("subdir=box/../other", 1, "is not of the form BUCKET or BUCKET/PREFIX"),
        ("subdir=", 1, "is not of the form BUCKET or BUCKET/PREFIX"),
        ("subdir=box/none", 32, "there is no directory box/none in the store"),
        ("subdir=nobox", 32, "there is no directory nobox in the store"),
        ("subdir=box/a/b", 32, "box/a/b is no directory"),
    ],
)
def test_what_can_not_be_done_is_told_in_a_sentence(
    mounts: Mounts, options: str, code: int, reason: str
) -> None:
    result = mounts.mount(mounts.folder(), options)
    assert (result.returncode, len(result.stderr.splitlines())) == (code, 1)
    assert result.stderr.startswith("mount.twofold: ")
    assert reason in result.stderr
    assert mounts.seen() == []
    mounts.harness.wait_for(lambda report: report["mount"]["state"] == "off")


def test_unknown_words_are_passed_over_with_s(mounts: Mounts) -> None:
    path = mounts.folder()
    config = str(mounts.harness.config_file)
    assert run("mount", "-s", "-t", "twofold", "-o", "size=5", config, str(path)).returncode == 0
    assert os.listdir(path) == ["box"]


def test_a_mount_point_that_is_missing_is_refused(mounts: Mounts) -> None:
    missing, file = mounts.harness.folder / "missing", mounts.harness.folder / "file"
    file.touch()
    for path in (missing, file):
        assert mounts.mount(path).returncode == 32
    config = str(mounts.harness.config_file)
    program = (sys.executable, "-m", "daemon.mountprogram", "mount", config)
    assert "does not exist" in run(*program, str(missing)).stderr
    assert "is no directory" in run(*program, str(file)).stderr


def test_the_same_place_is_not_mounted_twice(mounts: Mounts) -> None:
    path = mounts.made()
    result = mounts.mount(path)
    assert result.returncode == 32
    assert "is mounted already" in result.stderr
    assert umount(path).returncode == 0


def test_without_a_daemon_it_says_so(tmp_path: Path) -> None:
    config, path = tmp_path / "twofold.toml", tmp_path / "mnt"
    path.mkdir()
    config.write_text(f'state.folder = "{tmp_path}"\n')
    result = run("mount", "-t", "fuse.twofold", str(config), str(path))
    assert result.returncode == 32
    assert f"no daemon is running: nobody listens at {tmp_path}/control.sock" in result.stderr
    missing = run("mount", "-t", "fuse.twofold", str(tmp_path / "none"), str(path))
    assert missing.returncode == 1
    assert "there is no such file" in missing.stderr


def test_only_root_is_let_in(mounts: Mounts) -> None:
    program = [sys.executable, "-m", "daemon.mountprogram", "mount", "twofold", "/mnt"]
    result = subprocess.run(
        ["setpriv", "--reuid=65534", *program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if "can't open file" in result.stderr or "Permission denied" in result.stderr:
        pytest.skip("the working tree can't be read by others")
    assert result.returncode == 1
    assert "only root" in result.stderr


def test_what_is_not_twofold_is_not_unmounted_by_us(mounts: Mounts) -> None:
    program = (sys.executable, "-m", "daemon.mountprogram", "umount")
    for path, reason in (("/proc", "is proc, not twofold"), ("/nothing", "nothing is mounted")):
        result = run(*program, path)
        assert result.returncode == 32
        assert reason in result.stderr


def test_a_session_without_allow_other_is_not_opened_to_others() -> None:
    settings = {"mount.allow_other": False}
    with open_folder() as folder, DaemonHarness(folder, mount=False, settings=settings) as started:
        mounts = Mounts(started)
        try:
            first, second = mounts.made(), mounts.folder()
            assert as_user(STRANGER, "ls", str(first)).returncode != 0
            result = mounts.mount(second, "allow_other")
            assert result.returncode == 32
            assert "without allow_other already" in result.stderr
            umount(first)
            assert mounts.mount(second, "allow_other").returncode == 0
            assert as_user(STRANGER, "ls", str(second)).returncode == 0
        finally:
            mounts.clear()


def test_an_asker_that_hangs_up_or_errs_holds_up_nobody(mounts: Mounts, tmp_path: Path) -> None:
    control = mounts.harness.folder / "state" / "control.sock"
    talk = MountTalk(control)
    assert talk.ask().error == ""
    talk.close()

    talk = MountTalk(control)
    assert talk.ask().root == ""
    handover = Handover(root="/nowhere", device="0:0", allow_other=False, owners=())
    with (tmp_path / "no-fuse").open("wb") as wrong, pytest.raises(NoDaemon):
        talk.hand_over(handover, wrong.fileno())
    talk.close()
    assert "one descriptor of /dev/fuse" in mounts.harness.log()
    assert os.listdir(mounts.made()) == ["box"]


def test_a_descriptor_that_is_not_mounted_is_given_back(mounts: Mounts) -> None:
    talk = MountTalk(mounts.harness.folder / "state" / "control.sock")
    talk.ask()
    handover = Handover(root="/nowhere", device="0:0", allow_other=False, owners=())
    with open("/dev/fuse", "r+b", buffering=0) as unmounted:
        outcome = talk.hand_over(handover, unmounted.fileno())
    talk.close()
    assert "/nowhere" in outcome.error
    assert os.listdir(mounts.made()) == ["box"]


def test_a_read_only_configuration_holds_for_every_mount(tmp_path: Path) -> None:
    settings = {"mount.read_only": True}
    with DaemonHarness(tmp_path, mount=False, settings=settings) as started:
        started.client().create_bucket(Bucket="box")
        mounts = Mounts(started)
        try:
            path = mounts.made("rw")
            with pytest.raises(OSError, match="Read-only file system"):
                (path / "box" / "new").write_bytes(b"")
        finally:
            mounts.clear()


# -- the daemon comes and goes -------------------------------------------------------------


def test_a_squash_of_the_configuration_holds_for_every_mount(tmp_path: Path) -> None:
    settings = {"mount.root_squash": True, "mount.anonymous_uid": STRANGER}
    with DaemonHarness(tmp_path, mount=False, settings=settings) as started:
        started.client().create_bucket(Bucket="box")
        made = Mounts(started)
        try:
            with pytest.raises(PermissionError):
                (made.made("gid=5") / "box" / "made").mkdir()
            assert made.mount(made.folder(), f"anonuid={STRANGER},root_squash").returncode == 0
        finally:
            made.clear()


def test_a_stop_of_the_daemon_takes_all_its_mounts_away(own: Mounts) -> None:
    whole, part = own.made(), own.made("ro,subdir=box")
    with (whole / "box" / "open").open("wb", buffering=0) as file:
        file.write(b"not closed yet")
        assert own.harness.stop() == 0
        assert own.seen() == []
        with contextlib.suppress(OSError):
            file.close()
    assert os.listdir(whole) == os.listdir(part) == []
    own.harness.start()
    assert own.mount(whole).returncode == 0
    assert (whole / "box" / "open").read_bytes() == b"not closed yet"


def test_what_a_killed_daemon_left_is_replaced(own: Mounts) -> None:
    first, second = own.made(), own.made("ro,subdir=box")
    own.harness.kill()
    for path in (first, second):
        with pytest.raises(OSError, match="not connected"):
            os.listdir(path)
    assert "no daemon is running" in own.mount(first).stderr
    own.harness.start()
    for path in (first, second):
        result = own.mount(path)
        assert (result.returncode, result.stderr) == (0, "")
        assert os.listdir(path) == ["box"]
    assert len(own.seen()) == 3
    for path in (first, second):
        assert umount(path).returncode == 0
    assert own.seen() == []


def test_what_a_killed_daemon_left_can_be_unmounted(own: Mounts) -> None:
    path = own.made()
    own.harness.kill()
    assert umount(path).returncode == 0
    assert own.seen() == []


def test_mounts_come_back_when_the_store_restarts_on_a_copy(own: Mounts) -> None:
    whole, part = own.made(), own.made("ro,noexec,subdir=box")
    before = own.entry(part)
    (whole / "box" / "kept").write_bytes(b"kept")
    client = own.harness.client()
    copies = own.harness.status()["pool"]["copies"]
    primary = next(copy["path"] for copy in copies if copy["role"] == "primary")
    shutil.rmtree(Path(primary) / "twofold")
    with contextlib.suppress(botocore.exceptions.ClientError, botocore.exceptions.HTTPClientError):
        client.put_object(Bucket="box", Key="between", Body=b"y")
    own.harness.wait_for(lambda report: report["restarts"] == 1 and report["phase"] == "ready")

    def are_back() -> bool:
        paths = [each.path for each in own.seen()]
        return str(whole) in paths and str(part) in paths

    eventually(are_back)
    assert (part / "kept").read_bytes() == b"kept"
    assert own.entry(part).options == before.options
    (whole / "box" / "after").write_bytes(b"z")
    assert client.get_object(Bucket="box", Key="after")["Body"].read() == b"z"
    for path in (part, whole):
        assert umount(path).returncode == 0
    assert own.seen() == []


def test_a_daemon_that_may_not_mount_serves_what_it_is_handed(tmp_path: Path) -> None:
    sandboxed = _Sandboxed(tmp_path, mount=False)
    with sandboxed as started:
        started.client().create_bucket(Bucket="box")
        mounts = Mounts(started)
        try:
            path, part = mounts.made(), mounts.made("subdir=box,ro")
            (path / "box" / "x").write_bytes(b"x")
            assert started.client().get_object(Bucket="box", Key="x")["Body"].read() == b"x"
            started.client().put_object(Bucket="box", Key="x", Body=b"changed")
            assert (part / "x").read_bytes() == b"changed"
            for each in (path, part):
                assert umount(each).returncode == 0
            started.wait_for(lambda report: report["mount"]["state"] == "off")
            assert mounts.mount(path).returncode == 0
            # It can't unmount either; the next mount replaces what it leaves.
            assert started.stop() == 0
            with pytest.raises(OSError, match="not connected"):
                os.listdir(path)
            started.start()
            assert mounts.mount(path).returncode == 0
            assert (path / "box" / "x").read_bytes() == b"changed"
        finally:
            mounts.clear()


class _Sandboxed(DaemonHarness):
    """The daemon in a mount name space of its own, without the right to mount and /dev/fuse."""

    def start(self, *, wait: bool = True) -> None:
        program = self.folder / "python"
        hidden = "mount --bind /dev/null /dev/fuse"
        rights = "setpriv --inh-caps=-sys_admin --bounding-set=-sys_admin"
        program.write_text(
            f"#!/bin/sh\n"
            f"exec unshare --mount --propagation slave sh -c "
            f'\'{hidden} && exec {rights} {sys.executable} "$@"\' sh "$@"\n'
        )
        program.chmod(0o755)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "executable", str(program))
            super().start(wait=wait)


def test_the_mount_of_the_configuration_has_more_mounts_beside_it(tmp_path: Path) -> None:
    with DaemonHarness(tmp_path) as started:
        started.client().create_bucket(Bucket="box")
        mounts = Mounts(started)
        try:
            part = mounts.made("subdir=box,ro")
            (started.mount / "box" / "x").write_bytes(b"x")
            assert (part / "x").read_bytes() == b"x"
            assert umount(part).returncode == 0
            assert started.status()["mount"] == {"path": str(started.mount), "state": "mounted"}
            part = mounts.made("subdir=box,ro")
            assert started.stop() == 0
            assert mounts.seen() == []
            started.start()
            assert umount(started.mount).returncode == 0
            started.wait_for(lambda report: report["mount"]["state"] == "unmounted")
            assert mounts.mount(started.mount).returncode == 0
            assert (started.mount / "box" / "x").read_bytes() == b"x"
        finally:
            mounts.clear()


# -- the command ---------------------------------------------------------------------------


def test_twofold_mounts_and_unmounts(mounts: Mounts) -> None:
    harness, path = mounts.harness, mounts.folder()
    config = str(harness.config_file)
    assert harness.run("mount", config, str(path), "-o", "ro,subdir=box/a").returncode == 0
    assert os.listdir(path) == ["b"]
    with (path / "b").open("rb"):
        busy = harness.run("umount", str(path))
        assert (busy.returncode, "is in use" in busy.stderr) == (1, True)
        assert harness.run("umount", "--lazy", str(path)).returncode == 0
    again = harness.run("umount", str(path))
    assert again.returncode == 1
    assert again.stderr == f"twofold: nothing is mounted at {path}\n"
    assert harness.run("mount", config, str(path), "-o", "bogus").returncode == 2


def test_twofold_unmounts_what_is_dead_and_nothing_else(
    mounts: Mounts, own: Mounts, tmp_path: Path
) -> None:
    living, dead = mounts.made(), [own.made(), own.made("subdir=box,ro")]
    own.harness.kill()
    with pytest.raises(OSError, match=os.strerror(errno.ENOTCONN)):
        os.statvfs(dead[0])
    assert mounts.harness.run("umount", "--dead").returncode == 0
    assert own.seen() == []
    assert os.listdir(living) == ["box"]
    for wrong in ([], ["--dead", str(living)]):
        assert mounts.harness.run("umount", *wrong).returncode == 2


def test_twofold_mount_says_when_no_daemon_runs(tmp_path: Path, harness: DaemonHarness) -> None:
    config = tmp_path / "twofold.toml"
    config.write_text(f'state.folder = "{tmp_path}"\n')
    result = harness.run("mount", str(config), str(tmp_path))
    assert result.returncode == 3
    assert "no daemon is running" in result.stderr
