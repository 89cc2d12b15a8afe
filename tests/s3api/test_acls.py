"""ACLs and object ownership: off by default, and held to where a bucket lets them count."""

from __future__ import annotations

import contextlib
import itertools

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from s3api.credentials import ROOT
from tests.s3api.conftest import ALICE, BOB
from tests.s3api.raw import send
from tests.s3api.test_forms import post
from tests.s3api.test_objects import code_of

_numbers = itertools.count(1)
ALL_USERS = "http://acs.amazonaws.com/groups/global/AllUsers"
ENFORCED, PREFERRED, WRITER = "BucketOwnerEnforced", "BucketOwnerPreferred", "ObjectWriter"


@pytest.fixture
def alice(endpoint):
    return endpoint.client(who=ALICE)


@pytest.fixture
def bob(endpoint):
    return endpoint.client(who=BOB)


@pytest.fixture(scope="module")
def nobody(endpoint):
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{endpoint.port}",
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}),
    )


@pytest.fixture
def make(alice):
    """Makes a bucket of alice with an ownership setting, and with nothing blocked."""

    def made(ownership=WRITER, acl=None):
        name = f"acls-{next(_numbers)}"
        alice.create_bucket(Bucket=name, ObjectOwnership=ownership)
        alice.delete_public_access_block(Bucket=name)
        if acl:
            alice.put_bucket_acl(Bucket=name, ACL=acl)
        return name

    return made


def denied(call, *, code="AccessDenied", status=403, **arguments):
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    assert code_of(caught) == (status, code)


def grants_of(acl):
    return {
        (one["Grantee"].get("ID") or one["Grantee"]["URI"], one["Permission"])
        for one in acl["Grants"]
    }


def test_a_new_bucket_has_no_acls(alice, bob):
    bucket = f"acls-{next(_numbers)}"
    alice.create_bucket(Bucket=bucket)
    found = alice.get_bucket_ownership_controls(Bucket=bucket)
    assert found["OwnershipControls"]["Rules"] == [{"ObjectOwnership": ENFORCED}]
    denied(
        alice.put_object,
        Bucket=bucket,
        Key="k",
        ACL="public-read",
        status=400,
        code="AccessControlListNotSupported",
    )
    denied(
        alice.put_bucket_acl,
        Bucket=bucket,
        ACL="public-read",
        status=400,
        code="AccessControlListNotSupported",
    )
    alice.put_object(Bucket=bucket, Key="k", ACL="bucket-owner-full-control")


def test_public_acls_are_blocked_in_a_new_bucket(alice):
    bucket = f"acls-{next(_numbers)}"
    denied(alice.create_bucket, Bucket=bucket, ObjectOwnership=WRITER, ACL="public-read")
    denied(
        alice.create_bucket,
        Bucket=bucket,
        ACL="public-read",
        status=400,
        code="InvalidBucketAclWithObjectOwnership",
    )
    alice.create_bucket(Bucket=bucket, ObjectOwnership=WRITER, ACL="private")
    for call in (alice.put_bucket_acl, lambda **more: alice.put_object(Key="k", **more)):
        denied(call, Bucket=bucket, ACL="public-read")


@pytest.mark.parametrize(
    ("ownership", "acl", "owner"),
    [
        (WRITER, None, BOB),
        (WRITER, "bucket-owner-full-control", BOB),
        (PREFERRED, None, BOB),
        (PREFERRED, "bucket-owner-full-control", ALICE),
        (ENFORCED, None, ALICE),
        (ENFORCED, "bucket-owner-full-control", ALICE),
    ],
)
def test_an_object_belongs_to_whom_the_setting_says(make, alice, bob, s3, ownership, acl, owner):
    bucket = make(WRITER, "public-read-write")
    if ownership == ENFORCED:
        alice.put_bucket_acl(Bucket=bucket, ACL="private")
        grant = {
            "Effect": "Allow",
            "Principal": "*",
            "Action": ["s3:PutObject", "s3:GetObject", "s3:ListBucket"],
            "Resource": [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"],
        }
        alice.put_bucket_policy(
            Bucket=bucket, Policy=f'{{"Statement": {[grant]}}}'.replace("'", '"')
        )
    alice.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": ownership}]}
    )
    more = {} if acl is None else {"ACL": acl}
    bob.put_object(Bucket=bucket, Key="put", Body=b"x", **more)
    upload = {"Bucket": bucket, "Key": "parts"}
    upload["UploadId"] = bob.create_multipart_upload(**upload, **more)["UploadId"]
    etag = bob.upload_part(PartNumber=1, Body=b"x", **upload)["ETag"]
    bob.complete_multipart_upload(
        MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}, **upload
    )
    source = {"Bucket": bucket, "Key": "put"}
    bob.copy_object(Bucket=bucket, Key="copied", CopySource=source, **more)
    for key in ("put", "parts", "copied"):
        told = s3.get_object_acl(Bucket=bucket, Key=key)
        assert told["Owner"]["ID"] == owner.account.id, key
    listed = s3.list_objects_v2(Bucket=bucket, FetchOwner=True)["Contents"]
    assert {one["Owner"]["ID"] for one in listed} == {owner.account.id}
    versions = s3.list_object_versions(Bucket=bucket)["Versions"]
    assert {one["Owner"]["ID"] for one in versions} == {owner.account.id}


def test_the_owner_of_a_bucket_reads_only_what_is_its_own_or_granted(make, alice, bob):
    bucket = make(WRITER, "public-read-write")
    bob.put_object(Bucket=bucket, Key="his", Body=b"x")
    bob.put_object(Bucket=bucket, Key="shared", Body=b"x", ACL="bucket-owner-read")
    denied(alice.get_object, Bucket=bucket, Key="his")
    denied(alice.get_object_acl, Bucket=bucket, Key="his")
    denied(alice.put_object_acl, Bucket=bucket, Key="his", ACL="public-read")
    alice.get_object(Bucket=bucket, Key="shared")
    assert bob.get_object(Bucket=bucket, Key="his")["Body"].read() == b"x"
    # What it can't read it can remove, and deny to others.
    alice.put_bucket_policy(
        Bucket=bucket,
        Policy='{"Statement": {"Effect": "Deny", "Principal": "*", "Action": "s3:GetObject", '
        f'"Resource": "arn:aws:s3:::{bucket}/shared"}}}}',
    )
    denied(bob.get_object, Bucket=bucket, Key="shared")
    alice.delete_object(Bucket=bucket, Key="his")


@pytest.mark.parametrize(
    ("acl", "reads", "lists", "writes"),
    [
        ("private", False, False, False),
        ("public-read", True, True, False),
        ("public-read-write", True, True, True),
        ("authenticated-read", False, False, False),
    ],
)
def test_what_nobody_signs_does_what_acls_grant(make, alice, nobody, acl, reads, lists, writes):
    bucket = make(WRITER, acl)
    alice.put_object(Bucket=bucket, Key="k", Body=b"x", ACL=acl)
    for allowed, call in (
        (reads, lambda: nobody.get_object(Bucket=bucket, Key="k")),
        (reads, lambda: nobody.head_object(Bucket=bucket, Key="k")),
        (lists, lambda: nobody.list_objects_v2(Bucket=bucket)),
        (lists, lambda: nobody.list_multipart_uploads(Bucket=bucket)),
        (writes, lambda: nobody.put_object(Bucket=bucket, Key="new", Body=b"x")),
        (writes, lambda: nobody.copy_object(Bucket=bucket, Key="c", CopySource=f"{bucket}/k")),
        (writes, lambda: nobody.delete_object(Bucket=bucket, Key="new")),
        (False, lambda: nobody.get_bucket_acl(Bucket=bucket)),
        (False, lambda: nobody.get_object_tagging(Bucket=bucket, Key="k")),
        (False, lambda: nobody.delete_bucket(Bucket=bucket)),
    ):
        if allowed:
            call()
        else:
            with pytest.raises(ClientError) as caught:
                call()
            assert code_of(caught)[0] == 403


def test_a_form_of_nobody_needs_a_bucket_that_all_may_write(endpoint, make, alice):
    for acl, status in (("public-read", 403), ("public-read-write", 204)):
        bucket = make(WRITER, acl)
        assert post(endpoint, bucket, {"key": "form", "acl": "public-read"}).status == status
    told = alice.get_object_acl(Bucket=bucket, Key="form")
    assert told["Owner"]["ID"] == ALICE.account.id
    assert (ALL_USERS, "READ") in grants_of(told)


def test_all_who_have_a_key_are_authenticated(make, alice, bob, nobody):
    bucket = make(WRITER)
    alice.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="authenticated-read")
    bob.get_object(Bucket=bucket, Key="k")
    denied(nobody.get_object, Bucket=bucket, Key="k")


def test_public_grants_can_be_ignored(make, alice, bob, nobody):
    bucket = make(WRITER, "public-read")
    alice.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    alice.put_object_acl(Bucket=bucket, Key="k", GrantRead=f"id={BOB.account.id}, uri={ALL_USERS}")
    nobody.get_object(Bucket=bucket, Key="k")
    alice.put_public_access_block(
        Bucket=bucket, PublicAccessBlockConfiguration={"IgnorePublicAcls": True}
    )
    denied(nobody.get_object, Bucket=bucket, Key="k")
    denied(nobody.list_objects_v2, Bucket=bucket)
    bob.get_object(Bucket=bucket, Key="k")


@pytest.mark.parametrize(
    ("permission", "allowed"),
    [
        ("READ", {"get"}),
        ("READ_ACP", {"read acl"}),
        ("WRITE_ACP", {"write acl"}),
        ("FULL_CONTROL", {"get", "read acl", "write acl"}),
        ("WRITE", set()),
    ],
)
def test_a_grant_on_an_object_reaches_so_far(make, alice, bob, permission, allowed):
    bucket = make(WRITER)
    alice.put_object(Bucket=bucket, Key="k", Body=b"x")
    owner = {"ID": ALICE.account.id}
    grant = {
        "Grantee": {"Type": "CanonicalUser", "ID": BOB.account.id},
        "Permission": permission,
    }
    alice.put_object_acl(
        Bucket=bucket, Key="k", AccessControlPolicy={"Owner": owner, "Grants": [grant]}
    )
    calls = {
        "get": lambda: bob.get_object(Bucket=bucket, Key="k"),
        "read acl": lambda: bob.get_object_acl(Bucket=bucket, Key="k"),
        "write acl": lambda: bob.put_object_acl(Bucket=bucket, Key="k", ACL="private"),
        "delete": lambda: bob.delete_object(Bucket=bucket, Key="k"),
        "put": lambda: bob.put_object(Bucket=bucket, Key="k", Body=b"y"),
    }
    done = set()
    for name, call in calls.items():
        with contextlib.suppress(alice.exceptions.ClientError):
            call()
            done.add(name)
    assert done == allowed
    # The owner can always read and write the ACL.
    alice.get_object_acl(Bucket=bucket, Key="k")
    alice.put_object_acl(Bucket=bucket, Key="k", ACL="private")


def test_each_version_has_an_acl_of_its_own(make, alice, nobody):
    bucket = make(WRITER)
    alice.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    one = {"Bucket": bucket, "Key": "k"}
    first = alice.put_object(Body=b"1", ACL="public-read", **one)["VersionId"]
    second = alice.put_object(Body=b"2", **one)["VersionId"]
    assert nobody.get_object(VersionId=first, **one)["Body"].read() == b"1"
    denied(nobody.get_object, VersionId=second, **one)
    denied(nobody.get_object, **one)
    alice.put_object_acl(VersionId=second, ACL="public-read", **one)
    alice.put_object_acl(VersionId=first, ACL="private", **one)
    assert nobody.get_object(**one)["Body"].read() == b"2"
    denied(nobody.get_object, VersionId=first, **one)


def test_a_copy_has_an_acl_of_its_own_and_tags_leave_it(make, alice, nobody):
    bucket = make(WRITER)
    alice.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    alice.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/k")
    denied(nobody.get_object, Bucket=bucket, Key="copy")
    alice.put_object_tagging(
        Bucket=bucket, Key="k", Tagging={"TagSet": [{"Key": "a", "Value": "b"}]}
    )
    nobody.get_object(Bucket=bucket, Key="k")
    alice.put_object(Bucket=bucket, Key="k", Body=b"y")
    denied(nobody.get_object, Bucket=bucket, Key="k")


def test_acls_count_for_nothing_once_they_are_turned_off(make, alice, nobody):
    bucket = make(WRITER, "public-read")
    alice.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    off = {"Rules": [{"ObjectOwnership": ENFORCED}]}
    denied(
        alice.put_bucket_ownership_controls,
        Bucket=bucket,
        OwnershipControls=off,
        status=400,
        code="InvalidBucketAclWithObjectOwnership",
    )
    alice.put_bucket_acl(Bucket=bucket, ACL="private")
    alice.put_bucket_ownership_controls(Bucket=bucket, OwnershipControls=off)
    denied(nobody.get_object, Bucket=bucket, Key="k")
    found = alice.get_object_acl(Bucket=bucket, Key="k")
    assert grants_of(found) == {(ALICE.account.id, "FULL_CONTROL")}


def test_without_a_setting_acls_count(make, alice, nobody):
    bucket = make(ENFORCED)
    alice.delete_bucket_ownership_controls(Bucket=bucket)
    denied(
        alice.get_bucket_ownership_controls,
        Bucket=bucket,
        status=404,
        code="OwnershipControlsNotFoundError",
    )
    alice.put_object(Bucket=bucket, Key="k", Body=b"x", ACL="public-read")
    nobody.get_object(Bucket=bucket, Key="k")


def test_the_servers_root_reaches_what_is_anybodys(make, bob, s3):
    bucket = make(WRITER, "public-read-write")
    bob.put_object(Bucket=bucket, Key="his", Body=b"x")
    s3.get_object(Bucket=bucket, Key="his")
    s3.put_object(Bucket=bucket, Key="roots", Body=b"x")
    assert s3.get_object_acl(Bucket=bucket, Key="roots")["Owner"]["ID"] == ROOT.id


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"x-amz-acl": "open-to-all"}, "InvalidArgument"),
        ({"x-amz-acl": "log-delivery-write"}, "InvalidArgument"),
        ({"x-amz-grant-read": "id=nobody-has-this"}, "InvalidArgument"),
        ({"x-amz-grant-read": "uri=http://example.org/group"}, "InvalidArgument"),
        ({"x-amz-grant-read": "emailAddress=a@b.example"}, "InvalidArgument"),
        ({"x-amz-grant-read": "what"}, "InvalidArgument"),
        ({"x-amz-acl": "private", "x-amz-grant-read": f'uri="{ALL_USERS}"'}, "InvalidRequest"),
    ],
)
def test_an_acl_that_can_not_be_is_refused(endpoint, s3, headers, code):
    bucket = f"acls-{next(_numbers)}"
    s3.create_bucket(Bucket=bucket, ObjectOwnership=WRITER)
    answer = send(endpoint, "PUT", f"/{bucket}/k", headers, b"x")
    assert (answer.status, answer.code) == (400, code)
    assert send(endpoint, "HEAD", f"/{bucket}/k").status == 404


def test_an_acl_can_not_give_an_object_away(make, alice):
    bucket = make(WRITER)
    alice.put_object(Bucket=bucket, Key="k", Body=b"x")
    policy = {"Owner": {"ID": BOB.account.id}, "Grants": []}
    denied(
        alice.put_object_acl,
        Bucket=bucket,
        Key="k",
        AccessControlPolicy=policy,
        status=400,
        code="InvalidArgument",
    )


def test_the_same_bucket_made_again_with_another_acl_is_taken(make, alice):
    bucket = f"acls-{next(_numbers)}"
    for _ in range(2):
        alice.create_bucket(Bucket=bucket, ObjectOwnership=WRITER)
    denied(alice.create_bucket, Bucket=bucket, status=409, code="BucketAlreadyExists")
