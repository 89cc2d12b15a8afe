"""Keys that POSIX can't hold and names that S3 can't: each by both doors, none aliased (R1 to R3).

One bucket holds them all at once, which is what makes an alias show.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from tests.cases.doors import fails, get, keys, prefixes, put, refused

LONG = "l" * 900
LONG_TAG = "%tf.long."
LONG_NAME = LONG_TAG + hashlib.sha256(LONG.encode()).hexdigest()[:32]
COMPONENT_255 = "n" * 255
COMPONENT_256 = "n" * 256
KEY_1024 = "/".join(["k" * 204] * 5)

# Each key, and its path below the bucket on the mount.
PATHS = {
    "a": "a/%tf.data",
    "a/b": "a/b",
    "b": "b",
    "c": "c/%tf.data",
    "c/": "c/%tf.empty",
    "c/d/e": "c/d/e",
    "body/": "body/%tf.empty",
    "body/x": "body/x",
    "x//y": "x/%tf.empty/y",
    "x/y": "x/y",
    "x///y": "x/%tf.empty/%tf.empty/y",
    "/leading": "%tf.empty/leading",
    "leading": "leading",
    "//two": "%tf.empty/%tf.empty/two",
    ".": "%tf.dot",
    "..": "%tf.dotdot/%tf.data",
    "../up": "%tf.dotdot/up",
    "p/..": "p/%tf.dotdot/%tf.data",
    "p/../q": "p/%tf.dotdot/q/%tf.data",
    "p/../q/.": "p/%tf.dotdot/q/%tf.dot",
    "q": "q",
    "...": "...",
    ".hidden": ".hidden",
    "p/./q": "p/%tf.dot/q",
    LONG: f"{LONG_NAME}/%tf.data",
    f"{LONG}/z": f"{LONG_NAME}/z",
    COMPONENT_255: COMPONENT_255,
    COMPONENT_256: LONG_TAG + hashlib.sha256(COMPONENT_256.encode()).hexdigest()[:32],
    KEY_1024: KEY_1024,
    "𝛼/🜂 .𐍈": "𝛼/🜂 .𐍈",
    "é": "é",
    "e\u0301": "e\u0301",
    "%tf.": "%tf.lit.",
    "%tf.dot": "%tf.lit.dot",
    "%tf.data": "%tf.lit.data",
    "%tf.lit.dot": "%tf.lit.lit.dot",
    "%tf.b.gg": "\udc82",
    "%tf.b.YQ": "%tf.lit.b.YQ",
    "%tf": "%tf",
    "with space": "with space",
    " ": " ",
    "plus+and%2B": "plus+and%2B",
    "plus and+": "plus and+",
    "100%": "100%",
    "what?x=1&y#z": "what?x=1&y#z",
    "back\\slash": "back\\slash",
    "new\nline": "new\nline",
    "tab\tret\rbell\x07\x7f": "tab\tret\rbell\x07\x7f",
    "quote'\"<&>*;:@=~`|": "quote'\"<&>*;:@=~`|",
    "UPPER": "UPPER",
    "upper": "upper",
}


@pytest.fixture(scope="module")
def keep(s3: Any) -> str:
    """One bucket with every key; the body of each tells which it is."""
    s3.create_bucket(Bucket="keep")
    for key in PATHS:
        put(s3, "keep", key, f"body of {key}".encode())
    return "keep"


def body_of(key: str) -> bytes:
    return f"body of {key}".encode()


@pytest.mark.parametrize("key", PATHS, ids=lambda key: ascii(key)[:40])
def test_a_key_is_reached_by_both_doors(s3: Any, keep: str, mount: Path, key: str) -> None:
    path = mount / keep / PATHS[key]
    assert get(s3, keep, key) == body_of(key)
    assert s3.head_object(Bucket=keep, Key=key)["ContentLength"] == len(body_of(key))
    with path.open("rb") as file:
        assert file.read() == body_of(key)
    assert os.getxattr(path, "user.s3.key") == key.encode()


def test_a_listing_gives_each_key_once_in_byte_order(s3: Any, keep: str) -> None:
    wanted = sorted(PATHS, key=str.encode)
    for size in (1000, 7, 1):
        assert keys(s3, keep, PaginationConfig={"PageSize": size}) == wanted


def test_a_delimited_listing_gives_each_prefix_once(s3: Any, keep: str) -> None:
    wanted = sorted({key[: key.index("/") + 1] for key in PATHS if "/" in key}, key=str.encode)
    assert prefixes(s3, keep) == wanted
    assert prefixes(s3, keep, Prefix="x/") == ["x//"]
    assert keys(s3, keep, Prefix="x//") == ["x///y", "x//y"]
    assert keys(s3, keep, Prefix="..") == ["..", "...", "../up"]


def test_a_walk_over_the_mount_finds_each_key_once(keep: str, mount: Path) -> None:
    found = []
    for folder, _, files in os.walk(mount / keep):
        found += [os.getxattr(f"{folder}/{name}", "user.s3.key").decode() for name in files]
    assert sorted(found) == sorted(PATHS)


def test_a_key_written_by_its_posix_name_is_that_key(s3: Any, bucket: str, box: Path) -> None:
    # All but those only S3 can make: a name that stands for over 255 bytes is not invented, and
    # under a name a program on the mount makes a file or a directory, not both.
    made = [key for key, path in PATHS.items() if "%tf.data" not in path and LONG_TAG not in path]
    for key in made:
        (box / PATHS[key]).parent.mkdir(parents=True, exist_ok=True)
        (box / PATHS[key]).write_bytes(body_of(key))
    assert keys(s3, bucket) == sorted(made, key=str.encode)
    for key in made:
        assert get(s3, bucket, key) == body_of(key)


def test_a_name_that_is_not_utf_8_is_a_key_of_its_own(s3: Any, bucket: str, box: Path) -> None:
    root = os.fsencode(box)
    names = [b"\xff\xfe", b"caf\xe9", b"\xed\xa0\x80", b"\xc0\xaf", b"\xff" * 255]
    for name in names:
        with open(root + b"/" + name, "wb") as file:
            file.write(b"body of " + name)
    found = {base64.urlsafe_b64decode(key[6:] + "==="): key for key in keys(s3, bucket)}
    assert sorted(found) == sorted(names)
    for name, key in found.items():
        assert key.startswith("%tf.b.")
        assert get(s3, bucket, key) == b"body of " + name
        put(s3, bucket, key, b"new body of " + name)
        with open(root + b"/" + name, "rb") as file:
            assert file.read() == b"new body of " + name
    assert sorted(os.listdir(root)) == sorted(names)


def test_a_key_without_its_slash_is_not_its_directory(s3: Any, bucket: str) -> None:
    put(s3, bucket, "d/e", b"x")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="d")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="d/")
    put(s3, bucket, "d/")
    with refused("404"):
        s3.head_object(Bucket=bucket, Key="d")
    assert s3.head_object(Bucket=bucket, Key="d/")["ContentLength"] == 0


def test_an_empty_marker_comes_and_goes_without_its_children(
    s3: Any, bucket: str, box: Path
) -> None:
    put(s3, bucket, "d/")
    assert (box / "d").is_dir()
    assert os.listdir(box / "d") == []
    (box / "d" / "e").write_bytes(b"x")
    assert keys(s3, bucket) == ["d/", "d/e"]
    s3.delete_object(Bucket=bucket, Key="d/")
    assert keys(s3, bucket) == ["d/e"]
    assert (box / "d" / "e").read_bytes() == b"x"


def test_a_marker_with_a_body_holds_its_directory(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "d/", b"body")
    assert (box / "d" / "%tf.empty").read_bytes() == b"body"
    with fails(errno.ENOTEMPTY):
        (box / "d").rmdir()
    s3.delete_object(Bucket=bucket, Key="d/")
    assert not (box / "d").exists()


def test_a_body_moves_with_its_directory_and_blocks_rmdir(s3: Any, bucket: str, box: Path) -> None:
    put(s3, bucket, "a", b"leaf")
    put(s3, bucket, "a/b", b"below")
    (box / "a").rename(box / "z")
    assert keys(s3, bucket) == ["z", "z/b"]
    assert get(s3, bucket, "z") == b"leaf"
    (box / "z" / "b").unlink()
    with fails(errno.ENOTEMPTY):
        (box / "z").rmdir()
    (box / "z" / "%tf.data").unlink()
    (box / "z").rmdir()
    assert keys(s3, bucket) == []


def test_keys_that_can_not_be_are_refused(s3: Any, bucket: str) -> None:
    with refused("KeyTooLongError"):
        put(s3, bucket, "k" * 1025)
    with refused("InvalidArgument"):
        put(s3, bucket, "nul\0nul")
    assert keys(s3, bucket) == []


def test_names_that_can_not_be_are_refused(s3: Any, bucket: str, box: Path) -> None:
    with fails(errno.ENAMETOOLONG):
        (box / ("n" * 256)).write_bytes(b"")
    for name in ("%tf.nothing", "%tf.long.x", "%tf.empty"):
        with fails(errno.EINVAL):
            (box / name).write_bytes(b"")
        with fails(errno.ENOENT):
            (box / name).stat()
    assert keys(s3, bucket) == []


def test_a_path_over_1024_bytes_is_read_by_s3_but_not_put(s3: Any, bucket: str, box: Path) -> None:
    deep = box
    for _ in range(6):
        deep = deep / ("d" * 200)
        deep.mkdir()
    (deep / "file").write_bytes(b"deep")
    key = "/".join(["d" * 200] * 6) + "/file"
    assert keys(s3, bucket) == [key]
    assert get(s3, bucket, key) == b"deep"
    with refused("KeyTooLongError"):
        put(s3, bucket, key, b"new")
    assert (deep / "file").read_bytes() == b"deep"
