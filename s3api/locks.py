"""Object lock: a bucket's default retention, a version's retention and its legal hold.

What a lock forbids is decided by the store, in the transaction that would delete or change; here
documents are read and written, and it is decided who may bypass governance.

Concurrency: any task. Source: Amazon S3 API reference, the six operations below; user guide,
"Locking objects with Object Lock".
"""

from __future__ import annotations

from s3api import xml
from s3api.body import read_document
from s3api.dates import parse_iso_time
from s3api.errors import (
    InvalidRequest,
    InvalidRetentionPeriod,
    MalformedXML,
    NoSuchObjectLockConfiguration,
    NotImplementedYet,
    ObjectLockConfigurationNotFound,
)
from s3api.face import Face
from s3api.lockheaders import MODES, check_future
from s3api.refusals import AccessDenied
from s3api.requests import Request
from s3api.responses import Response, xml_response
from store.types import LockRule

_SIZE_BYTES = 64 * 1024
_DAYS_MAX, _YEARS_MAX = 36_500, 100
_BYPASS = b"x-amz-bypass-governance-retention"


def bypasses_governance(face: Face, request: Request, key: str, version: str | None = None) -> bool:
    """Whether the request asks to bypass GOVERNANCE, and may. version: as `Face.authorize` has it.

    Who may not is not refused here: what is not locked can be deleted without the right.
    """
    if request.headers.get(_BYPASS, b"").lower() != b"true":
        return False
    try:
        face.authorize(request, "s3:BypassGovernanceRetention", request.bucket, key, version)
    except AccessDenied:
        return False
    return True


async def get_lock_configuration(face: Face, request: Request) -> Response:
    rule = face.namespace.buckets.lock_rule(request.bucket)
    if rule is None:
        raise ObjectLockConfigurationNotFound(extras=(("BucketName", request.bucket),))
    parts = ["<ObjectLockEnabled>Enabled</ObjectLockEnabled>"]
    if rule.mode:
        period = xml.element("Days", rule.days) if rule.days else xml.element("Years", rule.years)
        parts.append(
            f"<Rule><DefaultRetention>{xml.element('Mode', rule.mode)}{period}"
            "</DefaultRetention></Rule>"
        )
    return xml_response("ObjectLockConfiguration", parts)


async def put_lock_configuration(face: Face, request: Request) -> Response:
    rule = _parse_configuration(await read_document(request, _SIZE_BYTES))
    await face.namespace.buckets.set_lock_rule(request.bucket, rule)
    return Response(200)


def _parse_configuration(document: bytes) -> LockRule:
    """Raises MalformedXML, InvalidRetentionPeriod."""
    root = xml.parse(document, "ObjectLockConfiguration")
    xml.only(root, "ObjectLockEnabled", "Rule")
    if xml.texts(root).get("ObjectLockEnabled") != "Enabled":
        raise MalformedXML()
    rules = list(xml.children(root, "Rule"))
    if not rules:
        return LockRule()
    retentions = list(xml.only(rules[0], "DefaultRetention"))
    if len(rules) > 1 or len(retentions) != 1:
        raise MalformedXML()
    fields = xml.texts(xml.only(retentions[0], "Mode", "Days", "Years", "DefaultEventHold"))
    _check_event_hold(fields, "DefaultEventHold")
    if fields.get("Mode") not in MODES or ("Days" in fields) == ("Years" in fields):
        raise MalformedXML()
    days = _period(fields["Days"], _DAYS_MAX) if "Days" in fields else 0
    years = _period(fields["Years"], _YEARS_MAX) if "Years" in fields else 0
    return LockRule(mode=fields["Mode"], days=days, years=years)


def _check_event_hold(fields: dict[str, str], name: str) -> None:
    """Raises NotImplementedYet for what would not hold what it promises."""
    if name in fields:
        raise NotImplementedYet("Event holds are not implemented.")


def _period(text: str, highest: int) -> int:
    """A number of days or years, 1 to `highest`. Raises MalformedXML, InvalidRetentionPeriod."""
    try:
        period = int(text) if len(text) < 12 else highest + 1
    except ValueError:
        raise MalformedXML() from None
    if period < 1:
        raise InvalidRetentionPeriod("Default retention period must be a positive integer value.")
    if period > highest:
        raise InvalidRetentionPeriod(
            f"Default retention period is too large: the most is {_DAYS_MAX} days or {_YEARS_MAX} "
            "years."
        )
    return period


def _check_locking(face: Face, request: Request) -> None:
    """Raises NoSuchBucket, and InvalidRequest unless the bucket has object lock."""
    if face.namespace.buckets.lock_rule(request.bucket) is None:
        raise InvalidRequest("Bucket is missing Object Lock Configuration")


async def get_retention(face: Face, request: Request) -> Response:
    _check_locking(face, request)
    meta = face.namespace.objects.stat(request.bucket, request.key, request.version()).meta
    if not meta.lock_mode:
        raise NoSuchObjectLockConfiguration()
    return xml_response(
        "Retention",
        [
            xml.element("Mode", meta.lock_mode),
            xml.element("RetainUntilDate", xml.timestamp(meta.lock_until_ns)),
        ],
    )


async def put_retention(face: Face, request: Request) -> Response:
    mode, until_ns = _parse_retention(await read_document(request, _SIZE_BYTES))
    if mode:
        request.told = {
            "s3:object-lock-mode": mode,
            "s3:object-lock-retain-until-date": xml.timestamp(until_ns),
        }
    face.authorize(request, "s3:PutObjectRetention", request.bucket, request.key)
    _check_locking(face, request)
    await face.namespace.objects.set_retention(
        request.bucket,
        request.key,
        mode,
        until_ns,
        version=request.version(),
        bypass=bypasses_governance(face, request, request.key),
    )
    return Response(200)


def _parse_retention(document: bytes) -> tuple[str, int]:
    """Mode and nanoseconds since 1970; ("", 0) to remove. Raises MalformedXML, InvalidArgument."""
    retention = xml.parse(document, "Retention")
    fields = xml.texts(xml.only(retention, "Mode", "RetainUntilDate", "EventHold"))
    _check_event_hold(fields, "EventHold")
    mode, until = fields.get("Mode", ""), fields.get("RetainUntilDate", "")
    if not mode and not until:
        return "", 0
    until_ns = parse_iso_time(until)
    if mode not in MODES or until_ns is None:
        raise MalformedXML()
    return mode, check_future(until_ns)


async def get_legal_hold(face: Face, request: Request) -> Response:
    _check_locking(face, request)
    meta = face.namespace.objects.stat(request.bucket, request.key, request.version()).meta
    return xml_response("LegalHold", [xml.element("Status", "ON" if meta.legal_hold else "OFF")])


async def put_legal_hold(face: Face, request: Request) -> Response:
    document = await read_document(request, _SIZE_BYTES)
    status = xml.texts(xml.only(xml.parse(document, "LegalHold"), "Status")).get("Status")
    if status not in ("ON", "OFF"):
        raise MalformedXML()
    request.told = {"s3:object-lock-legal-hold": status}
    face.authorize(request, "s3:PutObjectLegalHold", request.bucket, request.key)
    _check_locking(face, request)
    await face.namespace.objects.set_legal_hold(
        request.bucket, request.key, status == "ON", version=request.version()
    )
    return Response(200)
