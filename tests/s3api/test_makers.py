"""Who owns on the mount what a key stores: uid, gid and umask of the key (rule R13)."""

from __future__ import annotations

import itertools
import stat

import pytest
import trio

from metadb.records import ROOT as ROOT_INODE
from store.identity.records import User
from tests.s3api.conftest import ALICE
from tests.s3api.iamclients import client_of, document
from tests.s3api.permissions import World

_names = itertools.count(1)


@pytest.fixture
def keyed(endpoint):
    """A bucket of alice, and a client whose key stands for uid 1001, gid 1002, umask 027."""
    world = World(endpoint)
    identity, name = endpoint.namespace.identity, f"maker-{next(_names)}"
    world.do(identity.holders.create_user, ALICE.account.id, name, tags={})
    world.do(identity.holders.put_inline, ALICE.account.id, User, name, "all", document())
    made = world.do(identity.keys.create, ALICE.account.id, name, uid=1001, gid=1002, umask=0o027)
    return world, client_of(endpoint, "s3", made.key.id, made.secret)


def owner_of(world, *path):
    """(uid, gid, mode) of what stands there on the mount."""

    async def look():
        files, row = world.endpoint.namespace.files, None
        for name in path:
            row = files.lookup(ROOT_INODE if row is None else row.id, name.encode())
        return row.uid, row.gid, stat.S_IMODE(row.mode)

    return trio.from_thread.run(look, trio_token=world.endpoint.token)


def test_what_a_key_stores_belongs_to_its_user(keyed):
    world, s3 = keyed
    bucket = world.bucket
    s3.put_object(Bucket=bucket, Key="d/put", Body=b"x")
    s3.copy_object(Bucket=bucket, Key="d/copied", CopySource=f"{bucket}/k")
    upload = {"Bucket": bucket, "Key": "d/parts"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    part = {"PartNumber": 1, "ETag": s3.upload_part(PartNumber=1, Body=b"x", **upload)["ETag"]}
    s3.complete_multipart_upload(MultipartUpload={"Parts": [part]}, **upload)
    for name in ("put", "copied", "parts"):
        assert owner_of(world, bucket, "d", name) == (1001, 1002, 0o640), name
    assert owner_of(world, bucket, "d") == (1001, 1002, 0o750)
    s3.rename_object(Bucket=bucket, Key="moved/k", RenameSource=f"{bucket}/d/put")
    assert owner_of(world, bucket, "moved") == (1001, 1002, 0o750)
    assert owner_of(world, bucket, "moved", "k") == (1001, 1002, 0o640)
    s3.create_bucket(Bucket=f"{bucket}-own")
    assert owner_of(world, f"{bucket}-own") == (1001, 1002, 0o750)


def test_what_others_store_belongs_to_the_daemon(keyed, s3):
    world, _ = keyed
    mine = owner_of(world, world.bucket, "k")
    s3.put_object(Bucket=world.bucket, Key="root", Body=b"x")
    assert owner_of(world, world.bucket, "root") == mine
    assert mine[2] == 0o644


def test_an_object_that_is_replaced_belongs_to_who_replaced_it(keyed):
    world, s3 = keyed
    s3.put_object(Bucket=world.bucket, Key="k", Body=b"y")
    assert owner_of(world, world.bucket, "k") == (1001, 1002, 0o640)
