"""Compilers, package installers, copying programs and fio on the mount, each as it comes."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.cases.conftest import FULL, Shell
from tests.cases.doors import get, keys, noise

UNITS = 200 if FULL else 24
MAKEFILE = """
CFLAGS = -O1 -MMD
objects = $(patsubst %.c,%.o,$(wildcard *.c))
program: libunits.a main.o
\t$(CC) -o $@ main.o -L. -lunits
libunits.a: $(filter-out main.o,$(objects))
\trm -f $@ && $(AR) rcs $@ $^
-include *.d
"""


@pytest.mark.skipif(not shutil.which("make") or not shutil.which("gcc"), reason="needs make, gcc")
def test_make_j_builds_a_project_and_then_only_what_changed(box: Path, shell: Shell) -> None:
    project = box / "project"
    project.mkdir()
    (project / "Makefile").write_text(MAKEFILE)
    for number in range(UNITS):
        (project / f"unit{number}.h").write_text(f"int unit{number}(void);\n")
        body = f'#include "unit{number}.h"\nint unit{number}(void) {{ return {number}; }}\n'
        (project / f"unit{number}.c").write_text(body)
    calls = " + ".join(f"unit{number}()" for number in range(UNITS))
    includes = "".join(f'#include "unit{number}.h"\n' for number in range(UNITS))
    main = f'#include <stdio.h>\n{includes}int main(void) {{ printf("%d\\n", {calls}); }}\n'
    (project / "main.c").write_text(main)

    make = ("make", "-j", "8", "-C", project, "program")
    assert shell(*make).count("-c -o") == UNITS + 1
    assert int(shell(project / "program")) == sum(range(UNITS))
    assert "up to date" in shell(*make)
    (project / "unit3.c").write_text('#include "unit3.h"\nint unit3(void) { return 1003; }\n')
    output = shell(*make)
    assert "unit3.o" in output
    assert "-o unit4.o" not in output
    assert int(shell(project / "program")) == sum(range(UNITS)) + 1000
    (project / "unit5.h").write_text("int unit5(void); /* changed */\n")
    output = shell(*make)
    assert all(f"-o {name}.o" in output for name in ("unit5", "main"))
    assert "-o unit3.o" not in output


def wheel(folder: Path) -> Path:
    """A package of many modules, as an installer takes it."""
    modules = {f"crowd/part{n}.py": b"NUMBER = %d\n" % n for n in range(UNITS * 4)}
    modules["crowd/__init__.py"] = b""
    modules["crowd/large.bin"] = noise(1_500_000)
    about = "crowd-1.0.dist-info"
    modules[f"{about}/METADATA"] = b"Metadata-Version: 2.1\nName: crowd\nVersion: 1.0\n"
    modules[f"{about}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    rows = []
    for name, content in modules.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}\n")
    modules[f"{about}/RECORD"] = "".join([*rows, f"{about}/RECORD,,\n"]).encode()
    path = folder / "crowd-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in modules.items():
            archive.writestr(name, content)
    return path


def test_pip_installs_into_a_virtual_environment(
    s3: Any, bucket: str, box: Path, shell: Shell, work: Path
) -> None:
    shell(sys.executable, "-m", "venv", box / "venv")
    python = box / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "--disable-pip-version-check", "--no-input")
    package = wheel(work)
    shell(*pip, "install", "--no-index", "--no-cache-dir", package)
    count = "import crowd, pkgutil; print(len(list(pkgutil.iter_modules(crowd.__path__))))"
    assert int(shell(python, "-c", count, cwd=work)) == UNITS * 4
    assert "No broken requirements" in shell(*pip, "check")
    found = [key for key in keys(s3, bucket) if key.endswith("/crowd/large.bin")]
    assert [get(s3, bucket, key) for key in found] == [noise(1_500_000)]
    shell(*pip, "uninstall", "-y", "crowd")
    assert not [key for key in keys(s3, bucket) if "/crowd/" in key]


@pytest.fixture
def attributed(work: Path) -> Path:
    """A tree with owners, modes, holes, links and extended attributes, on a local drive."""
    top = work / "attributed"
    (top / "one" / "two").mkdir(parents=True)
    for number in range(12):
        path = top / "one" / f"file{number}"
        path.write_bytes(noise(number * 9000, number))
        path.chmod(0o400 + number)
        os.setxattr(path, "user.number", str(number).encode())
        if os.geteuid() == 0:
            os.chown(path, 1000 + number, 2000 + number)
    os.setxattr(top / "one", "user.directory", b"\0\1\2")
    (top / "one" / "two").chmod(0o2750)
    with (top / "sparse").open("wb") as file:
        file.seek(5_000_000)
        file.write(b"end")
    os.link(top / "sparse", top / "one" / "two" / "linked")
    (top / "symbolic").symlink_to("one/two/linked")
    for number, path in enumerate(sorted(top.rglob("*"), reverse=True)):
        times = (1, 1_234_567_890_123_456_789 + number)
        os.utime(path, ns=times, follow_symlinks=False)
    return top


def attributes(top: Path) -> dict[str, object]:
    """All that archives keep of a tree."""
    found: dict[str, object] = {}
    groups: dict[int, str] = {}
    for path in sorted(top.rglob("*")):
        seen, name = path.lstat(), str(path.relative_to(top))
        kept: list[object] = [seen.st_mode, seen.st_uid, seen.st_gid, seen.st_mtime_ns]
        if path.is_symlink():
            kept.append(os.readlink(path))
        else:
            kept.append({key: os.getxattr(path, key) for key in sorted(os.listxattr(path))})
        if path.is_file() and not path.is_symlink():
            # Which names are one file, by the first of them.
            content = hashlib.sha256(path.read_bytes()).hexdigest()
            kept += [seen.st_nlink, groups.setdefault(seen.st_ino, name), content]
        found[name] = kept
    return found


@pytest.mark.skipif(not shutil.which("rsync"), reason="rsync is not installed")
def test_rsync_keeps_all_attributes_there_and_back(
    box: Path, attributed: Path, shell: Shell, work: Path
) -> None:
    wanted = attributes(attributed)
    shell("rsync", "-aHAX", "--sparse", f"{attributed}/", box / "copy")
    assert attributes(box / "copy") == wanted
    assert shell("rsync", "-aHAXi", f"{attributed}/", box / "copy") == ""
    shell("rsync", "-aHAX", f"{box / 'copy'}/", box / "again")
    assert attributes(box / "again") == wanted
    shell("rsync", "-aHAX", f"{box / 'again'}/", work / "back")
    assert attributes(work / "back") == wanted
    assert shell("rsync", "-aHAXi", "--checksum", f"{work / 'back'}/", box / "copy") == ""


def test_tar_keeps_all_attributes_there_and_back(
    box: Path, attributed: Path, shell: Shell, work: Path
) -> None:
    wanted = attributes(attributed)
    tar = ("tar", "--format=posix", "--xattrs", "--acls", "--sparse", "--numeric-owner")
    shell(*tar, "-C", attributed, "-cf", box / "tree.tar", ".")
    (box / "copy").mkdir()
    shell(*tar, "-C", box / "copy", "-xpf", box / "tree.tar")
    assert attributes(box / "copy") == wanted
    shell(*tar, "-C", box / "copy", "-cf", work / "back.tar", ".")
    (work / "back").mkdir()
    shell(*tar, "-C", work / "back", "-xpf", work / "back.tar")
    assert attributes(work / "back") == wanted


@pytest.mark.skipif(not shutil.which("fio"), reason="fio is not installed")
@pytest.mark.parametrize(
    ("engine", "more"),
    [
        ("psync", ("--fsync=16",)),
        ("psync", ("--direct=1",)),
        ("mmap", ("--fsync=32",)),
        ("libaio", ("--direct=1", "--iodepth=8")),
    ],
    ids=["buffered", "direct", "mapped", "asynchronous"],
)
def test_fio_reads_what_it_wrote(
    box: Path, shell: Shell, engine: str, more: tuple[str, ...]
) -> None:
    size = "64m" if FULL else "4m"
    options = (
        "--rw=randrw",
        "--bsrange=4k-64k",
        "--blockalign=4k",
        "--numjobs=2",
        "--group_reporting",
    )
    check = ("--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--serialize_overlap=1")
    shell(
        *(
            "fio",
            "--name=job",
            "--verify_state_save=0",
            f"--directory={box}",
            f"--size={size}",
            f"--ioengine={engine}",
        ),
        *(*options, *check, *more),
    )
