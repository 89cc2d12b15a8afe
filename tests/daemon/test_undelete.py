"""`twofold undelete` and `twofold bucket trash`, on a running daemon."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from daemon.undeletecli import PathRefused, place_of
from fusefs import mounttable
from fusefs.mounttable import Mounted
from tests.daemon.harness import HAS_FUSE, DaemonHarness
from tests.daemon.test_cli import refused, twofold

needs_fuse = pytest.mark.skipif(not HAS_FUSE, reason="there is no /dev/fuse to mount with")


def mount_of(root: str, path: str, kind: str = mounttable.TYPE) -> Mounted:
    return Mounted(device="0:1", root=root, path=path, options=(), type=kind, source="twofold")


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("box/a/b", ("box", "a/b")),
        ("box", ("box", "")),
        ("box/", ("box", "")),
        ("box/d/", ("box", "d/")),
        ("/mnt/all/box/a/b", ("box", "a/b")),
        ("/mnt/all/box/a/../c", ("box", "c")),
        ("/mnt/all/box/a/%tf.data", ("box", "a")),
        ("/mnt/all/box/%tf.empty/%tf.dot", ("box", "/.")),
        ("/mnt/all/box/%tf.lit.x", ("box", "%tf.x")),
        ("/mnt/part/f", ("box", "deep/er/f")),
        ("/mnt/all/deeper/f", ("box", "f")),
    ],
)
def test_a_path_is_a_key(
    monkeypatch: pytest.MonkeyPatch, path: str, place: tuple[str, str]
) -> None:
    known = [
        mount_of("/", "/", "ext4"),
        mount_of("/", "/mnt/all"),
        mount_of("/box/deep/er", "/mnt/part"),
        mount_of("/box", "/mnt/all/deeper"),
        mount_of("/", "/mnt/other", "ext4"),
    ]
    monkeypatch.setattr(mounttable, "mounts", lambda: known)
    assert place_of(path) == place


@pytest.mark.parametrize(
    "path",
    ["", "/etc/passwd", "/mnt/all", "/mnt/all/box/%tf.bogus", "/mnt/all/box/%tf.long." + "0" * 32],
)
def test_what_is_no_path_of_the_store_is_refused(
    monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    known = [mount_of("/", "/", "ext4"), mount_of("/", "/mnt/all")]
    monkeypatch.setattr(mounttable, "mounts", lambda: known)
    with pytest.raises(PathRefused):
        place_of(path)


def test_without_a_daemon_it_says_so() -> None:
    assert "no daemon" in refused(twofold("undelete", "b/k", "--socket", "/nowhere"), 3)
    assert "no number of days" in refused(
        twofold("bucket", "trash", "b", "ten", "--socket", "/nowhere"), 2
    )
    assert "not on a mount" in refused(twofold("undelete", "/etc/passwd"), 2)


@pytest.fixture(scope="module")
def harness(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaemonHarness]:
    with DaemonHarness(tmp_path_factory.mktemp("undelete")) as started:
        yield started


def run(harness: DaemonHarness, *arguments: str | Path) -> str:
    words = [str(word) for word in arguments]
    result = harness.run(*words, "--config", str(harness.config_file))
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
@needs_fuse
def test_what_programs_removed_and_replaced_comes_back(harness: DaemonHarness) -> None:
    box = harness.mount / "photos"
    box.mkdir()
    (shown,) = json.loads(run(harness, "bucket", "trash", "photos", "30", "--json"))
    assert (shown["trash_days"], shown["versioning"]) == (30, "enabled")
    assert "30 d" in run(harness, "bucket", "list")
    (box / "one").write_bytes(b"1")
    (box / "one").chmod(0o640)
    (box / "d" / "e").mkdir(parents=True)
    for number in range(20):
        (box / "d" / "e" / f"{number}").write_bytes(b"%d" % number)
    (box / "draft").write_bytes(b"first")
    (box / "draft").write_bytes(b"second")
    (box / "one").unlink()
    shutil.rmtree(box / "d")
    listed = run(harness, "undelete", box, "--list")
    assert listed.count("deleted") == 21
    assert listed.count("replaced") == 1
    run(harness, "undelete", box / "one")
    assert ((box / "one").read_bytes(), (box / "one").stat().st_mode & 0o777) == (b"1", 0o640)
    assert "20 files are back" in run(harness, "undelete", "photos/d", "-r")
    assert sorted(int(each.read_bytes()) for each in (box / "d" / "e").iterdir()) == [*range(20)]
    (old,) = json.loads(run(harness, "undelete", box / "draft", "--list", "--json"))
    run(harness, "undelete", box / "draft", "--version", old["version"])
    assert (box / "draft").read_bytes() == b"first"
    for path, reason in (("photos/one", "it is there"), ("photos/never", "nothing to be had")):
        result = harness.run("undelete", path, "--config", str(harness.config_file))
        assert reason in refused(result, 1)
    assert not [name for name in box.iterdir() if "trash" in name.name]


@pytest.mark.slow
def test_what_s3_deleted_comes_back_for_s3(harness: DaemonHarness) -> None:
    s3 = harness.client()
    s3.create_bucket(Bucket="objects")
    run(harness, "bucket", "trash", "objects", "7")
    s3.put_object(Bucket="objects", Key="a//b", Body=b"x" * 50_000, Metadata={"colour": "red"})
    s3.delete_object(Bucket="objects", Key="a//b")
    run(harness, "undelete", "objects/a//b")
    found = s3.get_object(Bucket="objects", Key="a//b")
    assert (found["Body"].read(), found["Metadata"]) == (b"x" * 50_000, {"colour": "red"})
    run(harness, "bucket", "trash", "objects", "none")
    assert " none" in run(harness, "bucket", "usage", "objects")
