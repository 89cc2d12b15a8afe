"""ACLs: what each permission grants, where ACLs come from, and whether they count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from store.access.acl import (
    Acl,
    Grant,
    Group,
    Owner,
    Permission,
    bucket_grants,
    decode_acl,
    encode_acl,
    full_control,
    is_public,
    object_grants,
)
from store.access.errors import MalformedGrants
from store.access.grants import (
    canned_bucket_acl,
    canned_object_acl,
    checked,
    group_of,
    header_grants,
    permission_of,
)
from store.access.ownership import (
    DEFAULT_BLOCK,
    DEFAULT_OWNERSHIP,
    NO_BLOCK,
    AccessBlock,
    Ownership,
    acl_of_new,
    decode_block,
    encode_block,
    may_disable_acls,
    owner_of_new,
    refuses_acl,
)
from store.access.principals import ANONYMOUS, Principal, Strength
from tests.store.access.builders import THEIRS, user

OWNER = Owner(id="c1", name="Ann")
OTHER = Owner(id="c2", name="Bob")
ANN = replace(user(), canonical_id="c1")
BOB = replace(user("bob", THEIRS), canonical_id="c2")
ACCOUNTS = {"c1": OWNER, "c2": OTHER}
READS = "s3:GetObject"


def acl(*grants: Grant) -> Acl:
    return Acl(owner=OWNER, grants=grants)


def to_bob(permission: Permission) -> Acl:
    return acl(full_control(OWNER), Grant(permission=permission, id="c2"))


@pytest.mark.parametrize(
    ("permission", "on_bucket", "on_object"),
    [
        (Permission.READ, {"s3:ListBucket", "s3:ListBucketVersions"}, {"s3:GetObject"}),
        (Permission.WRITE, {"s3:PutObject", "s3:DeleteObject"}, set()),
        (Permission.READ_ACP, {"s3:GetBucketAcl"}, {"s3:GetObjectAcl"}),
        (Permission.WRITE_ACP, {"s3:PutBucketAcl"}, {"s3:PutObjectAcl"}),
    ],
)
def test_each_permission_means_another_thing_for_bucket_and_object(
    permission: Permission, on_bucket: set[str], on_object: set[str]
) -> None:
    asked = {
        *("s3:ListBucket", "s3:ListBucketVersions", "s3:PutObject", "s3:DeleteObject"),
        *("s3:GetObject", "s3:GetBucketAcl", "s3:PutBucketAcl", "s3:GetObjectAcl"),
        *("s3:PutObjectAcl", "s3:DeleteBucket", "s3:PutBucketPolicy"),
    }
    given = to_bob(permission)
    assert {action for action in asked if bucket_grants(given, BOB, action)} == on_bucket
    assert {action for action in asked if object_grants(given, BOB, action)} == on_object
    everything = to_bob(Permission.FULL_CONTROL)
    assert all(bucket_grants(everything, BOB, action) for action in on_bucket)
    assert all(object_grants(everything, BOB, action) for action in on_object)
    assert not bucket_grants(everything, BOB, "s3:DeleteBucket")


def test_an_account_is_reached_by_its_id_and_groups_by_their_members() -> None:
    assert object_grants(to_bob(Permission.READ), BOB, READS) is Strength.ACCOUNT
    assert object_grants(to_bob(Permission.READ), ANONYMOUS, READS) is Strength.NONE
    everyone = canned_object_acl("public-read", OWNER, OWNER)
    assert object_grants(everyone, ANONYMOUS, READS) is Strength.DIRECT
    assert object_grants(everyone, ANONYMOUS, READS, ignore_public=True) is Strength.NONE
    known = canned_object_acl("authenticated-read", OWNER, OWNER)
    assert object_grants(known, BOB, READS) is Strength.DIRECT
    assert object_grants(known, ANONYMOUS, READS) is Strength.NONE
    logs = canned_bucket_acl("log-delivery-write", OWNER)
    assert not bucket_grants(logs, BOB, "s3:PutObject")


def test_the_owner_keeps_the_acl_whatever_it_says() -> None:
    empty = acl()
    assert object_grants(empty, ANN, "s3:PutObjectAcl") and object_grants(
        empty, ANN, "s3:GetObjectAcl"
    )
    assert bucket_grants(empty, ANN, "s3:PutBucketAcl")
    assert not object_grants(empty, ANN, READS) and not object_grants(empty, BOB, "s3:PutObjectAcl")


def test_nobody_without_an_id_is_the_owner() -> None:
    nameless = Acl(owner=Owner(id=""))
    assert not object_grants(nameless, Principal(kind=ANN.kind, account="1"), "s3:GetObjectAcl")


@pytest.mark.parametrize(
    ("name", "public", "count"),
    [
        ("private", False, 1),
        ("public-read", True, 2),
        ("public-read-write", True, 3),
        ("authenticated-read", True, 2),
        ("bucket-owner-read", False, 2),
        ("bucket-owner-full-control", False, 2),
        ("aws-exec-read", False, 1),
    ],
)
def test_canned_acls_of_objects(name: str, public: bool, count: int) -> None:
    made = canned_object_acl(name, OTHER, OWNER)
    assert made.owner == OTHER and made.grants[0] == full_control(OTHER)
    assert (is_public(made), len(made.grants)) == (public, count)


def test_an_owner_who_owns_the_bucket_too_is_granted_once() -> None:
    assert len(canned_object_acl("bucket-owner-full-control", OWNER, OWNER).grants) == 1


def test_unknown_canned_acls_are_refused() -> None:
    with pytest.raises(MalformedGrants, match="'public' is no canned ACL"):
        canned_object_acl("public", OWNER, OWNER)
    with pytest.raises(MalformedGrants):
        canned_bucket_acl("bucket-owner-read", OWNER)


def test_grant_headers() -> None:
    headers = {
        "x-amz-grant-read": f'id="c2", uri="{Group.ALL_USERS.value}"',
        "x-amz-grant-full-control": "id=c1,ID = c2",
        "x-amz-acl": "private",
    }
    assert header_grants(headers, ACCOUNTS.get) == (
        Grant(permission=Permission.READ, id="c2", name="Bob"),
        Grant(permission=Permission.READ, group=Group.ALL_USERS),
        Grant(permission=Permission.FULL_CONTROL, id="c1", name="Ann"),
        Grant(permission=Permission.FULL_CONTROL, id="c2", name="Bob"),
    )
    assert header_grants({}, ACCOUNTS.get) == ()


@pytest.mark.parametrize(
    "value",
    ["c2", "id=", 'id="c9"', 'uri="http://example.org"', 'emailAddress="a@b"', 'id="c2" id="c1"'],
)
def test_grant_headers_that_mean_nobody_are_refused(value: str) -> None:
    with pytest.raises(MalformedGrants):
        header_grants({"x-amz-grant-read": value}, ACCOUNTS.get)


def test_documents_are_checked() -> None:
    many = tuple(Grant(permission=Permission.READ, id=f"c{n}") for n in range(101))
    with pytest.raises(MalformedGrants, match="at most 100"):
        checked(acl(*many))
    twice = checked(acl(full_control(OWNER), full_control(OWNER)))
    assert twice.grants == (full_control(OWNER),)
    with pytest.raises(MalformedGrants):
        permission_of("read")
    with pytest.raises(MalformedGrants):
        group_of("AllUsers")
    with pytest.raises(MalformedGrants, match="either"):
        Grant(permission=Permission.READ)


def test_acls_and_blocks_survive_as_json() -> None:
    made = canned_bucket_acl("public-read-write", OWNER)
    assert decode_acl(encode_acl(made)) == made
    assert decode_block(encode_block(DEFAULT_BLOCK)) == DEFAULT_BLOCK
    assert encode_block(NO_BLOCK) == "{}"


def test_switches_of_account_and_bucket_add_up() -> None:
    both = AccessBlock(block_public_acls=True).either(AccessBlock(ignore_public_acls=True))
    assert both == AccessBlock(block_public_acls=True, ignore_public_acls=True)
    public = canned_object_acl("public-read", OWNER, OWNER)
    assert refuses_acl(both, public) and not refuses_acl(NO_BLOCK, public)
    assert not refuses_acl(both, canned_object_acl("private", OWNER, OWNER))


@pytest.mark.parametrize(
    ("ownership", "canned", "owner"),
    [
        (Ownership.ENFORCED, "bucket-owner-full-control", OWNER),
        (Ownership.ENFORCED, "private", OWNER),
        (Ownership.PREFERRED, "bucket-owner-full-control", OWNER),
        (Ownership.PREFERRED, "private", OTHER),
        (Ownership.WRITER, "bucket-owner-full-control", OTHER),
    ],
)
def test_whose_an_object_becomes(ownership: Ownership, canned: str, owner: Owner) -> None:
    sent = canned_object_acl(canned, OTHER, OWNER)
    assert owner_of_new(ownership, OTHER, OWNER, sent) == owner
    kept = acl_of_new(ownership, OTHER, OWNER, sent)
    assert kept.owner == owner
    assert ownership.has_acls is (ownership is not DEFAULT_OWNERSHIP)
    expected = sent.grants if ownership.has_acls else (full_control(OWNER),)
    assert kept.grants == expected


@pytest.mark.parametrize("canned", ["public-read", "authenticated-read", "bucket-owner-read"])
def test_where_acls_are_off_asking_for_one_is_refused(canned: str) -> None:
    with pytest.raises(MalformedGrants, match="does not allow ACLs"):
        acl_of_new(Ownership.ENFORCED, OTHER, OWNER, canned_object_acl(canned, OTHER, OWNER))


def test_acls_can_only_be_switched_off_where_they_grant_nothing() -> None:
    assert may_disable_acls(canned_bucket_acl("private", OWNER))
    assert not may_disable_acls(canned_bucket_acl("public-read", OWNER))
    assert not may_disable_acls(to_bob(Permission.READ))
