"""Object lock through boto3: configurations, retention, legal holds, and what they forbid."""

from __future__ import annotations

import base64
import hashlib
import itertools
import zlib
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError

from tests.s3api import raw
from tests.s3api.test_objects import code_of

FAR = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
NEAR = FAR - timedelta(days=1)
CRC32_OF_X = base64.b64encode(zlib.crc32(b"x").to_bytes(4)).decode()
DENIED = (403, "AccessDenied")
_numbers = itertools.count(1)


@pytest.fixture
def locked(s3):
    """A fresh bucket with object lock, and no default retention."""
    name = f"locked-{next(_numbers)}"
    s3.create_bucket(Bucket=name, ObjectLockEnabledForBucket=True)
    return name


def default_retention(**retention):
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}


def retain(s3, bucket, mode, until, **more):
    retention = {"Mode": mode, "RetainUntilDate": until} if mode else {}
    s3.put_object_retention(Bucket=bucket, Key="k", Retention=retention, **more)


def hold(s3, bucket, status):
    s3.put_object_legal_hold(Bucket=bucket, Key="k", LegalHold={"Status": status})


def put(s3, bucket, **more):
    return s3.put_object(Bucket=bucket, Key="k", Body=b"x", **more)["VersionId"]


def refusal_of(call, *args, **kwargs):
    with pytest.raises(ClientError) as caught:
        call(*args, **kwargs)
    return code_of(caught)


def test_bucket_made_with_lock_has_versions_for_good(s3, locked):
    assert s3.get_bucket_versioning(Bucket=locked)["Status"] == "Enabled"
    found = s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
    assert found == {"ObjectLockEnabled": "Enabled"}
    suspended = {"Status": "Suspended"}
    assert refusal_of(
        s3.put_bucket_versioning, Bucket=locked, VersioningConfiguration=suspended
    ) == (409, "InvalidBucketState")


@pytest.mark.parametrize("period", [{"Days": 1}, {"Years": 2}])
@pytest.mark.parametrize("mode", ["GOVERNANCE", "COMPLIANCE"])
def test_lock_configuration_is_what_was_set_last(s3, locked, mode, period):
    for rule in (default_retention(Mode=mode, **period), {"ObjectLockEnabled": "Enabled"}):
        s3.put_object_lock_configuration(Bucket=locked, ObjectLockConfiguration=rule)
        found = s3.get_object_lock_configuration(Bucket=locked)["ObjectLockConfiguration"]
        assert found == rule


def test_lock_is_turned_on_where_versioning_is(s3, bucket):
    rule = default_retention(Mode="GOVERNANCE", Days=1)
    missing = (404, "ObjectLockConfigurationNotFoundError")
    for status in (None, "Suspended"):
        if status:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
        assert refusal_of(
            s3.put_object_lock_configuration, Bucket=bucket, ObjectLockConfiguration=rule
        ) == (409, "InvalidBucketState")
        assert refusal_of(s3.get_object_lock_configuration, Bucket=bucket) == missing
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object_lock_configuration(Bucket=bucket, ObjectLockConfiguration=rule)
    found = s3.get_object_lock_configuration(Bucket=bucket)["ObjectLockConfiguration"]
    assert found == rule


@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("<ObjectLockEnabled>Disabled</ObjectLockEnabled>", "MalformedXML"),
        ("", "MalformedXML"),
        ("<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule></Rule>", "MalformedXML"),
        ("R<Mode>GOVERNANCE</Mode>", "MalformedXML"),
        ("R<Days>1</Days>", "MalformedXML"),
        ("R<Mode>governance</Mode><Days>1</Days>", "MalformedXML"),
        ("R<Mode>GOVERNANCE</Mode><Days>1</Days><Years>1</Years>", "MalformedXML"),
        ("R<Mode>GOVERNANCE</Mode><Days>soon</Days>", "MalformedXML"),
        ("R<Mode>GOVERNANCE</Mode><Days>0</Days>", "InvalidRetentionPeriod"),
        ("R<Mode>GOVERNANCE</Mode><Years>-1</Years>", "InvalidRetentionPeriod"),
        ("R<Mode>GOVERNANCE</Mode><Days>36501</Days>", "InvalidRetentionPeriod"),
        ("R<Mode>GOVERNANCE</Mode><Years>101</Years>", "InvalidRetentionPeriod"),
        ("R<Mode>GOVERNANCE</Mode><Years>100</Years>", ""),
    ],
)
def test_lock_configuration_is_checked(endpoint, locked, rule, code):
    if rule.startswith("R"):
        rule = (
            "<ObjectLockEnabled>Enabled</ObjectLockEnabled><Rule><DefaultRetention>"
            f"{rule[1:]}</DefaultRetention></Rule>"
        )
    body = f"<ObjectLockConfiguration>{rule}</ObjectLockConfiguration>".encode()
    assert raw.send(endpoint, "PUT", f"/{locked}?object-lock", body=body).code == code


def test_new_objects_get_the_default_retention_unless_they_bring_their_own(s3, locked):
    s3.put_object_lock_configuration(
        Bucket=locked, ObjectLockConfiguration=default_retention(Mode="GOVERNANCE", Days=3)
    )
    put(s3, locked)
    head = s3.head_object(Bucket=locked, Key="k")
    assert head["ObjectLockMode"] == "GOVERNANCE"
    period = head["ObjectLockRetainUntilDate"] - head["LastModified"]
    assert timedelta(days=3) <= period < timedelta(days=3, seconds=2)
    put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=FAR)
    head = s3.head_object(Bucket=locked, Key="k")
    assert (head["ObjectLockMode"], head["ObjectLockRetainUntilDate"]) == ("COMPLIANCE", FAR)
    s3.copy_object(Bucket=locked, Key="l", CopySource={"Bucket": locked, "Key": "k"})
    assert s3.head_object(Bucket=locked, Key="l")["ObjectLockMode"] == "GOVERNANCE"


def test_put_with_lock_headers_shows_them(s3, locked):
    version = put(
        s3,
        locked,
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=FAR,
        ObjectLockLegalHoldStatus="ON",
    )
    for call in (s3.get_object, s3.head_object):
        got = call(Bucket=locked, Key="k", VersionId=version)
        assert got["ObjectLockMode"] == "GOVERNANCE"
        assert got["ObjectLockRetainUntilDate"] == FAR
        assert got["ObjectLockLegalHoldStatus"] == "ON"


def test_upload_with_lock_headers_locks_what_it_makes(s3, locked):
    upload = {"Bucket": locked, "Key": "k"}
    upload["UploadId"] = s3.create_multipart_upload(
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=FAR,
        ObjectLockLegalHoldStatus="ON",
        **upload,
    )["UploadId"]
    etag = s3.upload_part(PartNumber=1, Body=b"x", **upload)["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    version = s3.complete_multipart_upload(MultipartUpload=parts, **upload)["VersionId"]
    head = s3.head_object(Bucket=locked, Key="k")
    assert (head["ObjectLockMode"], head["ObjectLockLegalHoldStatus"]) == ("GOVERNANCE", "ON")
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert refusal_of(s3.delete_object, BypassGovernanceRetention=True, **named) == DENIED
    hold(s3, locked, "OFF")
    s3.delete_object(BypassGovernanceRetention=True, **named)


def test_copy_takes_locks_from_its_own_headers_and_not_from_the_source(s3, locked):
    put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=FAR)
    source = {"Bucket": locked, "Key": "k"}
    s3.copy_object(Bucket=locked, Key="plain", CopySource=source)
    assert "ObjectLockMode" not in s3.head_object(Bucket=locked, Key="plain")
    s3.copy_object(Bucket=locked, Key="held", CopySource=source, ObjectLockLegalHoldStatus="ON")
    head = s3.head_object(Bucket=locked, Key="held")
    assert head["ObjectLockLegalHoldStatus"] == "ON"
    assert "ObjectLockMode" not in head


@pytest.mark.parametrize(
    "headers",
    [
        {"mode": "GOVERNANCE"},
        {"retain-until-date": "2040-01-01T00:00:00Z"},
        {"mode": "governance", "retain-until-date": "2040-01-01T00:00:00Z"},
        {"mode": "GOVERNANCE", "retain-until-date": "tomorrow"},
        {"mode": "GOVERNANCE", "retain-until-date": "2020-01-01T00:00:00Z"},
        {"legal-hold": "on"},
    ],
)
def test_lock_headers_are_checked(endpoint, locked, headers):
    given = {f"x-amz-object-lock-{name}": value for name, value in headers.items()}
    given["content-md5"] = "nU5OnwCDIV6gAYXPXyVIpQ=="
    answer = raw.send(endpoint, "PUT", f"/{locked}/k", given, b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_put_with_lock_headers_needs_a_digest(endpoint, locked):
    given = {"x-amz-object-lock-legal-hold": "ON"}
    answer = raw.send(endpoint, "PUT", f"/{locked}/k", given, b"x")
    assert (answer.status, answer.code) == (400, "InvalidRequest")
    signed = {"payload_hash": hashlib.sha256(b"x").hexdigest()}
    assert raw.send(endpoint, "PUT", f"/{locked}/k", given, b"x", **signed).status == 200
    given["x-amz-checksum-crc32"] = CRC32_OF_X
    assert raw.send(endpoint, "PUT", f"/{locked}/k", given, b"x").status == 200


def test_event_holds_are_not_passed_over(endpoint, s3, locked):
    put(s3, locked)
    body = b"<Retention><EventHold>ON</EventHold></Retention>"
    assert raw.send(endpoint, "PUT", f"/{locked}/k?retention", body=body).status == 501
    given = {"x-amz-object-lock-event-hold": "ON"}
    assert raw.send(endpoint, "PUT", f"/{locked}/k", given, b"x").status == 501


def test_bucket_without_lock_knows_no_retention_and_no_holds(s3, versioned):
    put(s3, versioned)
    named = {"Bucket": versioned, "Key": "k"}
    retention = {"Mode": "GOVERNANCE", "RetainUntilDate": FAR}
    for call in (
        lambda: s3.get_object_retention(**named),
        lambda: s3.get_object_legal_hold(**named),
        lambda: s3.put_object_retention(Retention=retention, **named),
        lambda: s3.put_object_legal_hold(LegalHold={"Status": "ON"}, **named),
        lambda: s3.put_object(Body=b"", ObjectLockLegalHoldStatus="ON", **named),
        lambda: s3.create_multipart_upload(ObjectLockLegalHoldStatus="ON", **named),
    ):
        assert refusal_of(call) == (400, "InvalidRequest")


def test_object_without_retention_says_so(s3, locked):
    put(s3, locked)
    assert refusal_of(s3.get_object_retention, Bucket=locked, Key="k") == (
        404,
        "NoSuchObjectLockConfiguration",
    )
    assert refusal_of(s3.get_object_retention, Bucket=locked, Key="l") == (404, "NoSuchKey")


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("<Mode>governance</Mode><RetainUntilDate>2040-01-01T00:00:00Z</RetainUntilDate>", 0),
        ("<Mode>GOVERNANCE</Mode>", 0),
        ("<RetainUntilDate>2040-01-01T00:00:00Z</RetainUntilDate>", 0),
        ("<Mode>GOVERNANCE</Mode><RetainUntilDate>soon</RetainUntilDate>", 0),
        ("<Mode>GOVERNANCE</Mode><RetainUntilDate>2020-01-01T00:00:00Z</RetainUntilDate>", 1),
    ],
)
def test_retention_is_checked(endpoint, s3, locked, document, code):
    put(s3, locked)
    body = f"<Retention>{document}</Retention>".encode()
    answer = raw.send(endpoint, "PUT", f"/{locked}/k?retention", body=body)
    assert answer.code == ("MalformedXML", "InvalidArgument")[code]
    body = b"<LegalHold><Status>on</Status></LegalHold>"
    answer = raw.send(endpoint, "PUT", f"/{locked}/k?legal-hold", body=body)
    assert answer.code == "MalformedXML"


def test_retention_is_of_a_version(s3, locked):
    older, newer = put(s3, locked), put(s3, locked)
    retain(s3, locked, "GOVERNANCE", FAR, VersionId=older)
    named = {"Bucket": locked, "Key": "k"}
    found = s3.get_object_retention(VersionId=older, **named)["Retention"]
    assert found == {"Mode": "GOVERNANCE", "RetainUntilDate": FAR}
    assert refusal_of(s3.get_object_retention, VersionId=newer, **named)[0] == 404
    assert refusal_of(s3.delete_object, VersionId=older, **named) == DENIED
    s3.delete_object(VersionId=newer, **named)


def test_moments_far_off_come_back_as_they_were_given(s3, locked):
    put(s3, locked)
    far = datetime(2140, 1, 1, tzinfo=UTC)
    retain(s3, locked, "GOVERNANCE", far)
    found = s3.get_object_retention(Bucket=locked, Key="k")["Retention"]
    assert found["RetainUntilDate"] == far


def test_governance_gives_way_to_a_bypass_only(s3, locked):
    version = put(s3, locked)
    retain(s3, locked, "GOVERNANCE", NEAR)
    retain(s3, locked, "GOVERNANCE", FAR)
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert refusal_of(retain, s3, locked, "GOVERNANCE", NEAR) == DENIED
    assert refusal_of(retain, s3, locked, "", None) == DENIED
    assert refusal_of(s3.delete_object, **named) == DENIED
    retain(s3, locked, "GOVERNANCE", NEAR, BypassGovernanceRetention=True)
    retain(s3, locked, "", None, BypassGovernanceRetention=True)
    assert refusal_of(s3.get_object_retention, **named)[0] == 404
    retain(s3, locked, "GOVERNANCE", FAR)
    s3.delete_object(BypassGovernanceRetention=True, **named)


def test_another_mode_needs_a_bypass(s3, locked):
    put(s3, locked)
    retain(s3, locked, "GOVERNANCE", FAR)
    assert refusal_of(retain, s3, locked, "COMPLIANCE", FAR) == DENIED
    retain(s3, locked, "COMPLIANCE", FAR, BypassGovernanceRetention=True)


def test_compliance_gives_way_to_nobody(s3, locked):
    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=NEAR)
    retain(s3, locked, "COMPLIANCE", FAR)
    bypass = {"BypassGovernanceRetention": True}
    for mode, until in (("COMPLIANCE", NEAR), ("GOVERNANCE", FAR), ("", None)):
        assert refusal_of(retain, s3, locked, mode, until, **bypass) == DENIED
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert refusal_of(s3.delete_object, **bypass, **named) == DENIED


def test_legal_hold_stands_beside_retention(s3, locked):
    version = put(s3, locked)
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    hold(s3, locked, "ON")
    assert s3.get_object_legal_hold(**named)["LegalHold"] == {"Status": "ON"}
    assert refusal_of(s3.delete_object, BypassGovernanceRetention=True, **named) == DENIED
    hold(s3, locked, "OFF")
    assert s3.get_object_legal_hold(**named)["LegalHold"] == {"Status": "OFF"}
    s3.delete_object(**named)


def test_locked_version_lets_newer_ones_and_markers_over_it(s3, locked):
    version = put(s3, locked, ObjectLockMode="COMPLIANCE", ObjectLockRetainUntilDate=FAR)
    put(s3, locked)
    marker = s3.delete_object(Bucket=locked, Key="k")
    assert marker["DeleteMarker"] is True
    s3.delete_object(Bucket=locked, Key="k", VersionId=marker["VersionId"])
    named = {"Bucket": locked, "Key": "k", "VersionId": version}
    assert refusal_of(s3.delete_object, **named) == DENIED
    assert s3.get_object(**named)["Body"].read() == b"x"


def test_delete_objects_leaves_what_is_locked(s3, locked):
    kept = put(s3, locked, ObjectLockMode="GOVERNANCE", ObjectLockRetainUntilDate=FAR)
    free = s3.put_object(Bucket=locked, Key="l", Body=b"x")["VersionId"]
    objects = [{"Key": "k", "VersionId": kept}, {"Key": "l", "VersionId": free}]
    answer = s3.delete_objects(Bucket=locked, Delete={"Objects": objects})
    assert [one["Key"] for one in answer["Deleted"]] == ["l"]
    (error,) = answer["Errors"]
    assert (error["Key"], error["VersionId"], error["Code"]) == ("k", kept, "AccessDenied")
    answer = s3.delete_objects(
        Bucket=locked, Delete={"Objects": objects[:1]}, BypassGovernanceRetention=True
    )
    assert "Errors" not in answer
