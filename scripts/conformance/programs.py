"""What the clients that are programs do against a live server.

Each client is a function of `Bench`; its docstring is the sentence of docs/CONFORMANCE.md. It runs
the program as its makers configured it, checks what comes back, raises when something is wrong,
and returns the program's version.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from place import CACHE, Site

MIB = 1 << 20
PROGRAM_SECONDS_MAX = 1800


@dataclass(frozen=True, slots=True)
class Bench:
    """program: the client's path. folder: scratch, its own. bucket: not made yet."""

    site: Site
    program: Path
    folder: Path
    bucket: str

    def environment(self) -> dict[str, str]:
        """The server's place and key, and nobody's own configuration."""
        variables = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "LANG": "C.UTF-8",
            "AWS_ENDPOINT_URL": self.site.url,
            "AWS_ACCESS_KEY_ID": self.site.root.access,
            "AWS_SECRET_ACCESS_KEY": self.site.root.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.site.authority is not None:
            # boto's, OpenSSL's and Go's names for the same.
            variables["AWS_CA_BUNDLE"] = variables["SSL_CERT_FILE"] = str(self.site.authority)
        return variables

    def run(self, *arguments: str | Path, **variables: str) -> str:
        """The program's output. Raises RuntimeError with what it said if it fails."""
        done = self.start(*arguments, **variables)
        output = done.stdout.decode(errors="replace")
        if done.returncode:
            said = (output + done.stderr.decode(errors="replace"))[-1500:]
            raise RuntimeError(f"{' '.join(map(str, arguments))}: {done.returncode}: {said}")
        return output

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[bytes]:
        """The program to its end, however that is."""
        return subprocess.run(
            [str(self.program), *map(str, arguments)],
            cwd=self.folder,
            env={**self.environment(), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PROGRAM_SECONDS_MAX,
            check=False,
        )

    def tree(self, name: str = "tree") -> Path:
        """Folders with 60 small files, odd names among them, and one of 40 MiB."""
        root = self.folder / name
        pool = random.Random(name)
        for number in range(60):
            path = root / f"sub {number % 4}" / f"file é+{number}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pool.randbytes(number * 100))
        (root / "large").write_bytes(pool.randbytes(40 * MIB))
        return root


class PartlyFailed(Exception):
    """A client with tests of its own: how many passed, and which failed."""

    def __init__(self, counts: str, failures: tuple[str, ...]) -> None:
        super().__init__(counts)
        self.failures = failures


def same(one: Path, two: Path) -> None:
    """Raises AssertionError unless both trees hold the same files with the same bytes."""
    found = [
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (one, two)
    ]
    if found[0] != found[1]:
        differ = sorted(
            str(name)
            for name in found[0].keys() | found[1].keys()
            if found[0].get(name) != found[1].get(name)
        )
        raise AssertionError(f"{one} and {two} differ in {differ[:5]}")


def aws(bench: Bench) -> str:
    """aws s3 mb, rb, sync both ways and again, mv of a tree, rm; s3api: versioning, checksums,
    versions listed and deleted"""
    bucket = f"s3://{bench.bucket}"
    tree = bench.tree()
    bench.run("s3", "mb", bucket)
    bench.run("s3", "rb", bucket)
    bench.run("s3", "mb", bucket)
    bench.run("s3", "sync", tree, f"{bucket}/tree", "--quiet")
    bench.run("s3", "sync", f"{bucket}/tree", bench.folder / "back", "--quiet")
    same(tree, bench.folder / "back")
    if bench.run("s3", "sync", tree, f"{bucket}/tree", "--size-only"):
        raise AssertionError("a second sync had something to do")
    bench.run("s3", "mv", f"{bucket}/tree/sub 0", f"{bucket}/moved", "--recursive", "--quiet")
    bench.run("s3api", "put-bucket-versioning", "--bucket", bench.bucket,
              "--versioning-configuration", "Status=Enabled")  # fmt: skip
    for number in range(3):
        (bench.folder / "body").write_text(str(number))
        bench.run("s3api", "put-object", "--bucket", bench.bucket, "--key", "v",
                  "--body", "body", "--checksum-algorithm", "SHA256")  # fmt: skip
    listed = json.loads(
        bench.run("s3api", "list-object-versions", "--bucket", bench.bucket, "--prefix", "v")
    )
    if len(listed["Versions"]) != 3:
        raise AssertionError(f"three versions were put, {listed} are there")
    bench.run("s3api", "delete-object", "--bucket", bench.bucket, "--key", "v")
    for entry in [*listed["Versions"], *json.loads(
        bench.run("s3api", "list-object-versions", "--bucket", bench.bucket, "--prefix", "v")
    )["DeleteMarkers"]]:  # fmt: skip
        bench.run("s3api", "delete-object", "--bucket", bench.bucket, "--key", "v",
                  "--version-id", entry["VersionId"])  # fmt: skip
    bench.run("s3api", "put-bucket-versioning", "--bucket", bench.bucket,
              "--versioning-configuration", "Status=Suspended")  # fmt: skip
    bench.run("s3", "rm", bucket, "--recursive", "--quiet")
    return bench.run("--version").split()[0].partition("/")[2]


def s3cmd(bench: Bench) -> str:
    """mb, sync both ways with multipart, ls, cp, mv, info, setting a tag, del of a tree, rb"""
    configuration = bench.folder / "s3cfg"
    place = f"{bench.site.host}:{bench.site.port}"
    configuration.write_text(
        f"[default]\naccess_key = {bench.site.root.access}\nsecret_key = {bench.site.root.secret}\n"
        f"host_base = {place}\nhost_bucket = {place}\n"
        f"use_https = {bench.site.authority is not None}\n"
        + (f"ca_certs_file = {bench.site.authority}\n" if bench.site.authority else "")
    )

    def run(*arguments: str | Path) -> str:
        return bench.run("-c", configuration, "--no-progress", *arguments)

    bucket, tree = f"s3://{bench.bucket}", bench.tree()
    run("mb", bucket)
    run("sync", f"{tree}/", f"{bucket}/tree/")
    run("sync", f"{bucket}/tree/", f"{bench.folder}/back/")
    same(tree, bench.folder / "back")
    if len(run("ls", "--recursive", bucket).splitlines()) != 61:
        raise AssertionError("not all is listed")
    run("cp", f"{bucket}/tree/large", f"{bucket}/copy")
    run("mv", f"{bucket}/copy", f"{bucket}/moved")
    if "42949" not in run("info", f"{bucket}/moved") and "41943040" not in run(
        "info", f"{bucket}/moved"
    ):
        raise AssertionError("info tells another size")
    run("settagging", f"{bucket}/moved", "a=b")
    run("del", "--recursive", "--force", bucket)
    run("rb", bucket)
    return run("--version").split()[-1]


def rclone(bench: Bench) -> str:
    """copy with multipart, check --download, sync with deletions, check, moveto, lsjson, copyto,
    purge"""
    flags = {
        "RCLONE_CONFIG": os.devnull,
        "RCLONE_CONFIG_HERE_TYPE": "s3",
        "RCLONE_CONFIG_HERE_PROVIDER": "Other",
        "RCLONE_CONFIG_HERE_ENV_AUTH": "true",
        "RCLONE_CONFIG_HERE_ENDPOINT": bench.site.url,
        "RCLONE_CONFIG_HERE_REGION": "us-east-1",
    }
    tree, there = bench.tree(), f"here:{bench.bucket}/tree"
    bench.run("mkdir", f"here:{bench.bucket}", **flags)
    bench.run("copy", tree, there, "--s3-upload-cutoff", "10M", **flags)
    bench.run("check", "--download", tree, there, **flags)
    (tree / "sub 1" / "file é+1.txt").unlink()
    (tree / "sub 2" / "new").write_bytes(b"new")
    bench.run("sync", tree, there, **flags)
    bench.run("check", tree, there, **flags)
    bench.run("moveto", f"{there}/large", f"here:{bench.bucket}/moved", **flags)
    listed = json.loads(bench.run("lsjson", "--hash", f"here:{bench.bucket}/moved", **flags))
    if listed[0]["Size"] != 40 * MIB:
        raise AssertionError(f"lsjson tells {listed}")
    bench.run("copyto", f"here:{bench.bucket}/moved", bench.folder / "back", **flags)
    if (bench.folder / "back").read_bytes() != (tree / "large").read_bytes():
        raise AssertionError("the moved file came back changed")
    bench.run("purge", f"here:{bench.bucket}", **flags)
    return bench.run("version", **flags).split()[1].lstrip("v")


def s5cmd(bench: Bench) -> str:
    """mb, cp of a tree in parallel with multipart, sync, ls, du, mv, cat, rm by wildcard, rb"""
    flags = {"S3_ENDPOINT_URL": bench.site.url}
    bucket, tree = f"s3://{bench.bucket}", bench.tree()
    bench.run("mb", bucket, **flags)
    bench.run("cp", "--part-size", "5", f"{tree}/", f"{bucket}/tree/", **flags)
    bench.run("sync", f"{bucket}/tree/*", f"{bench.folder}/back/", **flags)
    same(tree, bench.folder / "back")
    if len(bench.run("ls", f"{bucket}/tree/*", **flags).splitlines()) != 61:
        raise AssertionError("not all is listed")
    bench.run("mv", f"{bucket}/tree/large", f"{bucket}/moved", **flags)
    bench.run("cp", f"{bucket}/moved", bench.folder / "large", **flags)
    if (bench.folder / "large").read_bytes() != (tree / "large").read_bytes():
        raise AssertionError("the moved file came back changed")
    bench.run("rm", f"{bucket}/*", **flags)
    bench.run("rb", bucket, **flags)
    return bench.run("version", **flags).split()[0].lstrip("v")


def restic(bench: Bench) -> str:
    """init, two backups of a tree, snapshots, forget with prune, check --read-data, restore"""
    flags = {
        "RESTIC_REPOSITORY": f"s3:{bench.site.url}/{bench.bucket}/repository",
        "RESTIC_PASSWORD": "conformance",
    }
    tree = bench.tree()
    bench.run("init", **flags)
    bench.run("backup", "tree", **flags)
    (tree / "sub 1" / "file é+1.txt").unlink()
    (tree / "sub 2" / "new").write_bytes(random.Random(1).randbytes(5 * MIB))
    bench.run("backup", "tree", **flags)
    if len(json.loads(bench.run("snapshots", "--json", **flags))) != 2:
        raise AssertionError("there are not two snapshots")
    bench.run("forget", "--keep-last", "1", "--prune", **flags)
    bench.run("check", "--read-data", **flags)
    bench.run("restore", "latest", "--target", bench.folder / "back", **flags)
    same(tree, bench.folder / "back" / "tree")
    return bench.run("version", **flags).split()[1]


def minio_go(bench: Bench) -> str:
    """minio-go's own functional tests, all of them; not applicable are those that were told
    NotImplemented"""
    flags = {
        "SERVER_ENDPOINT": f"{bench.site.host}:{bench.site.port}",
        "ACCESS_KEY": bench.site.root.access,
        "SECRET_KEY": bench.site.root.secret,
        "ENABLE_HTTPS": "1" if bench.site.authority else "0",
        "MINT_MODE": "full",
        "RUN_ON_FAIL": "1",
    }
    done = bench.start(**flags)
    lines: list[Any] = []
    for text in done.stdout.decode(errors="replace").splitlines():
        with suppress(ValueError):
            lines.append(json.loads(text))
    (CACHE / "results" / f"minio-go-{bench.site.scheme}.json").write_text(
        json.dumps(lines, indent=1)
    )
    told = [line for line in lines if isinstance(line, dict) and "status" in line]
    by_status: dict[str, set[str]] = {}
    for line in told:
        name = str(line.get("name", "")).removeprefix("minio-go: ")
        by_status.setdefault(line["status"], set()).add(name)
    passed, failed, absent = (by_status.get(each, set()) for each in ("PASS", "FAIL", "NA"))
    if not passed:
        raise RuntimeError(done.stderr.decode(errors="replace")[-1500:])
    names = passed | failed | absent
    counts = (
        f"{len(passed - failed)} of {len(names)}, {len(absent - passed - failed)} not applicable"
    )
    if failed:
        raise PartlyFailed(counts, tuple(sorted(failed)))
    return ""


CLIENTS: dict[str, Callable[[Bench], str]] = {
    "aws": aws,
    "s3cmd": s3cmd,
    "rclone": rclone,
    "s5cmd": s5cmd,
    "restic": restic,
    "minio-go-tests": minio_go,
}
