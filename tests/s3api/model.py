"""Answers held against botocore's own model of S3: what differs from it, in words.

The model says of each operation which headers and elements its answer may have, where, of which
type, and in which order; the reference pages are made from it. What it leaves out is the name of
the document's root where the output has no payload, hence `ROOTS`; and in some places the
reference's examples have another order than its syntax, hence `ORDERS`.

Source: botocore's s3/2006-03-01/service-2.json; RFC 9110 (5.6.7) for dates in headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from botocore.loaders import Loader
from botocore.model import ListShape, OperationModel, ServiceModel, Shape, StructureShape
from lxml import etree

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
SERVICE = ServiceModel(Loader().load_service_model("s3", "service-2"))

ROOTS = {
    "CompleteMultipartUpload": "CompleteMultipartUploadResult",
    "CreateMultipartUpload": "InitiateMultipartUploadResult",
    "DeleteObjects": "DeleteResult",
    "GetBucketAccelerateConfiguration": "AccelerateConfiguration",
    "GetBucketAcl": "AccessControlPolicy",
    "GetBucketCors": "CORSConfiguration",
    "GetBucketLocation": "LocationConstraint",
    "GetBucketLogging": "BucketLoggingStatus",
    "GetBucketNotificationConfiguration": "NotificationConfiguration",
    "GetBucketRequestPayment": "RequestPaymentConfiguration",
    "GetBucketTagging": "Tagging",
    "GetBucketVersioning": "VersioningConfiguration",
    "GetBucketWebsite": "WebsiteConfiguration",
    "GetObjectAcl": "AccessControlPolicy",
    "GetObjectAttributes": "GetObjectAttributesResponse",
    "GetObjectTagging": "Tagging",
    "ListBucketAnalyticsConfigurations": "ListBucketAnalyticsConfigurationResult",
    "ListBucketIntelligentTieringConfigurations": (
        "ListBucketIntelligentTieringConfigurationsOutput"
    ),
    "ListBucketInventoryConfigurations": "ListInventoryConfigurationsResult",
    "ListBucketMetricsConfigurations": "ListMetricsConfigurationsResult",
    "ListBuckets": "ListAllMyBucketsResult",
    "ListMultipartUploads": "ListMultipartUploadsResult",
    "ListObjectVersions": "ListVersionsResult",
    "ListObjects": "ListBucketResult",
    "ListObjectsV2": "ListBucketResult",
    "ListParts": "ListPartsResult",
}
_CHECKSUMS = tuple(
    f"Checksum{name}" for name in SERVICE.shape_for("ChecksumAlgorithm").metadata["enum"]
)
# Elements of structures in the order of the reference's examples; those at the same place in a
# tuple within come as they come.
ORDERS: dict[str, tuple[str | tuple[str, ...], ...]] = {
    "CopyObjectResult": ("LastModified", "ETag", _CHECKSUMS, "ChecksumType"),
    "CopyPartResult": ("LastModified", "ETag", _CHECKSUMS),
    "DeleteMarkerEntry": ("Key", "VersionId", "IsLatest", "LastModified", "Owner"),
    "Grantee": ("ID", "DisplayName", "URI"),
    "ListBucketsOutput": ("Owner", "Buckets", "Prefix", "ContinuationToken"),
    "ListObjectVersionsOutput": (
        *("Name", "Prefix", "KeyMarker", "VersionIdMarker", "NextKeyMarker", "NextVersionIdMarker"),
        *("MaxKeys", "Delimiter", "EncodingType", "IsTruncated"),
        *(("Version", "DeleteMarker"), "CommonPrefixes"),
    ),
    "ListObjectsOutput": (
        *("Name", "Prefix", "Marker", "NextMarker", "MaxKeys", "Delimiter", "EncodingType"),
        *("IsTruncated", "Contents", "CommonPrefixes"),
    ),
    "ListObjectsV2Output": (
        *("Name", "Prefix", "StartAfter", "ContinuationToken", "NextContinuationToken"),
        *("KeyCount", "MaxKeys", "Delimiter", "EncodingType", "IsTruncated"),
        *("Contents", "CommonPrefixes"),
    ),
    "Object": (
        *("Key", "LastModified", "ETag", "ChecksumAlgorithm", "ChecksumType", "Size"),
        *("Owner", "StorageClass"),
    ),
    "ObjectVersion": (
        *("Key", "VersionId", "IsLatest", "LastModified", "ETag"),
        *("ChecksumAlgorithm", "ChecksumType", "Size", "Owner", "StorageClass"),
    ),
    "Owner": ("ID", "DisplayName"),
}
# Headers that every answer may have and the model has no need to name.
COMMON_HEADERS = frozenset(
    (
        "accept-ranges",
        "connection",
        "content-length",
        "content-type",
        "date",
        "keep-alive",
        "last-modified",
        "location",
        "server",
        "transfer-encoding",
        "x-amz-bucket-region",
        "x-amz-id-2",
        "x-amz-request-id",
    )
)

# Operations of ours that the model doesn't know.
# A form has none, and S3 Control has one of its own.
UNMODELLED = {"PostObject"} | {
    f"{verb}AccountPublicAccessBlock" for verb in ("Get", "Put", "Delete")
}

_TEXTS = {
    "integer": re.compile(r"-?\d+"),
    "long": re.compile(r"-?\d+"),
    "boolean": re.compile(r"true|false"),
    "timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
}
_HEADER_DATE = re.compile(r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d [A-Z][a-z]{2} \d{4} [\d:]{8} GMT")


@dataclass
class Exchange:
    """One answer as it came. headers: lower-case names. body: None where it is an object's."""

    operation: str
    status: int
    headers: Mapping[str, str]
    body: bytes | None
    seen: set[str] = field(default_factory=set)
    """Names of the output's members that were there, dotted below the first."""


def faults_of(exchange: Exchange) -> list[str]:
    """What in this answer the model does not know, or knows otherwise. Fills `seen`."""
    operation = SERVICE.operation_model(exchange.operation)
    if exchange.status >= 300:
        return [] if exchange.status == 304 else list(_error_faults(exchange))
    found = list(_header_faults(operation, exchange))
    if exchange.body is not None:
        found += _body_faults(operation, exchange)
    return found


def _error_faults(exchange: Exchange) -> Iterator[str]:
    if not exchange.body:
        return
    root = etree.fromstring(exchange.body)
    names = [child.tag for child in root]
    if root.tag != "Error" or names[:2] != ["Code", "Message"]:
        yield f"no error document: {exchange.body[:200]!r}"
    if names[-3:] != ["Resource", "RequestId", "HostId"]:
        yield f"the error document ends in {names[-3:]}"


def _header_faults(operation: OperationModel, exchange: Exchange) -> Iterator[str]:
    output = operation.output_shape
    known: dict[str, tuple[str, Shape]] = {}
    prefixes: dict[str, str] = {}
    if output is not None:
        for name, member in output.members.items():
            location, wire = member.serialization.get("location"), wire_name(name, member)
            if location == "header":
                known[wire.lower()] = (name, member)
            elif location == "headers":
                prefixes[wire.lower()] = name
    for header, text in exchange.headers.items():
        prefix = next((prefix for prefix in prefixes if header.startswith(prefix)), None)
        if header in known:
            name, shape = known[header]
            exchange.seen.add(name)
            yield from _header_text_faults(header, shape, text)
        elif prefix is not None:
            exchange.seen.add(prefixes[prefix])
        elif header not in COMMON_HEADERS:
            yield f"header {header}: not in the model"


def _header_text_faults(header: str, shape: Shape, text: str) -> Iterator[str]:
    if shape.type_name == "timestamp" and shape.serialization.get("timestampFormat") != "iso8601":
        # Expires is whatever the client said it to be.
        if header != "expires" and not _HEADER_DATE.fullmatch(text):
            yield f"header {header}: {text!r} is no date"
    else:
        yield from _text_faults(f"header {header}", shape, text)


def _body_faults(operation: OperationModel, exchange: Exchange) -> Iterator[str]:
    output = operation.output_shape
    body = exchange.body or b""
    payload = output.serialization.get("payload") if output is not None else None
    if output is None or (payload is None and not _body_members(output)):
        if body:
            yield f"a body, though there is none to be: {body[:100]!r}"
        return
    shape: Shape = output
    expected_root = ROOTS.get(operation.name, "")
    prefix = ""
    if payload is not None:
        shape = output.members[payload]
        exchange.seen.add(payload)
        expected_root, prefix = wire_name(payload, shape), f"{payload}."
        if not isinstance(shape, StructureShape):
            return
    if exchange.headers.get("content-type") != "application/xml":
        yield f"content-type {exchange.headers.get('content-type')}"
    if not body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>'):
        yield "no XML declaration"
    root = etree.fromstring(body)
    if root.tag != f"{{{NAMESPACE}}}{expected_root}":
        yield f"root {root.tag}, and not {expected_root} in the namespace"
    if operation.name == "GetBucketLocation":
        # The one document whose root is the value itself.
        exchange.seen.add("LocationConstraint")
        return
    yield from _structure_faults(shape, root, prefix, exchange.seen)


def _body_members(shape: StructureShape) -> dict[str, Shape]:
    return {
        name: member
        for name, member in shape.members.items()
        if "location" not in member.serialization
    }


def wire_name(name: str, shape: Shape) -> str:
    return shape.serialization.get("name", name)


def _structure_faults(
    shape: StructureShape, element: etree._Element, path: str, seen: set[str]
) -> Iterator[str]:
    members = _body_members(shape)
    wires = {wire_name(name, member): name for name, member in members.items()}
    ranks = _ranks(shape, wires)
    last = 0
    found: set[str] = set()
    for child in element:
        tag = etree.QName(child)
        if tag.localname not in wires or tag.namespace != NAMESPACE:
            yield f"{path}{tag.text}: not in the model"
            continue
        name = wires[tag.localname]
        member = members[name]
        rank = ranks.get(tag.localname, -1)
        if rank < last:
            yield f"{path}{name}: out of order"
        last = max(last, rank)
        if name in found and not _is_flattened(member):
            yield f"{path}{name}: twice"
        found.add(name)
        seen.add(path + name)
        yield from _value_faults(member, child, f"{path}{name}", seen)
    for name, member in members.items():
        if member.serialization.get("xmlAttribute") and element.get(XSI_TYPE):
            found.add(name)
            seen.add(path + name)
    for name in shape.required_members:
        if name in members and name not in found:
            yield f"{path}{name}: required, and missing"


def _ranks(shape: StructureShape, wires: Mapping[str, str]) -> dict[str, int]:
    """The place of each element among its siblings."""
    ranks: dict[str, int] = {}
    for rank, entry in enumerate(ORDERS.get(shape.name, tuple(wires))):
        for wire in (entry,) if isinstance(entry, str) else entry:
            ranks[wire] = rank
    return ranks


def _is_flattened(shape: Shape) -> bool:
    return isinstance(shape, ListShape) and bool(shape.serialization.get("flattened"))


def _value_faults(
    shape: Shape, element: etree._Element, path: str, seen: set[str]
) -> Iterator[str]:
    if isinstance(shape, ListShape):
        if _is_flattened(shape):
            yield from _value_faults(shape.member, element, path, seen)
            return
        expected = shape.member.serialization.get("name", "member")
        for child in element:
            if etree.QName(child).localname != expected:
                yield f"{path}: {etree.QName(child).localname}, and not {expected}, in the list"
            yield from _value_faults(shape.member, child, path, seen)
    elif isinstance(shape, StructureShape):
        yield from _structure_faults(shape, element, f"{path}.", seen)
    else:
        if len(element):
            yield f"{path}: has elements, and is a {shape.type_name}"
        yield from _text_faults(path, shape, element.text or "")


def _text_faults(path: str, shape: Shape, text: str) -> Iterator[str]:
    pattern = _TEXTS.get(shape.type_name)
    if pattern is not None and not pattern.fullmatch(text):
        yield f"{path}: {text!r} is no {shape.type_name}"
    values = shape.metadata.get("enum")
    if values and text not in values:
        yield f"{path}: {text!r} is none of {values}"


def members_of(operation: str) -> set[str]:
    """The members of the operation's output, dotted below the first; recursion is not followed."""
    output = SERVICE.operation_model(operation).output_shape
    found: set[str] = set()
    if output is not None:
        _collect(output, "", found, ())
    return found


def _collect(shape: Shape, path: str, found: set[str], above: tuple[str, ...]) -> None:
    while isinstance(shape, ListShape):
        shape = shape.member
    if not isinstance(shape, StructureShape) or shape.name in above:
        return
    for name, member in shape.members.items():
        found.add(path + name)
        _collect(member, f"{path}{name}.", found, (*above, shape.name))
