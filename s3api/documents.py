"""A bucket's settings: those that are kept (tags), and what S3 says of those that nobody made.

Tools ask a bucket for all of them and stop at an answer they don't know. So each GET is answered as
Amazon S3 does for a bucket where nothing was configured, and each PUT of what isn't there to have
stays NotImplemented, but for those that say what holds anyway.

Concurrency: any task. Source: Amazon S3 API reference, the GetBucket* operations and their errors.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec

from s3api import xml
from s3api.body import read_document
from s3api.errors import NotImplementedYet
from s3api.face import Face
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.settingrefusals import (
    NoSuchConfiguration,
    NoSuchEncryption,
    NoSuchLifecycle,
    NoSuchReplication,
    NoSuchTagSet,
    NothingConfigured,
)
from s3api.tagging import parse_tags, tagging_response

TAGGING = "tagging"
TAGS_MAX = 50
SIZE_BYTES_MAX = 64 * 1024

Run = Callable[[Face, Request], Awaitable[Response]]


async def get_bucket_tagging(face: Face, request: Request) -> Response:
    document = face.namespace.buckets.document(request.bucket, TAGGING)
    if document is None:
        raise NoSuchTagSet(extras=(("BucketName", request.bucket),))
    return tagging_response(msgspec.json.decode(document, type=dict[str, str]))


async def put_bucket_tagging(face: Face, request: Request) -> Response:
    tags = parse_tags(await read_document(request, SIZE_BYTES_MAX), TAGS_MAX)
    document = msgspec.json.encode(tags).decode()
    await face.namespace.buckets.set_document(request.bucket, TAGGING, document)
    return NO_CONTENT


async def delete_bucket_tagging(face: Face, request: Request) -> Response:
    await face.namespace.buckets.set_document(request.bucket, TAGGING, None)
    return NO_CONTENT


def absent(refusal: type[NothingConfigured]) -> Run:
    """The operation that finds no such configuration in any bucket there is."""

    async def run(face: Face, request: Request) -> Response:
        face.namespace.buckets.get(request.bucket)
        raise refusal(extras=(("BucketName", request.bucket),))

    return run


def constant(root: str, content: str = "") -> Run:
    """The operation that answers the same document for every bucket there is."""

    async def run(face: Face, request: Request) -> Response:
        face.namespace.buckets.get(request.bucket)
        return xml_response(root, [content])

    return run


def empty_list(root: str) -> Run:
    """Configurations that have ids: none to list, and none of the id that is asked for."""
    listed = constant(root, xml.flag("IsTruncated", False))
    single = absent(NoSuchConfiguration)

    async def run(face: Face, request: Request) -> Response:
        chosen = single if "id" in request.query else listed
        return await chosen(face, request)

    return run


def accepted(root: str, *texts: str) -> Run:
    """The operation that takes a document which says what holds anyway, and no other.

    texts: those that stand in it, in order.
    """

    async def run(face: Face, request: Request) -> Response:
        face.namespace.buckets.get(request.bucket)
        element = xml.parse(await read_document(request, SIZE_BYTES_MAX), root)
        if tuple(text.strip() for text in element.itertext() if text.strip()) != texts:
            raise NotImplementedYet()
        return Response(200)

    return run


get_request_payment = constant("RequestPaymentConfiguration", "<Payer>BucketOwner</Payer>")
put_request_payment = accepted("RequestPaymentConfiguration", "BucketOwner")
get_accelerate = constant("AccelerateConfiguration")
get_logging = constant("BucketLoggingStatus")
put_logging = accepted("BucketLoggingStatus")
get_notification = constant("NotificationConfiguration")
put_notification = accepted("NotificationConfiguration")
get_encryption = absent(NoSuchEncryption)
get_lifecycle = absent(NoSuchLifecycle)
get_replication = absent(NoSuchReplication)
list_analytics = empty_list("ListBucketAnalyticsConfigurationResult")
list_inventory = empty_list("ListInventoryConfigurationsResult")
list_metrics = empty_list("ListMetricsConfigurationsResult")
list_tiering = empty_list("ListBucketIntelligentTieringConfigurationsOutput")
