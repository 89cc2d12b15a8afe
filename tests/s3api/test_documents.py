"""Settings of a bucket: tags, and what is said of those that nobody made."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from tests.s3api.raw import send
from tests.s3api.test_objects import code_of


def test_tags_are_kept_replaced_and_removed(s3, bucket):
    for tags in ({"a": "1", "b c": ""}, {"ü": "="}):
        tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tag_set})
        assert s3.get_bucket_tagging(Bucket=bucket)["TagSet"] == tag_set
    s3.delete_bucket_tagging(Bucket=bucket)
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_tagging(Bucket=bucket)
    assert code_of(caught) == (404, "NoSuchTagSet")


def test_bucket_has_at_most_fifty_tags(s3, bucket):
    tags = [{"Key": f"k{number}", "Value": ""} for number in range(51)]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags[:50]})
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})
    assert code_of(caught) == (400, "InvalidTag")
    assert len(s3.get_bucket_tagging(Bucket=bucket)["TagSet"]) == 50


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("get_bucket_policy", "NoSuchBucketPolicy"),
        ("get_bucket_policy_status", "NoSuchBucketPolicy"),
        ("get_bucket_encryption", "ServerSideEncryptionConfigurationNotFoundError"),
        ("get_bucket_lifecycle_configuration", "NoSuchLifecycleConfiguration"),
        ("get_bucket_replication", "ReplicationConfigurationNotFoundError"),
        ("get_bucket_cors", "NoSuchCORSConfiguration"),
        ("get_bucket_tagging", "NoSuchTagSet"),
        ("get_bucket_website", "NoSuchWebsiteConfiguration"),
    ],
)
def test_what_nobody_configured_is_not_found(s3, bucket, name, code):
    with pytest.raises(ClientError) as caught:
        getattr(s3, name)(Bucket=bucket)
    assert code_of(caught) == (404, code)
    with pytest.raises(ClientError) as caught:
        getattr(s3, name)(Bucket="absent")
    assert code_of(caught) == (404, "NoSuchBucket")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("get_bucket_request_payment", {"Payer": "BucketOwner"}),
        (
            "get_bucket_ownership_controls",
            {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        ),
        (
            "get_public_access_block",
            {
                "PublicAccessBlockConfiguration": {
                    "BlockPublicAcls": True,
                    "IgnorePublicAcls": True,
                    "BlockPublicPolicy": True,
                    "RestrictPublicBuckets": True,
                }
            },
        ),
        ("get_bucket_accelerate_configuration", {}),
        ("get_bucket_logging", {}),
        ("get_bucket_notification_configuration", {}),
        ("list_bucket_analytics_configurations", {"IsTruncated": False}),
        ("list_bucket_inventory_configurations", {"IsTruncated": False}),
        ("list_bucket_metrics_configurations", {"IsTruncated": False}),
        ("list_bucket_intelligent_tiering_configurations", {"IsTruncated": False}),
    ],
)
def test_what_has_a_default_says_it(s3, bucket, name, said):
    answer = getattr(s3, name)(Bucket=bucket)
    del answer["ResponseMetadata"]
    assert answer == said
    with pytest.raises(ClientError) as caught:
        getattr(s3, name)(Bucket="absent")
    assert code_of(caught) == (404, "NoSuchBucket")


def test_configuration_of_an_id_that_nobody_made_is_not_found(s3, bucket):
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_metrics_configuration(Bucket=bucket, Id="all")
    assert code_of(caught) == (404, "NoSuchConfiguration")


def test_what_holds_anyway_may_be_put_and_nothing_else(s3, bucket):
    s3.put_bucket_request_payment(
        Bucket=bucket, RequestPaymentConfiguration={"Payer": "BucketOwner"}
    )
    with pytest.raises(ClientError) as caught:
        s3.put_bucket_request_payment(
            Bucket=bucket, RequestPaymentConfiguration={"Payer": "Requester"}
        )
    assert code_of(caught) == (501, "NotImplemented")


@pytest.mark.parametrize("subresource", ["accelerate", "encryption", "lifecycle", "replication"])
def test_what_is_not_there_to_be_had_is_not_implemented(endpoint, bucket, subresource):
    answer = send(endpoint, "PUT", f"/{bucket}?{subresource}", body=b"<X/>")
    assert (answer.status, answer.code) == (501, "NotImplemented")
