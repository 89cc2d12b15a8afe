"""Two people with a key and a uid each, at both doors of one store (rule R13)."""

from __future__ import annotations

import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.daemon.harness import HAS_FUSE, DaemonHarness
from tests.fusefs.users import errno_as, needs_root

pytestmark = [
    pytest.mark.slow,
    needs_root,
    pytest.mark.skipif(not HAS_FUSE, reason="there is no /dev/fuse to mount with"),
]

ANNA, BERT, TEAM = 3001, 3002, 3100
READ = "open(sys.argv[1], 'rb').read()"
APPEND = "open(sys.argv[1], 'ab').write(b'x')"


@dataclass(frozen=True, slots=True)
class People:
    """anna: uid 3001, umask 077. bert: uid 3002, group 3100, umask 027. box: Bert's bucket."""

    harness: DaemonHarness
    anna: Any
    bert: Any
    box: Path


@pytest.fixture(scope="module")
def people() -> Iterator[People]:
    anna = ("anna-key", "a-secret-of-anna")
    bert = ("bert-key", "a-secret-of-bert")
    users = [
        _user("anna", anna, uid=ANNA, gid=ANNA, umask=0o077),
        _user("bert", bert, uid=BERT, gid=TEAM, umask=0o027),
    ]
    with tempfile.TemporaryDirectory(prefix="twofold-") as name:
        os.chmod(name, 0o755)
        with DaemonHarness(Path(name), settings={"s3.users": users}) as harness:
            clients = harness.client(key=anna), harness.client(key=bert)
            clients[1].create_bucket(Bucket="box")
            allowed = {
                "Effect": "Allow",
                "Principal": "*",
                "Action": ["s3:PutObject", "s3:PutObjectAcl"],
                "Resource": "arn:aws:s3:::box/for-all/*",
            }
            clients[1].delete_public_access_block(Bucket="box")
            clients[1].put_bucket_policy(
                Bucket="box", Policy=json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
            )
            yield People(harness, *clients, harness.mount / "box")


def _user(name: str, key: tuple[str, str], **maker: int) -> dict[str, object]:
    return {"name": name, "access_key": key[0], "secret_key": key[1], **maker}


def refused(client: Any, operation: str, **arguments: object) -> str:
    with pytest.raises(ClientError) as caught:
        getattr(client, operation)(Bucket="box", **arguments)
    return str(caught.value.response["Error"]["Code"])


def owner(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)


def test_what_a_key_stores_is_its_users_on_the_mount_and_closed_to_others(people: People) -> None:
    people.bert.put_object(Bucket="box", Key="d/plan", Body=b"abc")
    plan = people.box / "d" / "plan"
    assert owner(people.box) == (BERT, TEAM, 0o750)
    assert owner(plan) == (BERT, TEAM, 0o640)
    assert errno_as(BERT, READ, plan) == errno_as(BERT, APPEND, plan) == 0
    assert errno_as(ANNA, READ, plan) == errno_as(ANNA, APPEND, plan) == errno.EACCES
    assert errno_as(ANNA, READ, plan, groups=(TEAM,)) == 0
    assert errno_as(ANNA, APPEND, plan, groups=(TEAM,)) == errno.EACCES
    # At the other door: what Bert wrote here is his key's there, and nothing for Anna's.
    assert people.bert.get_object(Bucket="box", Key="d/plan")["Body"].read() == b"abcx"
    assert refused(people.anna, "get_object", Key="d/plan") == "AccessDenied"
    assert refused(people.anna, "put_object", Key="d/plan", Body=b"") == "AccessDenied"


def test_in_one_bucket_each_owns_what_is_theirs(people: People) -> None:
    people.bert.put_object(Bucket="box", Key="for-all/berts", Body=b"b")
    people.anna.put_object(Bucket="box", Key="for-all/annas", Body=b"a")
    annas, berts = people.box / "for-all" / "annas", people.box / "for-all" / "berts"
    assert owner(annas) == (ANNA, ANNA, 0o600)
    os.chmod(people.box, 0o755)
    os.chmod(people.box / "for-all", 0o755)
    assert errno_as(ANNA, READ, annas) == errno_as(BERT, READ, berts) == 0
    assert errno_as(BERT, READ, annas) == errno_as(ANNA, READ, berts) == errno.EACCES


def test_policies_are_for_keys_and_mode_bits_for_programs(people: People) -> None:
    """Neither door asks the other: SEMANTICS.md, R13."""
    people.anna.put_object(Bucket="box", Key="for-all/letter", Body=b"to be read")
    letter = people.box / "for-all" / "letter"
    os.chmod(people.box, 0o755)
    os.chmod(people.box / "for-all", 0o755)
    # Bert's key may read his own bucket; his programs may not read Anna's file.
    assert people.bert.get_object(Bucket="box", Key="for-all/letter")["Body"].read()
    assert errno_as(BERT, READ, letter) == errno.EACCES
    # Anna's key was only given PutObject; her programs own the file.
    assert refused(people.anna, "get_object", Key="for-all/letter") == "AccessDenied"
    assert errno_as(ANNA, READ, letter) == errno_as(ANNA, APPEND, letter) == 0


def test_what_programs_make_is_the_bucket_owners_at_the_other_door(people: People) -> None:
    people.bert.put_object(Bucket="box", Key="shared/first", Body=b"")
    folder = people.box / "shared"
    os.chmod(people.box, 0o755)
    os.chmod(folder, 0o1777)
    made = folder / "annas"
    assert errno_as(ANNA, "open(sys.argv[1], 'wb').write(b'abc')", made, umask=0o077) == 0
    assert owner(made) == (ANNA, ANNA, 0o600)
    assert people.bert.get_object(Bucket="box", Key="shared/annas")["Body"].read() == b"abc"
    assert refused(people.anna, "get_object", Key="shared/annas") == "AccessDenied"
    assert errno_as(BERT, READ, made) == errno.EACCES


@pytest.mark.parametrize("bits", [0o4000, 0o2000, 0o6000])
def test_set_id_bits_set_at_one_door_do_not_survive_a_write_at_the_other(
    people: People, bits: int
) -> None:
    tool = people.box / "for-all" / "tool"
    people.anna.put_object(Bucket="box", Key="for-all/tool", Body=b"#!/bin/true")
    chmod = f"os.chmod(sys.argv[1], {bits | 0o755:#o})"
    os.chmod(people.box, 0o755)
    os.chmod(people.box / "for-all", 0o755)
    assert errno_as(ANNA, chmod, tool) == 0
    assert owner(tool) == (ANNA, ANNA, bits | 0o755)
    kept = os.open(tool, os.O_RDONLY)
    # A copy through S3 is Bert's, and has no right of Anna's; nor has what is put over it.
    source = {"Bucket": "box", "Key": "for-all/tool"}
    people.bert.copy_object(Bucket="box", Key="for-all/copy", CopySource=source)
    assert owner(people.box / "for-all" / "copy") == (BERT, TEAM, 0o640)
    people.bert.put_object(Bucket="box", Key="for-all/tool", Body=b"#!/bin/evil")
    assert owner(tool) == (BERT, TEAM, 0o640)
    # Who has the old file open has the old bytes, too, and they are Anna's.
    assert stat.S_IMODE(os.fstat(kept).st_mode) == bits | 0o755
    assert os.read(kept, 99) == b"#!/bin/true"
    os.close(kept)
    upload = people.bert.create_multipart_upload(Bucket="box", Key="for-all/tool")["UploadId"]
    assert errno_as(BERT, chmod, tool) == 0
    named = {"Bucket": "box", "Key": "for-all/tool", "UploadId": upload}
    part = people.bert.upload_part(PartNumber=1, Body=b"x", **named)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    people.bert.complete_multipart_upload(MultipartUpload=parts, **named)
    assert owner(tool) == (BERT, TEAM, 0o640)
