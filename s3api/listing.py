"""Listings: ListObjectsV2, ListObjects, and what ListObjectVersions has in common with them.

Each is one page of `namespace.listing`, written as text: a page of 1,000 keys is 1,000 formatted
strings and one join.

Concurrency: any task. Source: Amazon S3 API reference, ListObjectsV2, ListObjects; encoding-type as
the SDKs decode it (percent-encoding, "/" kept).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import quote

from s3api.acl import object_owner_element, owner_element
from s3api.errors import InvalidArgument
from s3api.face import Face
from s3api.requests import Request
from s3api.responses import Response, xml_response
from s3api.tokens import decode_token, encode_token
from s3api.xml import element, escape, flag, optional, timestamp
from store.types import ListPage, ObjectStat

KEYS_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ListQuery:
    """What all listings are asked. encode: how keys are written (escaped, or encoded)."""

    prefix: str
    delimiter: str
    limit: int
    encoding: str
    encode: Callable[[str], str]

    async def page(self, face: Face, bucket: str, after: str) -> ListPage:
        return await face.namespace.listing.objects(
            bucket, prefix=self.prefix, delimiter=self.delimiter, after=after, limit=self.limit
        )

    def keyed(self, name: str, text: str) -> str:
        """An element that holds a key or a part of one."""
        return f"<{name}>{self.encode(text)}</{name}>"

    def keyed_optional(self, name: str, text: str) -> str:
        return self.keyed(name, text) if text else ""

    def frame(self, truncated: bool) -> list[str]:
        """What every listing repeats of its question."""
        return [
            element("MaxKeys", self.limit),
            self.keyed_optional("Delimiter", self.delimiter),
            optional("EncodingType", self.encoding),
            flag("IsTruncated", truncated),
        ]


def parse_listing(request: Request) -> ListQuery:
    """Raises InvalidArgument."""
    query = request.query
    encoding = query.get("encoding-type", "")
    if encoding not in ("", "url"):
        raise InvalidArgument(
            "Invalid Encoding Method specified in Request",
            (("ArgumentName", "encoding-type"), ("ArgumentValue", encoding)),
        )
    return ListQuery(
        prefix=query.get("prefix", ""),
        delimiter=query.get("delimiter", ""),
        limit=request.limit("max-keys", KEYS_PAGE),
        encoding=encoding,
        encode=encode_key if encoding else escape,
    )


def encode_key(key: str) -> str:
    """A key as encoding-type=url shows it: nothing in it needs escaping."""
    return quote(key, safe="/", errors="replace")


async def list_objects_v2(face: Face, request: Request) -> Response:
    asked = parse_listing(request)
    query = request.query
    token = query.get("continuation-token")
    start_after = query.get("start-after", "")
    after = start_after if token is None else decode_token(token)
    page = await asked.page(face, request.bucket, after)
    wants_owner = query.get("fetch-owner", "").lower() == "true"
    owner = owner_element(face, request.bucket) if wants_owner else ""
    parts = [
        element("Name", request.bucket),
        asked.keyed("Prefix", asked.prefix),
        asked.keyed_optional("StartAfter", start_after),
        "" if token is None else element("ContinuationToken", token),
        "" if page.next is None else element("NextContinuationToken", encode_token(page.next)),
        element("KeyCount", len(page.entries)),
        *asked.frame(page.next is not None),
        *_entries(face, asked, page, owner),
    ]
    return xml_response("ListBucketResult", parts)


async def list_objects(face: Face, request: Request) -> Response:
    asked = parse_listing(request)
    marker = request.query.get("marker", "")
    page = await asked.page(face, request.bucket, marker)
    parts = [
        element("Name", request.bucket),
        asked.keyed("Prefix", asked.prefix),
        asked.keyed("Marker", marker),
        # Without a delimiter the last key is the next marker; S3 leaves that to the client.
        asked.keyed("NextMarker", page.next) if page.next and asked.delimiter else "",
        *asked.frame(page.next is not None),
        *_entries(face, asked, page, owner_element(face, request.bucket)),
    ]
    return xml_response("ListBucketResult", parts)


def _entries(face: Face, asked: ListQuery, page: ListPage, owner: str) -> list[str]:
    """Contents, then CommonPrefixes, each in order."""
    encode = asked.encode
    contents: list[str] = []
    prefixes: list[str] = []
    for entry in page.entries:
        if isinstance(entry, ObjectStat):
            meta = entry.meta
            checksums = checksum_names(entry) if meta.checksums else ""
            whose = object_owner_element(face, meta, owner) if owner and meta.owner else owner
            contents.append(
                f"<Contents><Key>{encode(entry.key)}</Key>"
                f"<LastModified>{timestamp(entry.modified_ns)}</LastModified>"
                f"<ETag>&quot;{entry.etag}&quot;</ETag>{checksums}<Size>{entry.size}</Size>"
                f"{whose}<StorageClass>STANDARD</StorageClass></Contents>"
            )
        else:
            prefixes.append(prefix_element(encode(entry)))
    return contents + prefixes


def prefix_element(encoded: str) -> str:
    """A common prefix, encoded or escaped already."""
    return f"<CommonPrefixes><Prefix>{encoded}</Prefix></CommonPrefixes>"


def checksum_names(entry: ObjectStat) -> str:
    """The algorithms and the type of an entry's checksums."""
    return _checksum_names(tuple(entry.meta.checksums), entry.meta.checksum_type)


@functools.lru_cache(maxsize=256)
def _checksum_names(names: tuple[str, ...], checksum_type: str) -> str:
    """One text for the thousand entries of a page, which mostly have the same algorithm."""
    algorithms = "".join(element("ChecksumAlgorithm", name) for name in names)
    return algorithms + element("ChecksumType", checksum_type or "FULL_OBJECT")
