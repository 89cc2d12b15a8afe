"""Every operation's real answers, over a real socket, against botocore's model of S3.

One script calls everything the router has, with whatever makes an answer fuller; each answer that
came of it is checked, and all of an operation's answers together must have shown every member its
output has, but for those that `NEVER` and `ABSENT` list.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from botocore.exceptions import ClientError

from s3api.checksums import ALGORITHMS
from s3api.router import OPERATIONS
from tests.s3api.model import UNMODELLED, Exchange, faults_of, members_of
from tests.s3api.test_multipart import FIRST, SECOND

FAR = datetime(2040, 1, 2, 3, 4, 5, tzinfo=UTC)
CORS = {
    "CORSRules": [
        {
            "ID": "rule",
            "AllowedHeaders": ["*"],
            "AllowedMethods": ["GET", "PUT"],
            "AllowedOrigins": ["https://*.example.com"],
            "ExposeHeaders": ["ETag"],
            "MaxAgeSeconds": 60,
        },
        {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*"]},
    ]
}
WEBSITE = {
    "IndexDocument": {"Suffix": "index.html"},
    "ErrorDocument": {"Key": "error.html"},
    "RoutingRules": [
        {
            "Condition": {"HttpErrorCodeReturnedEquals": "404", "KeyPrefixEquals": "old/"},
            "Redirect": {
                "HostName": "example.com",
                "HttpRedirectCode": "302",
                "Protocol": "https",
                "ReplaceKeyPrefixWith": "new/",
            },
        },
        {
            "Condition": {"KeyPrefixEquals": "one"},
            "Redirect": {"ReplaceKeyWith": "another"},
        },
    ],
}
REDIRECT = {"RedirectAllRequestsTo": {"HostName": "example.com", "Protocol": "https"}}
TAGS = [{"Key": "a", "Value": "1"}, {"Key": "b", "Value": ""}]
ALL_ATTRIBUTES = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
AWKWARD = "awkward/ü&<>\"' %"


# What no answer has, because there is no such thing here.
NEVER = frozenset(
    (
        *("BucketKeyEnabled", "SSECustomerAlgorithm", "SSECustomerKeyMD5", "SSEKMSKeyId"),
        *("SSEKMSEncryptionContext", "ServerSideEncryption"),
        *("Expiration", "Restore", "RestoreStatus", "ReplicationStatus", "ArchiveStatus"),
        *("AbortDate", "AbortRuleId", "MFADelete", "RequestCharged"),
        *("BucketArn", "AccessPointAlias", "BucketLocationName", "BucketLocationType"),
        *("ObjectLockEventHold", "ObjectLockEventHoldDurationDays"),
        *("ObjectLockEventHoldDurationYears", "EventHold", "EventHoldDuration"),
        "DefaultEventHold",
        # Nobody has an address.
        "EmailAddress",
    )
)
_READS = {
    # A stream, and no document.
    "Body",
    # The one there is, STANDARD, goes without saying.
    "StorageClass",
    # Metadata that can't be a header comes from the mount: see test_metadata.
    "MissingMeta",
    # Told with refusals.
    "DeleteMarker",
}
ABSENT = {
    "AbortMultipartUpload": {"VersionId"},
    "CreateMultipartUpload": {"VersionId"},
    "GetBucketAccelerateConfiguration": {"Status"},
    "GetBucketLogging": {"LoggingEnabled"},
    "GetBucketNotificationConfiguration": {
        "EventBridgeConfiguration",
        "LambdaFunctionConfigurations",
        "QueueConfigurations",
        "TopicConfigurations",
    },
    "GetObject": _READS,
    "GetObjectAttributes": {"DeleteMarker"},
    "HeadObject": _READS,
    "ListMultipartUploads": {"Uploads.VersionId"},
    "ListParts": {"VersionId"},
    # Of directory buckets.
    "PutObject": {"Size"},
    "UploadPart": {"VersionId"},
    "UploadPartCopy": {"VersionId"},
}
# Nothing of the kind can be configured: the answer is always that.
NOT_CONFIGURED = {
    "GetBucketAnalyticsConfiguration",
    "GetBucketEncryption",
    "GetBucketIntelligentTieringConfiguration",
    "GetBucketInventoryConfiguration",
    "GetBucketLifecycleConfiguration",
    "GetBucketMetricsConfiguration",
    "GetBucketReplication",
}
POLICY = (
    '{"Statement": [{"Effect": "Deny", "Principal": "*", "Action": "s3:GetBucketWebsite",'
    ' "Resource": "arn:aws:s3:::BUCKET"}]}'
)


def written_back(acl):
    """What was read of an ACL, as it is put."""
    return {name: acl[name] for name in ("Owner", "Grants")}


class Script:
    """Calls everything. Each `_part` uses buckets of its own."""

    def __init__(self, s3) -> None:
        self.s3 = s3
        parts = {
            "model-buckets": self._buckets,
            "model-settings": self._settings,
            "model-objects": self._objects,
            "model-versions": self._versions,
            "model-locks": self._locks,
            "model-uploads": self._uploads,
        }
        for bucket in parts:
            s3.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=bucket == "model-locks")
        for bucket, part in parts.items():
            part(bucket)

    def refused(self, call, **arguments) -> None:
        with contextlib.suppress(ClientError):
            call(**arguments)
            raise AssertionError(call)

    def _buckets(self, bucket) -> None:
        s3 = self.s3
        s3.create_bucket(Bucket="model-gone")
        s3.delete_bucket(Bucket="model-gone")
        s3.head_bucket(Bucket=bucket)
        s3.list_buckets()
        s3.list_buckets(MaxBuckets=1, Prefix="model")
        s3.get_bucket_location(Bucket=bucket)
        acl = s3.get_bucket_acl(Bucket=bucket)
        s3.put_bucket_acl(Bucket=bucket, AccessControlPolicy=written_back(acl))
        s3.get_bucket_versioning(Bucket=bucket)
        for size in (0, 1, 2, 1000):
            for call in (s3.list_objects, s3.list_objects_v2, s3.list_object_versions):
                call(Bucket=bucket, MaxKeys=size)
        for key in ("a", "b/1", "b/2", "c", AWKWARD):
            s3.put_object(Bucket=bucket, Key=key, Body=b"x")
        for asked in (
            {},
            {"MaxKeys": 1},
            {"MaxKeys": 2, "Delimiter": "/", "Prefix": ""},
            {"Prefix": "b/", "EncodingType": "url"},
        ):
            s3.list_objects(Bucket=bucket, Marker="0", **asked)
            s3.list_objects_v2(Bucket=bucket, StartAfter="0", FetchOwner=True, **asked)
            s3.list_object_versions(Bucket=bucket, KeyMarker="0", **asked)
        page = s3.list_objects_v2(Bucket=bucket, MaxKeys=1)
        s3.list_objects_v2(Bucket=bucket, ContinuationToken=page["NextContinuationToken"])

    def _settings(self, bucket) -> None:
        s3 = self.s3
        here = {"Bucket": bucket}
        s3.put_bucket_cors(CORSConfiguration=CORS, **here)
        s3.get_bucket_cors(**here)
        s3.delete_bucket_cors(**here)
        self.refused(s3.get_bucket_cors, **here)
        s3.put_bucket_tagging(Tagging={"TagSet": TAGS}, **here)
        s3.get_bucket_tagging(**here)
        s3.delete_bucket_tagging(**here)
        self.refused(s3.get_bucket_tagging, **here)
        for website in (WEBSITE, REDIRECT):
            s3.put_bucket_website(WebsiteConfiguration=website, **here)
            s3.get_bucket_website(**here)
        s3.delete_bucket_website(**here)
        s3.get_bucket_request_payment(**here)
        s3.put_bucket_request_payment(RequestPaymentConfiguration={"Payer": "BucketOwner"}, **here)
        s3.get_bucket_ownership_controls(**here)
        s3.put_bucket_ownership_controls(
            OwnershipControls={"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}, **here
        )
        s3.put_bucket_ownership_controls(
            OwnershipControls={"Rules": [{"ObjectOwnership": "ObjectWriter"}]}, **here
        )
        s3.put_bucket_acl(GrantRead=f"id={s3.list_buckets()['Owner']['ID']}", **here)
        s3.get_bucket_acl(**here)
        s3.delete_public_access_block(**here)
        s3.put_bucket_acl(ACL="public-read", **here)
        s3.get_bucket_acl(**here)
        s3.put_object(Key="open", Body=b"x", ACL="authenticated-read", **here)
        s3.get_object_acl(Key="open", **here)
        s3.put_object_acl(Key="open", ACL="public-read", **here)
        s3.delete_bucket_ownership_controls(**here)
        self.refused(s3.get_bucket_ownership_controls, **here)
        s3.put_bucket_policy(Policy=POLICY.replace("BUCKET", bucket), **here)
        s3.get_bucket_policy(**here)
        s3.get_bucket_policy_status(**here)
        s3.delete_bucket_policy(**here)
        s3.put_public_access_block(
            PublicAccessBlockConfiguration={"IgnorePublicAcls": True}, **here
        )
        s3.get_public_access_block(**here)
        s3.delete_public_access_block(**here)
        self.refused(s3.get_public_access_block, **here)
        s3.get_bucket_logging(**here)
        s3.put_bucket_logging(BucketLoggingStatus={}, **here)
        s3.get_bucket_notification_configuration(**here)
        s3.put_bucket_notification_configuration(NotificationConfiguration={}, **here)
        s3.get_bucket_accelerate_configuration(**here)
        s3.list_bucket_analytics_configurations(**here)
        s3.list_bucket_inventory_configurations(**here)
        s3.list_bucket_metrics_configurations(**here)
        s3.list_bucket_intelligent_tiering_configurations(**here)
        for call in (
            s3.get_bucket_analytics_configuration,
            s3.get_bucket_inventory_configuration,
            s3.get_bucket_metrics_configuration,
            s3.get_bucket_intelligent_tiering_configuration,
        ):
            self.refused(call, Id="one", **here)
        for call in (
            s3.get_bucket_policy,
            s3.get_bucket_policy_status,
            s3.get_bucket_encryption,
            s3.get_bucket_lifecycle_configuration,
            s3.get_bucket_replication,
        ):
            self.refused(call, **here)

    def _objects(self, bucket) -> None:
        s3 = self.s3
        one = {"Bucket": bucket, "Key": "one"}
        s3.put_object(
            Body=b"0123456789",
            CacheControl="no-cache",
            ContentDisposition="inline",
            ContentEncoding="identity",
            ContentLanguage="en",
            ContentType="text/plain",
            Expires=FAR,
            Metadata={"m": "1"},
            WebsiteRedirectLocation="/elsewhere",
            Tagging="a=1&b=2",
            **one,
        )
        for checked in ({}, {"ChecksumMode": "ENABLED"}):
            s3.get_object(**one, **checked)
            s3.head_object(**one, **checked)
            s3.head_object(PartNumber=1, **one, **checked)
            s3.get_object(Range="bytes=1-2", **one)
        for name in ("CRC32", "CRC32C", "SHA1", "SHA256", "CRC64NVME"):
            key = {"Bucket": bucket, "Key": name}
            s3.put_object(Body=b"x", ChecksumAlgorithm=name, **key)
            s3.get_object(ChecksumMode="ENABLED", **key)
            s3.head_object(ChecksumMode="ENABLED", **key)
            s3.get_object_attributes(ObjectAttributes=ALL_ATTRIBUTES, **key)
            copied = {"Bucket": bucket, "Key": "copy", "CopySource": key}
            s3.copy_object(ChecksumAlgorithm=name, **copied)
        for name in ("SHA512", "XXHASH64", "XXHASH3", "XXHASH128", "MD5"):
            s3.copy_object(
                Bucket=bucket, Key=name, CopySource=f"{bucket}/one", ChecksumAlgorithm=name
            )
            key = {"Bucket": bucket, "Key": name}
            told = s3.head_object(ChecksumMode="ENABLED", **key)[f"Checksum{name}"]
            s3.put_object(Body=b"0123456789", **{f"Checksum{name}": told}, **key)
            s3.get_object(ChecksumMode="ENABLED", **key)
            s3.get_object_attributes(ObjectAttributes=ALL_ATTRIBUTES, **key)
        self.refused(s3.get_object, Bucket=bucket, Key="none")
        self.refused(s3.head_object, Bucket=bucket, Key="none")
        self.refused(s3.get_object, Range="bytes=90-", **one)
        self.refused(s3.put_object, IfNoneMatch="*", **one)
        acl = s3.get_object_acl(**one)
        s3.put_object_acl(AccessControlPolicy=written_back(acl), **one)
        s3.put_object_tagging(Tagging={"TagSet": TAGS}, **one)
        s3.get_object_tagging(**one)
        s3.delete_object_tagging(**one)
        s3.rename_object(Bucket=bucket, Key="two", RenameSource=f"{bucket}/one")
        s3.delete_object(Bucket=bucket, Key="two")
        s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "copy"}, {"Key": AWKWARD}]})

    def _versions(self, bucket) -> None:
        s3 = self.s3
        here = {"Bucket": bucket}
        s3.put_object(Key="k", Body=b"null", **here)
        s3.put_bucket_versioning(VersioningConfiguration={"Status": "Enabled"}, **here)
        s3.get_bucket_versioning(**here)
        made = s3.put_object(Key="k", Body=b"first", **here)["VersionId"]
        one = {**here, "Key": "k", "VersionId": made}
        s3.get_object(**one)
        s3.head_object(**one)
        s3.get_object_attributes(ObjectAttributes=ALL_ATTRIBUTES, **one)
        acl = s3.get_object_acl(**one)
        s3.put_object_acl(AccessControlPolicy=written_back(acl), **one)
        s3.put_object_tagging(Tagging={"TagSet": TAGS}, **one)
        s3.get_object_tagging(**one)
        s3.delete_object_tagging(**one)
        source = {**here, "Key": "k", "VersionId": made}
        s3.copy_object(Key="copy", CopySource=source, **here)
        upload = {**here, "Key": "parts"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        part = s3.upload_part_copy(PartNumber=1, CopySource=source, **upload)["CopyPartResult"]
        s3.complete_multipart_upload(
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}, **upload
        )
        s3.delete_object(Key="k", **here)
        self.refused(s3.get_object, Key="k", **here)
        marker = s3.delete_object(Key="other", **here)["VersionId"]
        s3.delete_object(Key="other", VersionId=marker, **here)
        for asked in ({}, {"MaxKeys": 1}, {"MaxKeys": 2, "EncodingType": "url"}):
            page = s3.list_object_versions(**asked, **here)
        s3.list_object_versions(
            KeyMarker=page["NextKeyMarker"], VersionIdMarker=page["NextVersionIdMarker"], **here
        )
        removed = [{"Key": "copy"}, {"Key": "k", "VersionId": made}]
        removed.append({"Key": "copy", "VersionId": "nothing"})
        s3.delete_objects(Delete={"Objects": removed}, **here)
        s3.delete_objects(Delete={"Objects": [{"Key": "copy"}], "Quiet": True}, **here)
        s3.put_bucket_versioning(VersioningConfiguration={"Status": "Suspended"}, **here)
        s3.get_bucket_versioning(**here)

    def _locks(self, bucket) -> None:
        s3 = self.s3
        here = {"Bucket": bucket}
        for retention in ({"Mode": "GOVERNANCE", "Days": 1}, {"Mode": "COMPLIANCE", "Years": 1}):
            s3.put_object_lock_configuration(
                ObjectLockConfiguration={
                    "ObjectLockEnabled": "Enabled",
                    "Rule": {"DefaultRetention": retention},
                },
                **here,
            )
            s3.get_object_lock_configuration(**here)
        one = {**here, "Key": "k"}
        s3.put_object(
            Body=b"x",
            ObjectLockMode="GOVERNANCE",
            ObjectLockRetainUntilDate=FAR,
            ObjectLockLegalHoldStatus="ON",
            **one,
        )
        s3.get_object(**one)
        s3.head_object(**one)
        s3.get_object_retention(**one)
        s3.put_object_retention(
            Retention={"Mode": "GOVERNANCE", "RetainUntilDate": FAR},
            BypassGovernanceRetention=True,
            **one,
        )
        s3.get_object_legal_hold(**one)
        version = s3.head_object(**one)["VersionId"]
        s3.delete_objects(Delete={"Objects": [{"Key": "k", "VersionId": version}]}, **here)
        s3.put_object_legal_hold(LegalHold={"Status": "OFF"}, **one)

    def _uploads(self, bucket) -> None:
        s3 = self.s3
        here = {"Bucket": bucket}
        s3.put_object(Key="source", Body=FIRST, **here)
        for name in ("", "CRC32", "SHA256"):
            chosen = {"ChecksumAlgorithm": name} if name else {}
            self._upload({**here, "Key": f"with{name}"}, chosen)
        for name in ALGORITHMS:
            self._copied_upload({**here, "Key": f"copied{name}"}, name)
        for key in ("a", "a", "b/1", "b/2", AWKWARD):
            last = s3.create_multipart_upload(
                Key=key, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT", **here
            )
        for asked in ({}, {"MaxUploads": 1}, {"Delimiter": "/"}, {"EncodingType": "url"}):
            page = s3.list_multipart_uploads(KeyMarker="A", Prefix="", **asked, **here)
        s3.list_multipart_uploads(KeyMarker="a", UploadIdMarker="0", **here)
        s3.list_multipart_uploads(MaxUploads=0, **here)
        assert page["Uploads"]
        s3.abort_multipart_upload(Key=AWKWARD, UploadId=last["UploadId"], **here)
        self.refused(s3.abort_multipart_upload, Key=AWKWARD, UploadId=last["UploadId"], **here)

    def _upload(self, upload, chosen) -> None:
        s3 = self.s3
        upload["UploadId"] = s3.create_multipart_upload(**upload, **chosen)["UploadId"]
        parts = []
        for number, piece in ((1, FIRST), (2, SECOND)):
            made = s3.upload_part(PartNumber=number, Body=piece, **upload, **chosen)
            sums = {name: text for name, text in made.items() if name.startswith("Checksum")}
            parts.append({"PartNumber": number, "ETag": made["ETag"], **sums})
        s3.list_parts(**upload)
        s3.list_parts(MaxParts=1, **upload)
        s3.list_parts(PartNumberMarker=1, **upload)
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
        self._read(upload)

    def _copied_upload(self, upload, name) -> None:
        """By what the copy says of the part, the same is uploaded: botocore can't compute MD5."""
        s3 = self.s3
        upload["UploadId"] = s3.create_multipart_upload(**upload, ChecksumAlgorithm=name)[
            "UploadId"
        ]
        source = f"{upload['Bucket']}/source"
        made = s3.upload_part_copy(PartNumber=1, CopySource=source, **upload)["CopyPartResult"]
        sent = {f"Checksum{name}": made[f"Checksum{name}"]}
        made = s3.upload_part(PartNumber=1, Body=FIRST, **sent, **upload)
        s3.list_parts(**upload)
        parts = [{"PartNumber": 1, "ETag": made["ETag"], **sent}]
        s3.complete_multipart_upload(MultipartUpload={"Parts": parts}, **upload)
        self._read(upload)

    def _read(self, upload) -> None:
        s3 = self.s3
        key = {"Bucket": upload["Bucket"], "Key": upload["Key"]}
        s3.head_object(PartNumber=1, ChecksumMode="ENABLED", **key)
        s3.get_object(PartNumber=1, ChecksumMode="ENABLED", **key)
        s3.get_object_attributes(ObjectAttributes=ALL_ATTRIBUTES, **key)
        s3.get_object_attributes(ObjectAttributes=["ObjectParts"], MaxParts=1, **key)


@pytest.fixture(scope="module")
def exchanges(endpoint) -> Iterator[dict[str, list[Exchange]]]:
    """All that was answered, by operation."""
    found: dict[str, list[Exchange]] = {}

    def keep(operation_model, response_dict, **_):
        body = response_dict["body"]
        exchange = Exchange(
            operation=operation_model.name,
            status=response_dict["status_code"],
            headers={name.lower(): text for name, text in response_dict["headers"].items()},
            body=body if isinstance(body, bytes) else None,
        )
        found.setdefault(exchange.operation, []).append(exchange)

    s3 = endpoint.client(parameter_validation=True)
    s3.meta.events.register("before-parse.s3", keep)
    Script(s3)
    return found


def names() -> list[str]:
    return sorted({operation.name for operation in OPERATIONS.values()} - UNMODELLED)


@pytest.mark.parametrize("name", names())
def test_answers_are_what_the_model_says(exchanges, name):
    assert name in exchanges, "the script does not call it"
    assert sorted({fault for one in exchanges[name] for fault in faults_of(one)}) == []


def test_answers_that_only_listings_of_configurations_give_are_too(exchanges):
    others = exchanges.keys() - names()
    assert (
        sorted({fault for name in others for one in exchanges[name] for fault in faults_of(one)})
        == []
    )


@pytest.mark.parametrize("name", names())
def test_every_member_of_an_output_is_told(exchanges, name):
    found = [one for one in exchanges[name] if one.status < 300]
    assert (name in NOT_CONFIGURED) == (not found)
    if not found:
        return
    for one in found:
        faults_of(one)
    seen = set().union(*(one.seen for one in found))
    absent = {path for path in members_of(name) if is_absent(name, path)}
    assert sorted(members_of(name) - absent - seen) == []
    assert sorted(absent & seen) == []


def is_absent(operation, path):
    """Whether this member, or one it is in, is listed as never there."""
    if NEVER.intersection(path.split(".")):
        return True
    above = ABSENT.get(operation, set())
    return any(path == one or path.startswith(f"{one}.") for one in above)
