"""What clients can ask for, by botocore's model of S3: nothing of it is skipped in silence.

Headers, parameters and elements of the operations we have either stand in our source, where
something is done about them, or are listed here with the reason why they can be ignored. So a new
SDK's new members fail this test until somebody has decided.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from botocore.model import ListShape, Shape, StructureShape

import s3api
from s3api.checksums import ALGORITHMS
from s3api.router import OPERATIONS
from tests.s3api import raw
from tests.s3api.model import SERVICE, UNMODELLED, wire_name
from tests.s3api.test_objects import code_of

SOURCE = "\n".join(path.read_text() for path in sorted(Path(s3api.__path__[0]).glob("*.py")))

# Header or parameter -> why it makes no difference.
IGNORED = {
    "x-amz-copy-source-server-side-encryption-customer-key-md5": "comes with a refused key",
    "x-amz-bucket-object-lock-token": "object lock needs nobody's leave here",
    "x-amz-client-token": "a rename is done once, and repeating it finds no source",
    "x-amz-mfa": "deletes that need a second factor can't be configured",
    "x-amz-object-annotation-directive": "objects have no annotations",
    "x-amz-object-lock-event-hold-duration-days": "comes with an event hold, which is refused",
    "x-amz-object-lock-event-hold-duration-years": "comes with an event hold, which is refused",
    "x-amz-optional-object-attributes": "asks for RestoreStatus, which no object has",
    "x-amz-request-payer": "nobody pays",
    "x-amz-server-side-encryption-aws-kms-key-id": "comes with encryption, which is refused",
    "x-amz-server-side-encryption-bucket-key-enabled": "comes with encryption, which is refused",
    "x-amz-server-side-encryption-context": "comes with encryption, which is refused",
    "x-amz-server-side-encryption-customer-key-md5": "comes with the key, which is refused",
    "x-amz-skip-destination-validation": "there is no destination",
}
# Families that are read by their prefix.
PREFIXES = ("x-amz-checksum-", "x-amz-copy-source-if-", "x-amz-rename-source-if-")


def operations() -> Iterator[str]:
    yield from sorted({operation.name for operation in OPERATIONS.values()} - UNMODELLED)


def headers_and_parameters() -> dict[str, set[str]]:
    """Each with the operations that have it."""
    found: dict[str, set[str]] = {}
    for name in operations():
        for member, shape in SERVICE.operation_model(name).input_shape.members.items():
            if shape.serialization.get("location") in ("header", "querystring"):
                found.setdefault(wire_name(member, shape).lower(), set()).add(name)
    return found


def test_every_header_and_parameter_is_read_or_known_to_make_no_difference():
    source = SOURCE.lower()
    unread = {
        name: asked
        for name, asked in headers_and_parameters().items()
        if f'"{name}"' not in source and not name.startswith(PREFIXES)
    }
    assert unread.keys() - IGNORED.keys() == set()
    assert IGNORED.keys() - unread.keys() == set(), "is read, or asked for by nobody"


def test_every_checksum_algorithm_of_the_model_is_known():
    assert set(ALGORITHMS) == set(SERVICE.shape_for("ChecksumAlgorithm").metadata["enum"])


NEED_LOCK = ("PutObjectLockConfiguration", "PutObjectRetention", "PutObjectLegalHold")
# Elements we have no word for; a document with one is refused, as every element that isn't known.
REFUSED_ELEMENTS = {
    "CreateBucket.Bucket.DataRedundancy",
    "CreateBucket.Bucket.Type",
    "CreateBucket.Location.Type",
    # Says of which kind the grantee is, as the other elements do.
    "PutBucketAcl.AccessControlList.Grantee.xsi:type",
    "PutBucketLogging.LoggingEnabled",
    "PutBucketNotificationConfiguration.CloudFunctionConfiguration",
    "PutBucketNotificationConfiguration.EventBridgeConfiguration",
    "PutBucketNotificationConfiguration.QueueConfiguration",
    "PutBucketNotificationConfiguration.TopicConfiguration",
    "PutObjectAcl.AccessControlList.Grantee.xsi:type",
    "PutObjectRetention.EventHoldDuration",
}
DOCUMENTS = {
    "CompleteMultipartUpload": (
        "POST",
        "{key}?uploadId=x",
        "<CompleteMultipartUpload>{}<Part><PartNumber>1</PartNumber><ETag>x</ETag></Part>"
        "</CompleteMultipartUpload>",
    ),
    "CreateBucket": (
        "PUT",
        "{bucket}",
        "<CreateBucketConfiguration>{}<LocationConstraint>us-east-1</LocationConstraint>"
        "</CreateBucketConfiguration>",
    ),
    "DeleteObjects": (
        "POST",
        "{bucket}?delete",
        "<Delete>{}<Object><Key>k</Key></Object></Delete>",
    ),
    "PutBucketAcl": (
        "PUT",
        "{bucket}?acl",
        "<AccessControlPolicy>{}</AccessControlPolicy>",
    ),
    "PutBucketCors": (
        "PUT",
        "{bucket}?cors",
        "<CORSConfiguration>{}<CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*"
        "</AllowedOrigin></CORSRule></CORSConfiguration>",
    ),
    "PutBucketLogging": (
        "PUT",
        "{bucket}?logging",
        "<BucketLoggingStatus>{}</BucketLoggingStatus>",
    ),
    "PutBucketNotificationConfiguration": (
        "PUT",
        "{bucket}?notification",
        "<NotificationConfiguration>{}</NotificationConfiguration>",
    ),
    "PutBucketOwnershipControls": (
        "PUT",
        "{bucket}?ownershipControls",
        "<OwnershipControls>{}<Rule><ObjectOwnership>BucketOwnerEnforced</ObjectOwnership></Rule>"
        "</OwnershipControls>",
    ),
    "PutBucketRequestPayment": (
        "PUT",
        "{bucket}?requestPayment",
        "<RequestPaymentConfiguration>{}<Payer>BucketOwner</Payer></RequestPaymentConfiguration>",
    ),
    "PutBucketTagging": (
        "PUT",
        "{bucket}?tagging",
        "<Tagging>{}<TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>",
    ),
    "PutBucketVersioning": (
        "PUT",
        "{bucket}?versioning",
        "<VersioningConfiguration>{}<Status>Enabled</Status></VersioningConfiguration>",
    ),
    "PutBucketWebsite": (
        "PUT",
        "{bucket}?website",
        "<WebsiteConfiguration>{}<IndexDocument><Suffix>i</Suffix></IndexDocument>"
        "</WebsiteConfiguration>",
    ),
    "PutObjectAcl": ("PUT", "{key}?acl", "<AccessControlPolicy>{}</AccessControlPolicy>"),
    "PutObjectLegalHold": (
        "PUT",
        "{key}?legal-hold",
        "<LegalHold>{}<Status>OFF</Status></LegalHold>",
    ),
    "PutObjectLockConfiguration": (
        "PUT",
        "{bucket}?object-lock",
        "<ObjectLockConfiguration>{}<ObjectLockEnabled>Enabled</ObjectLockEnabled>"
        "</ObjectLockConfiguration>",
    ),
    "PutObjectRetention": ("PUT", "{key}?retention", "<Retention>{}</Retention>"),
    "PutPublicAccessBlock": (
        "PUT",
        "{bucket}?publicAccessBlock",
        "<PublicAccessBlockConfiguration>{}<BlockPublicAcls>true</BlockPublicAcls>"
        "</PublicAccessBlockConfiguration>",
    ),
    "PutObjectTagging": (
        "PUT",
        "{key}?tagging",
        "<Tagging>{}<TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tagging>",
    ),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_an_element_nobody_knows_makes_a_document_malformed(endpoint, s3, name):
    method, target, document = DOCUMENTS[name]
    bucket = f"surprise-{name.lower()}"
    if name != "CreateBucket":
        s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=name in NEED_LOCK)
        s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    path = "/" + target.format(bucket=bucket, key=f"{bucket}/k")

    def send(surprise):
        body = document.format(surprise).encode()
        digest = base64.b64encode(hashlib.md5(body).digest()).decode()
        return raw.send(endpoint, method, path, {"content-md5": digest}, body)

    answer = send("<Surprise>1</Surprise>")
    assert (answer.status, answer.code) in ((400, "MalformedXML"), (501, "NotImplemented"))
    # It was the surprise that made it so.
    assert send("").code in ("", "NoSuchUpload")


def test_an_acl_that_gives_all_to_a_group_is_refused(s3, bucket):
    grantee = {"Type": "Group", "URI": "http://acs.amazonaws.com/groups/global/AllUsers"}
    policy = {"Grants": [{"Grantee": grantee, "Permission": "FULL_CONTROL"}]}
    policy["Owner"] = s3.list_buckets()["Owner"]
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=policy)
    assert code_of(caught) == (400, "AccessControlListNotSupported")


def test_an_upload_is_aborted_only_as_it_was_initiated(s3, bucket):
    made = {"Bucket": bucket, "Key": "k"}
    made["UploadId"] = s3.create_multipart_upload(**made)["UploadId"]
    initiated = s3.list_multipart_uploads(Bucket=bucket)["Uploads"][0]["Initiated"]
    with pytest.raises(ClientError) as caught:
        s3.abort_multipart_upload(IfMatchInitiatedTime=initiated - timedelta(seconds=1), **made)
    assert code_of(caught) == (412, "PreconditionFailed")
    s3.abort_multipart_upload(IfMatchInitiatedTime=initiated, **made)


def test_every_document_of_the_model_is_tried():
    with_documents = set()
    for name in operations():
        shape = SERVICE.operation_model(name).input_shape
        payload = shape.serialization.get("payload")
        if payload and isinstance(shape.members[payload], StructureShape):
            with_documents.add(name)
    assert with_documents == DOCUMENTS.keys()


def unread_elements(shape: Shape, path: str) -> Iterator[str]:
    while isinstance(shape, ListShape):
        shape = shape.member
    if not isinstance(shape, StructureShape):
        return
    for member, below in shape.members.items():
        name = wire_name(member, below)
        if re.search(rf'["<]{name}[">]', SOURCE) or name.startswith("Checksum"):
            yield from unread_elements(below, f"{path}.{name}")
        else:
            yield f"{path}.{name}"


def test_every_element_of_a_document_is_read_or_known_to_be_refused():
    unread = set()
    for name in DOCUMENTS:
        shape = SERVICE.operation_model(name).input_shape
        unread |= set(unread_elements(shape.members[shape.serialization["payload"]], name))
    assert unread == REFUSED_ELEMENTS
