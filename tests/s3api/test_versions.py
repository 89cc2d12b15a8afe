"""Versions through boto3: ids in every answer, delete markers, null versions, going back."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.s3api import raw
from tests.s3api.test_objects import code_of


def put_versions(s3, bucket, key, count):
    """Version ids, oldest first; the body of each is its number."""
    return [
        s3.put_object(Bucket=bucket, Key=key, Body=b"%d" % number)["VersionId"]
        for number in range(count)
    ]


def set_versioning(s3, bucket, status):
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})


def body_of(s3, bucket, key, **version):
    return s3.get_object(Bucket=bucket, Key=key, **version)["Body"].read()


def headers_of(caught):
    return caught.value.response["ResponseMetadata"]["HTTPHeaders"]


def test_versioning_is_what_it_was_last_set_to(s3, bucket):
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    for status in ("Suspended", "Enabled", "Enabled", "Suspended"):
        set_versioning(s3, bucket, status)
        answer = s3.get_bucket_versioning(Bucket=bucket)
        assert (answer["Status"], answer.get("MFADelete")) == (status, None)


@pytest.mark.parametrize(
    ("document", "code"),
    [
        ("<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>", ""),
        ("<Status>Enabled</Status><MfaDelete>Enabled</MfaDelete>", "NotImplemented"),
        ("<Status>enabled</Status>", "MalformedXML"),
        ("<Status></Status>", "MalformedXML"),
        ("", "IllegalVersioningConfigurationException"),
    ],
)
def test_versioning_document_is_checked(endpoint, bucket, document, code):
    body = f"<VersioningConfiguration>{document}</VersioningConfiguration>".encode()
    assert raw.send(endpoint, "PUT", f"/{bucket}?versioning", body=body).code == code


def test_bucket_that_never_had_versions_tells_of_none(s3, bucket):
    answers = [
        s3.put_object(Bucket=bucket, Key="k", Body=b"x"),
        s3.get_object(Bucket=bucket, Key="k"),
        s3.head_object(Bucket=bucket, Key="k"),
        s3.copy_object(Bucket=bucket, Key="l", CopySource={"Bucket": bucket, "Key": "k"}),
        s3.get_object_tagging(Bucket=bucket, Key="k"),
        s3.delete_object(Bucket=bucket, Key="k"),
    ]
    for answer in answers:
        assert "VersionId" not in answer
        assert "CopySourceVersionId" not in answer
        assert "DeleteMarker" not in answer
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=bucket, Key="k")
    assert code_of(caught) == (404, "NoSuchKey")
    assert "x-amz-delete-marker" not in headers_of(caught)


def test_the_one_version_of_a_plain_bucket_is_null(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    assert body_of(s3, bucket, "k", VersionId="null") == b"x"
    s3.delete_object(Bucket=bucket, Key="k", VersionId="another")
    s3.delete_object(Bucket=bucket, Key="k", VersionId="null")
    assert "Versions" not in s3.list_object_versions(Bucket=bucket)


def test_every_version_is_read_by_its_id(s3, versioned):
    ids = put_versions(s3, versioned, "d/k", 4)
    assert len(set(ids)) == 4
    for number, version in enumerate(ids):
        got = s3.get_object(Bucket=versioned, Key="d/k", VersionId=version)
        assert (got["VersionId"], got["Body"].read()) == (version, b"%d" % number)
        head = s3.head_object(Bucket=versioned, Key="d/k", VersionId=version)
        assert (head["VersionId"], head["ETag"]) == (version, got["ETag"])
    assert s3.get_object(Bucket=versioned, Key="d/k")["VersionId"] == ids[-1]
    part = s3.get_object(Bucket=versioned, Key="d/k", VersionId=ids[0], Range="bytes=0-0")
    assert (part["VersionId"], part["ContentRange"]) == (ids[0], "bytes 0-0/1")


def test_not_modified_names_the_version(s3, versioned):
    put = s3.put_object(Bucket=versioned, Key="k", Body=b"x")
    with pytest.raises(ClientError) as caught:
        s3.get_object(Bucket=versioned, Key="k", IfNoneMatch=put["ETag"])
    assert code_of(caught)[0] == 304
    assert headers_of(caught)["x-amz-version-id"] == put["VersionId"]


def test_delete_leaves_a_marker_and_the_versions(s3, versioned):
    (version,) = put_versions(s3, versioned, "k", 1)
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert deleted["DeleteMarker"] is True
    marker = deleted["VersionId"]
    for call in (s3.get_object, s3.head_object):
        with pytest.raises(ClientError) as caught:
            call(Bucket=versioned, Key="k")
        assert code_of(caught)[0] == 404
        assert headers_of(caught)["x-amz-delete-marker"] == "true"
        assert headers_of(caught)["x-amz-version-id"] == marker
    assert body_of(s3, versioned, "k", VersionId=version) == b"0"
    assert s3.list_objects_v2(Bucket=versioned)["KeyCount"] == 0


def test_marker_asked_for_by_id_can_only_be_deleted(endpoint, s3, versioned):
    put_versions(s3, versioned, "k", 1)
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    for call in (s3.get_object, s3.head_object, s3.get_object_tagging):
        with pytest.raises(ClientError) as caught:
            call(Bucket=versioned, Key="k", VersionId=marker)
        assert code_of(caught)[0] == 405
        headers = headers_of(caught)
        assert headers["x-amz-delete-marker"] == "true"
        assert headers["x-amz-version-id"] == marker
        assert headers["allow"] == "DELETE"
        assert "last-modified" in headers
    answer = raw.send(endpoint, "GET", f"/{versioned}/k?versionId={marker}")
    assert b"<ResourceType>DeleteMarker</ResourceType>" in answer.body


def test_removing_the_marker_brings_the_object_back(s3, versioned):
    put_versions(s3, versioned, "k", 2)
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    undone = s3.delete_object(Bucket=versioned, Key="k", VersionId=marker)
    assert (undone["DeleteMarker"], undone["VersionId"]) == (True, marker)
    assert body_of(s3, versioned, "k") == b"1"


def test_removing_the_newest_version_makes_the_one_before_current(s3, versioned):
    ids = put_versions(s3, versioned, "k", 3)
    for number in (2, 1):
        gone = s3.delete_object(Bucket=versioned, Key="k", VersionId=ids[number])
        assert (gone["VersionId"], "DeleteMarker" in gone) == (ids[number], False)
        assert body_of(s3, versioned, "k") == b"%d" % (number - 1)
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket=versioned, Key="k", VersionId=ids[number])
        assert code_of(caught) == (404, "NoSuchVersion")


def test_removing_what_is_gone_is_no_error(s3, versioned):
    (version,) = put_versions(s3, versioned, "k", 1)
    for _ in range(2):
        assert (
            s3.delete_object(Bucket=versioned, Key="k", VersionId=version)["VersionId"] == version
        )


def test_markers_pile_up_also_on_keys_that_never_were(s3, versioned):
    ids = [s3.delete_object(Bucket=versioned, Key="never")["VersionId"] for _ in range(3)]
    markers = s3.list_object_versions(Bucket=versioned)["DeleteMarkers"]
    assert [(one["VersionId"], one["IsLatest"]) for one in markers] == [
        (ids[2], True),
        (ids[1], False),
        (ids[0], False),
    ]


def test_what_was_there_before_versioning_is_the_null_version(s3, bucket):
    s3.put_object(Bucket=bucket, Key="k", Body=b"before")
    set_versioning(s3, bucket, "Enabled")
    assert s3.get_object(Bucket=bucket, Key="k")["VersionId"] == "null"
    newer = s3.put_object(Bucket=bucket, Key="k", Body=b"after")["VersionId"]
    assert body_of(s3, bucket, "k", VersionId="null") == b"before"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=newer)
    assert body_of(s3, bucket, "k") == b"before"


def test_suspended_bucket_has_one_null_version_over_the_kept_ones(s3, versioned):
    (kept,) = put_versions(s3, versioned, "k", 1)
    set_versioning(s3, versioned, "Suspended")
    for body in (b"first", b"second"):
        put = s3.put_object(Bucket=versioned, Key="k", Body=body)
        assert "VersionId" not in put
        assert s3.head_object(Bucket=versioned, Key="k")["VersionId"] == "null"
    found = s3.list_object_versions(Bucket=versioned)["Versions"]
    assert [one["VersionId"] for one in found] == ["null", kept]
    assert body_of(s3, versioned, "k", VersionId="null") == b"second"
    deleted = s3.delete_object(Bucket=versioned, Key="k")
    assert (deleted["DeleteMarker"], deleted["VersionId"]) == (True, "null")
    listed = s3.list_object_versions(Bucket=versioned)
    assert [one["VersionId"] for one in listed["Versions"]] == [kept]
    assert [one["VersionId"] for one in listed["DeleteMarkers"]] == ["null"]


@pytest.mark.parametrize(
    ("method", "subresource"),
    [("GET", ""), ("HEAD", ""), ("DELETE", ""), ("GET", "tagging&"), ("GET", "acl&")],
)
def test_empty_version_id_is_refused(endpoint, s3, bucket, method, subresource):
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = raw.send(endpoint, method, f"/{bucket}/k?{subresource}versionId=")
    assert answer.status == 400
    assert method == "HEAD" or answer.code == "InvalidArgument"
    assert body_of(s3, bucket, "k") == b"x"


def test_unknown_version_is_told_apart_from_a_missing_key(s3, versioned):
    put_versions(s3, versioned, "k", 1)
    for key in ("k", "absent"):
        with pytest.raises(ClientError) as caught:
            s3.get_object(Bucket=versioned, Key=key, VersionId="0123456789abcdef")
        assert code_of(caught) == (404, "NoSuchVersion")


def test_copy_names_the_version_it_took_and_the_one_it_made(s3, versioned):
    ids = put_versions(s3, versioned, "k", 2)
    source = {"Bucket": versioned, "Key": "k", "VersionId": ids[0]}
    made = s3.copy_object(Bucket=versioned, Key="l", CopySource=source)
    assert made["CopySourceVersionId"] == ids[0]
    got = s3.get_object(Bucket=versioned, Key="l")
    assert (got["VersionId"], got["Body"].read()) == (made["VersionId"], b"0")


def test_older_version_copied_over_the_newest_is_current_again(s3, versioned):
    ids = put_versions(s3, versioned, "k", 2)
    source = {"Bucket": versioned, "Key": "k", "VersionId": ids[0]}
    made = s3.copy_object(Bucket=versioned, Key="k", CopySource=source)
    assert made["VersionId"] not in ids
    assert body_of(s3, versioned, "k") == b"0"
    assert len(s3.list_object_versions(Bucket=versioned)["Versions"]) == 3


def test_delete_marker_is_no_source_of_a_copy(s3, versioned):
    put_versions(s3, versioned, "k", 1)
    marker = s3.delete_object(Bucket=versioned, Key="k")["VersionId"]
    for version, code in (
        ({}, (404, "NoSuchKey")),
        ({"VersionId": marker}, (400, "InvalidRequest")),
    ):
        source = {"Bucket": versioned, "Key": "k", **version}
        with pytest.raises(ClientError) as caught:
            s3.copy_object(Bucket=versioned, Key="l", CopySource=source)
        assert code_of(caught) == code


def test_upload_makes_a_version_and_copies_parts_of_versions(s3, versioned):
    ids = put_versions(s3, versioned, "k", 2)
    upload = {"Bucket": versioned, "Key": "whole"}
    upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
    source = {"Bucket": versioned, "Key": "k", "VersionId": ids[0]}
    copied = s3.upload_part_copy(PartNumber=1, CopySource=source, **upload)
    assert copied["CopySourceVersionId"] == ids[0]
    parts = {"Parts": [{"PartNumber": 1, "ETag": copied["CopyPartResult"]["ETag"]}]}
    done = s3.complete_multipart_upload(MultipartUpload=parts, **upload)
    got = s3.get_object(Bucket=versioned, Key="whole")
    assert (got["VersionId"], got["Body"].read()) == (done["VersionId"], b"0")


def test_tags_belong_to_a_version(s3, versioned):
    ids = put_versions(s3, versioned, "k", 2)
    for number, version in enumerate(ids):
        tags = {"TagSet": [{"Key": "n", "Value": str(number)}]}
        named = {"Bucket": versioned, "Key": "k", "VersionId": version}
        assert s3.put_object_tagging(Tagging=tags, **named)["VersionId"] == version
    for number, version in enumerate(ids):
        got = s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=version)
        assert (got["VersionId"], got["TagSet"][0]["Value"]) == (version, str(number))
    gone = s3.delete_object_tagging(Bucket=versioned, Key="k", VersionId=ids[0])
    assert gone["VersionId"] == ids[0]
    assert s3.get_object_tagging(Bucket=versioned, Key="k", VersionId=ids[0])["TagSet"] == []
    assert len(s3.get_object_tagging(Bucket=versioned, Key="k")["TagSet"]) == 1


def test_acl_and_attributes_are_asked_of_a_version(s3, versioned):
    ids = put_versions(s3, versioned, "k", 1)
    s3.put_object(Bucket=versioned, Key="k", Body=b"longer")
    named = {"Bucket": versioned, "Key": "k", "VersionId": ids[0]}
    attributes = s3.get_object_attributes(ObjectAttributes=["ObjectSize"], **named)
    assert (attributes["VersionId"], attributes["ObjectSize"]) == (ids[0], 1)
    assert s3.get_object_acl(**named)["Grants"]
    named["VersionId"] = "0123456789abcdef"
    for call in (
        lambda: s3.get_object_attributes(ObjectAttributes=["ETag"], **named),
        lambda: s3.get_object_acl(**named),
        lambda: s3.put_object_acl(ACL="private", **named),
    ):
        with pytest.raises(ClientError) as caught:
            call()
        assert code_of(caught) == (404, "NoSuchVersion")


def test_delete_objects_tells_of_versions_and_markers(s3, versioned):
    ids = put_versions(s3, versioned, "k", 2)
    old_marker = s3.delete_object(Bucket=versioned, Key="m")["VersionId"]
    answer = s3.delete_objects(
        Bucket=versioned,
        Delete={
            "Objects": [
                {"Key": "k", "VersionId": ids[0]},
                {"Key": "k"},
                {"Key": "m", "VersionId": old_marker},
                {"Key": "absent", "VersionId": "0123456789abcdef"},
            ]
        },
    )
    assert "Errors" not in answer
    version, key, marker, absent = answer["Deleted"]
    assert version == {"Key": "k", "VersionId": ids[0]}
    assert key.pop("DeleteMarkerVersionId")
    assert key == {"Key": "k", "DeleteMarker": True}
    assert marker == {
        "Key": "m",
        "VersionId": old_marker,
        "DeleteMarker": True,
        "DeleteMarkerVersionId": old_marker,
    }
    assert absent == {"Key": "absent", "VersionId": "0123456789abcdef"}
    listed = s3.list_object_versions(Bucket=versioned)
    assert [one["VersionId"] for one in listed["Versions"]] == [ids[1]]
    assert [one["Key"] for one in listed["DeleteMarkers"]] == ["k"]


def test_bucket_with_versions_or_markers_is_not_empty(s3, versioned):
    put_versions(s3, versioned, "k", 1)
    s3.delete_object(Bucket=versioned, Key="k")
    while True:
        listed = s3.list_object_versions(Bucket=versioned)
        found = listed.get("Versions", []) + listed.get("DeleteMarkers", [])
        if not found:
            break
        with pytest.raises(ClientError) as caught:
            s3.delete_bucket(Bucket=versioned)
        assert code_of(caught) == (409, "BucketNotEmpty")
        s3.delete_object(Bucket=versioned, Key="k", VersionId=found[0]["VersionId"])
    s3.delete_bucket(Bucket=versioned)
