"""DeleteObjects: up to 1,000 keys, one answer for each, one transaction batch and one barrier.

Concurrency: any task. Source: Amazon S3 API reference, DeleteObjects.
"""

from __future__ import annotations

from dataclasses import dataclass

from s3api import xml
from s3api.body import read_document
from s3api.errors import MalformedXML, NotImplementedYet, Refusal, failure_of
from s3api.face import Face
from s3api.objects import check_version
from s3api.requests import Request
from s3api.responses import Response, xml_response
from store.errors import StoreError
from store.types import Deletion, Doomed, Precondition

KEYS_MAX = 1000
# 1,000 keys of 1,024 bytes, some of which are written as character references.
SIZE_MAX_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class _Target:
    """One object to delete. etag: to be matched, "" for any."""

    key: str
    version_id: str
    etag: str


async def delete_objects(face: Face, request: Request) -> Response:
    targets, quiet = _parse(await read_document(request, SIZE_MAX_BYTES))
    outcomes = await _delete(face, request, targets)
    parts: list[str] = []
    for target, outcome in zip(targets, outcomes, strict=True):
        key = xml.element("Key", target.key)
        version = xml.optional("VersionId", target.version_id)
        if outcome is not None:
            failure = failure_of(outcome)
            assert failure is not None, outcome
            parts.append(
                f"<Error>{key}{version}{xml.element('Code', failure.code)}"
                f"{xml.element('Message', failure.message)}</Error>"
            )
        elif not quiet:
            parts.append(f"<Deleted>{key}{version}</Deleted>")
    return xml_response("DeleteResult", parts)


def _parse(document: bytes) -> tuple[list[_Target], bool]:
    """The objects named, and whether to keep quiet about successes. Raises MalformedXML."""
    root = xml.parse(document, "Delete")
    targets: list[_Target] = []
    quiet = False
    for child in root:
        name = xml.local_name(child)
        if name == "Quiet":
            quiet = (child.text or "").strip().lower() == "true"
        elif name == "Object":
            fields = xml.texts(child)
            if not fields.get("Key") or len(targets) == KEYS_MAX:
                raise MalformedXML()
            if "LastModifiedTime" in fields or "Size" in fields:
                raise NotImplementedYet("Conditions on time or size are for directory buckets.")
            targets.append(
                _Target(
                    key=fields["Key"],
                    version_id=fields.get("VersionId", ""),
                    etag=fields.get("ETag", "").strip('"'),
                )
            )
    if not targets:
        raise MalformedXML()
    return targets, quiet


async def _delete(
    face: Face, request: Request, targets: list[_Target]
) -> list[StoreError | Refusal | None]:
    """For each target None, or why it is still there. Raises NoSuchBucket for all of them."""
    outcomes: list[StoreError | Refusal | None] = [None] * len(targets)
    plain: list[int] = []
    for index, target in enumerate(targets):
        try:
            face.authorize(request.auth, "s3:DeleteObject", request.bucket, target.key)
            check_version(target.version_id)
            if target.etag:
                await face.namespace.objects.delete(
                    request.bucket, target.key, precondition=Precondition(if_match=(target.etag,))
                )
            else:
                plain.append(index)
        except (StoreError, Refusal) as exc:
            outcomes[index] = exc
    doomed = [Doomed(key=targets[index].key) for index in plain]
    for index, outcome in zip(
        plain, await face.namespace.objects.delete_many(request.bucket, doomed), strict=True
    ):
        outcomes[index] = None if isinstance(outcome, Deletion) else outcome
    return outcomes
