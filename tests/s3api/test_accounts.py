"""Accounts: what each may do, and whose name stands where."""

from __future__ import annotations

import itertools

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from s3api.credentials import ROOT
from s3api.errors import InvalidRequest
from s3api.requests import check_anonymous_query
from tests.s3api.conftest import ALICE, BOB
from tests.s3api.raw import send
from tests.s3api.test_objects import code_of

_numbers = itertools.count(1)


@pytest.fixture
def alice(endpoint):
    return endpoint.client(who=ALICE)


@pytest.fixture
def bob(endpoint):
    return endpoint.client(who=BOB)


@pytest.fixture
def nobody(endpoint):
    return boto3.client(
        "s3",
        endpoint_url=f"http://127.0.0.1:{endpoint.port}",
        region_name="us-east-1",
        config=Config(signature_version=UNSIGNED, retries={"max_attempts": 1}),
    )


@pytest.fixture
def hers(alice):
    """A bucket of alice with one key."""
    name = f"alices-{next(_numbers)}"
    alice.create_bucket(Bucket=name)
    alice.put_object(Bucket=name, Key="k", Body=b"x")
    return name


def calls(client, bucket):
    """One call of each kind on somebody's bucket."""
    return {
        "head bucket": lambda: client.head_bucket(Bucket=bucket),
        "list": lambda: client.list_objects(Bucket=bucket),
        "list v2": lambda: client.list_objects_v2(Bucket=bucket),
        "versions": lambda: client.list_object_versions(Bucket=bucket),
        "get": lambda: client.get_object(Bucket=bucket, Key="k"),
        "head": lambda: client.head_object(Bucket=bucket, Key="k"),
        "put": lambda: client.put_object(Bucket=bucket, Key="k", Body=b"y"),
        "delete": lambda: client.delete_object(Bucket=bucket, Key="k"),
        "tag": lambda: client.get_object_tagging(Bucket=bucket, Key="k"),
        "upload": lambda: client.create_multipart_upload(Bucket=bucket, Key="k"),
        "acl": lambda: client.get_bucket_acl(Bucket=bucket),
        "location": lambda: client.get_bucket_location(Bucket=bucket),
        "delete bucket": lambda: client.delete_bucket(Bucket=bucket),
    }


def test_account_does_everything_in_its_own_bucket(alice, hers):
    made = calls(alice, hers)
    delete = made.pop("delete")
    for call in (*list(made.values())[:-1], delete):
        call()


def test_others_are_denied_everything_in_it(bob, nobody, alice, hers):
    for client in (bob, nobody):
        for name, call in calls(client, hers).items():
            with pytest.raises(ClientError) as caught:
                call()
            assert code_of(caught)[0] == 403, name
    assert alice.get_object(Bucket=hers, Key="k")["Body"].read() == b"x"


def test_root_may_do_everything_in_it(s3, hers):
    assert s3.get_object(Bucket=hers, Key="k")["Body"].read() == b"x"
    s3.put_object(Bucket=hers, Key="l", Body=b"y")


def test_each_key_of_a_batch_is_asked_for(bob, hers):
    answer = bob.delete_objects(Bucket=hers, Delete={"Objects": [{"Key": "k"}, {"Key": "l"}]})
    assert [(one["Key"], one["Code"]) for one in answer["Errors"]] == [
        ("k", "AccessDenied"),
        ("l", "AccessDenied"),
    ]
    assert "Deleted" not in answer


def test_source_of_a_copy_must_be_ones_own_too(bob, hers):
    mine = f"bobs-{next(_numbers)}"
    bob.create_bucket(Bucket=mine)
    source = {"Bucket": hers, "Key": "k"}
    with pytest.raises(ClientError) as caught:
        bob.copy_object(Bucket=mine, Key="k", CopySource=source)
    assert code_of(caught) == (403, "AccessDenied")
    upload = bob.create_multipart_upload(Bucket=mine, Key="k")["UploadId"]
    with pytest.raises(ClientError) as caught:
        bob.upload_part_copy(Bucket=mine, Key="k", UploadId=upload, PartNumber=1, CopySource=source)
    assert code_of(caught) == (403, "AccessDenied")


def test_absent_bucket_is_told_of_to_everybody(bob, nobody):
    for client in (bob, nobody):
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket="absent", Key="k")
        assert code_of(caught) == (404, "NoSuchBucket")


def test_nobody_lists_or_makes_buckets(nobody):
    for call in (nobody.list_buckets, lambda: nobody.create_bucket(Bucket="of-nobody")):
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught) == (403, "AccessDenied")


def test_list_of_buckets_has_ones_own_and_roots_has_all(s3, alice, bob, hers):
    mine = f"bobs-{next(_numbers)}"
    bob.create_bucket(Bucket=mine)
    listed = bob.list_buckets()
    names = {one["Name"] for one in listed["Buckets"]}
    assert mine in names
    assert hers not in names
    assert listed["Owner"] == {"ID": BOB.account.id, "DisplayName": "bob"}
    assert {mine, hers} <= {one["Name"] for one in s3.list_buckets()["Buckets"]}


def test_own_buckets_are_listed_in_pages_between_those_of_others(s3, alice):
    for number in range(6):
        (alice if number % 2 else s3).create_bucket(Bucket=f"paged-{number}")
    pages = alice.get_paginator("list_buckets").paginate(
        Prefix="paged-", PaginationConfig={"PageSize": 2}
    )
    found = [[one["Name"] for one in page.get("Buckets", [])] for page in pages]
    assert found == [["paged-1", "paged-3"], ["paged-5"]]


def test_list_of_buckets_is_by_region_and_its_limit_by_the_rules(s3, bucket):
    assert (
        "Buckets" not in s3.list_buckets(BucketRegion="eu-west-1")
        or not s3.list_buckets(BucketRegion="eu-west-1")["Buckets"]
    )
    assert s3.list_buckets(BucketRegion="us-east-1")["Buckets"]


@pytest.mark.parametrize("limit", ["0", "-1", "many"])
def test_limit_of_the_list_must_be_a_number_of_one_or_more(endpoint, limit):
    answer = send(endpoint, "GET", f"/?max-buckets={limit}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_name_of_anothers_bucket_is_taken_and_of_ones_own_is_there(s3, alice, bob, hers):
    alice.create_bucket(Bucket=hers)
    for client in (bob, s3):
        with pytest.raises(ClientError) as caught:
            client.create_bucket(Bucket=hers)
        assert code_of(caught) == (409, "BucketAlreadyExists")


def test_owner_of_a_bucket_owns_what_root_puts_into_it(s3, alice, hers):
    s3.put_object(Bucket=hers, Key="l", Body=b"y")
    owner = {"ID": ALICE.account.id, "DisplayName": "alice"}
    for client in (s3, alice):
        listed = client.list_objects_v2(Bucket=hers, FetchOwner=True)["Contents"]
        assert [one["Owner"] for one in listed] == [owner, owner]
        assert client.list_objects(Bucket=hers)["Contents"][0]["Owner"] == owner
        assert client.get_object_acl(Bucket=hers, Key="l")["Owner"] == owner
        grant = client.get_bucket_acl(Bucket=hers)["Grants"][0]
        assert (grant["Grantee"]["ID"], grant["Permission"]) == (owner["ID"], "FULL_CONTROL")


def test_upload_names_who_began_it_and_who_owns_the_bucket(s3, hers):
    s3.create_multipart_upload(Bucket=hers, Key="big")
    (upload,) = s3.list_multipart_uploads(Bucket=hers)["Uploads"]
    assert upload["Owner"]["ID"] == ALICE.account.id
    assert upload["Initiator"]["ID"] == ROOT.id


def test_expected_owner_is_the_buckets(s3, alice, hers):
    s3.get_object(Bucket=hers, Key="k", ExpectedBucketOwner=ALICE.account.id)
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=hers, Key="k", ExpectedBucketOwner=ROOT.id)
    assert code_of(caught) == (403, "AccessDenied")


def test_nobody_chooses_headers_of_an_answer():
    check_anonymous_query({"versionId": "null"})
    with pytest.raises(InvalidRequest):
        check_anonymous_query({"response-content-type": "text/html"})
