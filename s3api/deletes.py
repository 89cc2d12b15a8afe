"""DeleteObjects: up to 1,000 versions, one answer for each, one transaction batch and one barrier.

Concurrency: any task. Source: Amazon S3 API reference, DeleteObjects.
"""

from __future__ import annotations

from s3api import xml
from s3api.body import read_document
from s3api.dates import parse_http_date, parse_iso_time
from s3api.errors import AccessDenied, MalformedXML, Refusal, failure_of
from s3api.face import Face
from s3api.locks import bypasses_governance
from s3api.requests import Request
from s3api.responses import Response, xml_response
from s3api.writes import check_missing
from s3api.xml import element, optional
from store.errors import NoSuchKey, StoreError
from store.types import ANY, Deletion, Doomed, Precondition

KEYS_MAX = 1000
# 1,000 keys of 1,024 bytes, some of which are written as character references.
SIZE_MAX_BYTES = 4 << 20

_FIELDS = ("Key", "VersionId", "ETag", "LastModifiedTime", "Size")

_Outcome = Deletion | StoreError | Refusal


async def delete_objects(face: Face, request: Request) -> Response:
    doomed, quiet = _parse(await read_document(request, SIZE_MAX_BYTES))
    parts: list[str] = []
    for entry, outcome in zip(doomed, await _delete(face, request, doomed), strict=True):
        named = element("Key", entry.key) + optional("VersionId", entry.version)
        if not isinstance(outcome, Deletion):
            failure = failure_of(outcome)
            assert failure is not None, outcome
            parts.append(
                f"<Error>{named}{element('Code', failure.code)}"
                f"{element('Message', failure.message)}</Error>"
            )
        elif not quiet:
            parts.append(f"<Deleted>{named}{_marker(outcome)}</Deleted>")
    return xml_response("DeleteResult", parts)


def _marker(deletion: Deletion) -> str:
    """The delete marker that came to be, or that is gone."""
    if not deletion.marker or deletion.version_id is None:
        return ""
    return (
        f"<DeleteMarker>true</DeleteMarker>{element('DeleteMarkerVersionId', deletion.version_id)}"
    )


def _parse(document: bytes) -> tuple[list[Doomed], bool]:
    """The versions named, and whether to keep quiet about successes. Raises MalformedXML."""
    root = xml.only(xml.parse(document, "Delete"), "Object", "Quiet")
    doomed: list[Doomed] = []
    quiet = False
    for child in root:
        if xml.local_name(child) == "Quiet":
            quiet = (child.text or "").strip().lower() == "true"
        else:
            fields = xml.texts(xml.only(child, *_FIELDS))
            if not fields.get("Key") or len(doomed) == KEYS_MAX:
                raise MalformedXML()
            doomed.append(
                Doomed(
                    key=fields["Key"],
                    version=fields.get("VersionId") or None,
                    precondition=_precondition(fields),
                )
            )
    if not doomed:
        raise MalformedXML()
    return doomed, quiet


def _precondition(fields: dict[str, str]) -> Precondition:
    """ETag, Size and LastModifiedTime of an entry. Raises MalformedXML."""
    etag = fields.get("ETag", "").strip('"')
    size = fields.get("Size", "")
    modified = fields.get("LastModifiedTime", "")
    if not etag and not size and not modified:
        return ANY
    if size and not (size.isascii() and size.isdecimal() and len(size) < 19):
        raise MalformedXML()
    return Precondition(
        if_match=(etag,) if etag else (),
        if_match_size=int(size) if size else None,
        if_match_modified_ns=_time_ns(modified) if modified else None,
    )


def _time_ns(text: str) -> int:
    """SDKs write either form. Raises MalformedXML."""
    seconds = parse_http_date(text.encode())
    time_ns = parse_iso_time(text) if seconds is None else seconds * 1_000_000_000
    if time_ns is None:
        raise MalformedXML()
    return time_ns


async def _delete(face: Face, request: Request, doomed: list[Doomed]) -> list[_Outcome]:
    """For each entry what was done, or why it is still there. Raises NoSuchBucket for all."""
    outcomes: list[_Outcome] = [AccessDenied()] * len(doomed)
    bypassing: list[int] = []
    others: list[int] = []
    for index, entry in enumerate(doomed):
        action = "s3:DeleteObject" if entry.version is None else "s3:DeleteObjectVersion"
        try:
            face.authorize(request, action, request.bucket, entry.key, entry.version)
        except AccessDenied:
            continue
        bypasses = bypasses_governance(face, request, entry.key, entry.version)
        (bypassing if bypasses else others).append(index)
    for chosen, bypass in ((others, False), (bypassing, True)):
        allowed = [doomed[index] for index in chosen]
        done = await face.namespace.objects.delete_many(request.bucket, allowed, bypass=bypass)
        for index, outcome in zip(chosen, done, strict=True):
            outcomes[index] = _settled(face, request.bucket, doomed[index], outcome)
    return outcomes


def _settled(face: Face, bucket: str, entry: Doomed, outcome: Deletion | StoreError) -> _Outcome:
    """A condition on what isn't there is no failure."""
    if not isinstance(outcome, NoSuchKey):
        return outcome
    try:
        check_missing(face, bucket, entry.key, entry.precondition)
    except Refusal as exc:
        return exc
    return Deletion(version_id=None, marker=False)
