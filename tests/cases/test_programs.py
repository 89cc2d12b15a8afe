"""Programs that know nothing of S3, on the mount; then what S3 says of what they left."""

from __future__ import annotations

import os
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cases.conftest import Shell
from tests.cases.doors import get, keys, noise


@pytest.fixture
def tree(work: Path) -> Path:
    """A local tree with what copying programs stumble over."""
    top = work / "tree"
    (top / "empty").mkdir(parents=True)
    (top / "deep" / "er").mkdir(parents=True)
    for number in range(30):
        (top / "deep" / f"file {number}").write_bytes(noise(number * 1000, number))
    (top / "deep" / "er" / "large").write_bytes(noise(3_000_000))
    (top / "deep" / "er" / "script").write_bytes(b"#!/bin/sh\n")
    (top / "deep" / "er" / "script").chmod(0o755)
    (top / "link").symlink_to("deep/er/large")
    (top / "dangling").symlink_to("nowhere")
    os.link(top / "deep" / "file 7", top / "hard link")
    os.mkfifo(top / "fifo")
    # Long past: rsync takes two times within the same second for equal.
    for number, path in enumerate(sorted(top.rglob("*"))):
        times = (1, 1_234_567_890_123_456_789 + number)
        os.utime(path, ns=times, follow_symlinks=False)
    return top


def alike(shell: Shell, one: Path, two: Path) -> None:
    """Same names, bytes, modes and times; diff tells the first, find the others."""
    shell("diff", "-r", "--no-dereference", "--exclude=fifo", one, two)
    figures = [
        shell("find", ".", "-printf", r"%P %y %m %n %s %T@ %l\n", cwd=top).splitlines()
        for top in (one, two)
    ]
    # A directory's size and links are each file system's own affair.
    figures = [[line for line in lines if " d " not in line] for lines in figures]
    assert sorted(figures[0]) == sorted(figures[1])


def test_git(s3: Any, bucket: str, box: Path, tree: Path, shell: Shell) -> None:
    repository = box / "repository"
    shutil.copytree(tree / "deep", repository)
    shell("git", "init", "-q", "-b", "main", repository)
    shell("git", "add", ".", cwd=repository)
    shell("git", "commit", "-q", "-m", "first", cwd=repository)
    (repository / "file 3").write_bytes(b"changed")
    assert "file 3" in shell("git", "status", "--short", cwd=repository)
    shell("git", "commit", "-q", "-a", "-m", "second", cwd=repository)
    shell("git", "gc", "-q", cwd=repository)
    shell("git", "clone", "-q", repository, box / "clone")
    for each in (repository, box / "clone"):
        shell("git", "fsck", "--strict", cwd=each)
        assert shell("git", "status", "--short", cwd=each) == ""
    assert shell("git", "log", "--format=%s", cwd=box / "clone").split() == ["second", "first"]
    assert get(s3, bucket, "clone/file 3") == b"changed"
    head = shell("git", "rev-parse", "HEAD", cwd=repository).strip()
    assert head in get(s3, bucket, "repository/.git/packed-refs").decode()


def test_sqlite_in_wal_mode(bucket: str, s3: Any, box: Path, shell: Shell, work: Path) -> None:
    path = box / "database"
    one, two = sqlite3.connect(path), sqlite3.connect(path)
    try:
        assert one.execute("PRAGMA journal_mode = WAL").fetchone() == ("wal",)
        one.execute("CREATE TABLE t (n INTEGER PRIMARY KEY, x BLOB)")
        for number in range(100):
            with one if number % 2 else two as connection:
                connection.execute("INSERT INTO t VALUES (?, ?)", (number, noise(5000, number)))
        assert two.execute("SELECT count(*) FROM t").fetchone() == (100,)
        assert one.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        one.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        one.close()
        two.close()
    assert shell("sqlite3", path, "PRAGMA integrity_check; SELECT count(*) FROM t").split() == [
        "ok",
        "100",
    ]
    (work / "copy").write_bytes(get(s3, bucket, "database"))
    assert shell("sqlite3", work / "copy", "PRAGMA integrity_check").strip() == "ok"


def test_tar_there_and_back(box: Path, tree: Path, shell: Shell, work: Path) -> None:
    # The default format keeps whole seconds only.
    shell("tar", "-C", tree.parent, "--format=posix", "-cf", box / "tree.tar", "tree")
    shell("tar", "-C", box, "-xf", box / "tree.tar")
    alike(shell, tree, box / "tree")
    shell("tar", "-C", box, "--format=posix", "-czf", work / "back.tgz", "tree")
    (work / "back").mkdir()
    shell("tar", "-C", work / "back", "-xzf", work / "back.tgz")
    alike(shell, tree, work / "back" / "tree")


def test_cp_a_there_and_back(s3: Any, bucket: str, box: Path, tree: Path, shell: Shell) -> None:
    shell("cp", "-a", tree, box / "copy")
    alike(shell, tree, box / "copy")
    shell("cp", "-a", box / "copy", box / "again")
    alike(shell, tree, box / "again")
    assert get(s3, bucket, "again/link") == (tree / "deep" / "er" / "large").read_bytes()
    assert "again/fifo" not in keys(s3, bucket)
    shell("rm", "-r", box / "copy", box / "again")
    assert keys(s3, bucket) == []
    assert os.listdir(box) == []


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_rsync_there_and_nothing_twice(box: Path, tree: Path, shell: Shell) -> None:
    shell("rsync", "-aH", f"{tree}/", box / "copy")
    alike(shell, tree, box / "copy")
    assert shell("rsync", "-aHi", f"{tree}/", box / "copy") == ""
    (tree / "deep" / "file 5").write_bytes(b"changed")
    assert "file 5" in shell("rsync", "-aHi", f"{tree}/", box / "copy")
    alike(shell, tree, box / "copy")


def test_a_virtual_environment_runs(box: Path, shell: Shell) -> None:
    shell(sys.executable, "-m", "venv", "--without-pip", box / "venv")
    found = shell(box / "venv" / "bin" / "python", "-c", "import sys; print(sys.prefix)")
    assert found.strip() == str(box / "venv")


def test_checksums_of_a_copy_agree(box: Path, tree: Path, shell: Shell) -> None:
    shell("cp", "-a", tree, box / "copy")
    sums = "find . -type f -print0 | sort -z | xargs -0 -P 4 -n 5 sha256sum | sort"
    assert shell("sh", "-c", sums, cwd=box / "copy") == shell("sh", "-c", sums, cwd=tree)
