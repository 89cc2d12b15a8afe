"""Extended attributes and the S3 metadata among them (rule R11)."""

from __future__ import annotations

import os

import pytest

from store import errors
from store.types import ObjectMeta
from tests.store.bodies import BytesBody
from tests.store.conftest import Opened
from tests.store.posix import CALLER, box, broken, made


async def test_s3_metadata_shows_as_attributes(opened: Opened) -> None:
    files = opened.namespace.files
    meta = ObjectMeta(content_type="text/x", user={"a": "1"}, tags={"t g": "2"})
    await opened.namespace.objects.put("box", "d/f", BytesBody(b"abc"), meta)
    inode = files.lookup(files.lookup(box(files), b"d").id, b"f").id
    shown = {name: files.getxattr(inode, name) for name in files.listxattr(inode)}
    assert shown == {
        b"user.mime_type": b"text/x",
        b"user.s3.meta.a": b"1",
        b"user.s3.tag.t g": b"2",
    }
    # Read only, so no program that copies attributes is to find them.
    assert files.getxattr(inode, b"user.s3.key") == b"d/f"
    assert files.getxattr(inode, b"user.s3.etag") == b"900150983cd24fb0d6963f7d28e17f72"


async def test_attributes_become_s3_metadata(opened: Opened) -> None:
    files, objects = opened.namespace.files, opened.namespace.objects
    inode = await made(files, box(files), b"f", b"abc")
    etag = objects.stat("box", "f").etag
    files.setxattr(inode, b"user.mime_type", b"image/png", 0)
    files.setxattr(inode, b"user.s3.meta.author", "Zoë".encode(), 0)
    files.setxattr(inode, b"user.s3.tag.Stage", b"raw", 0)
    meta = objects.stat("box", "f").meta
    assert (meta.content_type, meta.user, meta.tags) == (
        "image/png",
        {"author": "Zoë"},
        {"Stage": "raw"},
    )
    assert objects.stat("box", "f").etag == etag
    for name in (b"user.mime_type", b"user.s3.meta.author", b"user.s3.tag.Stage"):
        files.removexattr(inode, name)
        with pytest.raises(errors.NoSuchAttribute):
            files.removexattr(inode, name)
    assert objects.stat("box", "f").meta == ObjectMeta()


@pytest.mark.parametrize("name", [b"user.own", b"user.s3.meta.k", b"user.mime_type"])
async def test_create_and_replace_are_honoured(opened: Opened, name: bytes) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f")
    with pytest.raises(errors.NoSuchAttribute):
        files.setxattr(inode, name, b"1", os.XATTR_REPLACE)
    files.setxattr(inode, name, b"1", os.XATTR_CREATE)
    with pytest.raises(errors.AttributeExists):
        files.setxattr(inode, name, b"2", os.XATTR_CREATE)
    files.setxattr(inode, name, b"3", os.XATTR_REPLACE)
    assert files.getxattr(inode, name) == b"3"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        (b"security.selinux", b"x", errors.Denied),
        (b"trusted.x", b"x", errors.Denied),
        (b"system.posix_acl_access", b"x", errors.Denied),
        (b"user.", b"x", errors.Denied),
        (b"user.s3.etag", b"x", errors.Denied),
        (b"user.s3.key", b"x", errors.Denied),
        (b"user.s3.other", b"x", errors.InvalidArgument),
        (b"user.s3.meta.Upper", b"x", errors.InvalidArgument),
        (b"user.s3.meta.", b"x", errors.InvalidArgument),
        (b"user.s3.meta.k", b"\xff", errors.InvalidArgument),
        (b"user.s3.meta.k", b"a\r\nb", errors.InvalidArgument),
        (b"user.s3.meta.k", b"x" * 2048, errors.MetadataTooLarge),
        (b"user.s3.tag.k", b"x" * 257, errors.MetadataTooLarge),
        (b"user.s3.tag." + b"k" * 129, b"x", errors.MetadataTooLarge),
        (b"user.s3.tag.\xff", b"x", errors.InvalidArgument),
        (b"user.x", b"x" * 65_537, errors.MetadataTooLarge),
        (b"user." + b"x" * 251, b"x", errors.NameTooLong),
    ],
)
async def test_what_can_not_be_kept_is_refused(
    opened: Opened, name: bytes, value: bytes, error: type[errors.StoreError]
) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f", b"abc")
    with pytest.raises(error):
        files.setxattr(inode, name, value, 0)
    assert files.listxattr(inode) == []


async def test_names_outside_of_user_are_not_there(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f")
    for name in (b"security.capability", b"system.posix_acl_access", b"user.s3.meta.\xff"):
        with pytest.raises(errors.NoSuchAttribute):
            files.getxattr(inode, name)


async def test_ten_tags_fit_and_no_more(opened: Opened) -> None:
    files = opened.namespace.files
    inode = await made(files, box(files), b"f")
    for index in range(10):
        files.setxattr(inode, b"user.s3.tag.%d" % index, b"v", 0)
    with pytest.raises(errors.MetadataTooLarge):
        files.setxattr(inode, b"user.s3.tag.10", b"v", 0)


async def test_the_sum_of_an_inodes_attributes_is_bounded(opened: Opened) -> None:
    files = opened.namespace.files
    directory = files.mkdir(box(files), b"d", 0o755, CALLER).id
    for index in range(3):
        files.setxattr(directory, b"user.%d" % index, b"x" * 65_536, 0)
    with pytest.raises(errors.MetadataTooLarge):
        files.setxattr(directory, b"user.last", b"x" * 65_536, 0)


async def test_directories_have_attributes_of_their_own_alone(opened: Opened) -> None:
    files = opened.namespace.files
    directory = files.mkdir(box(files), b"d", 0o755, CALLER).id
    files.setxattr(directory, b"user.mime_type", b"x", 0)
    files.setxattr(directory, b"user.own", b"y", 0)
    with pytest.raises(errors.Denied):
        files.setxattr(directory, b"user.s3.meta.k", b"v", 0)
    assert files.listxattr(directory) == [b"user.mime_type", b"user.own"]
    files.rmdir(box(files), b"d")
    assert not broken(opened.namespace)
