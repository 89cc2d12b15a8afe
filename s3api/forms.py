"""PostObject: an upload by a browser's form, allowed by a policy that somebody signed.

The form itself says who asks, so nothing is decided before its fields are read; the file comes
after them and is streamed as any other body. A form without a signature is nobody's.

Concurrency: any task. Source: Amazon S3 API reference, "POST Object", "POST Policy" and
"Authenticating requests: browser-based uploads using POST".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from msgspec.structs import replace

from s3api import xml
from s3api.acl import CANNED
from s3api.aclroutes import owned_meta
from s3api.addressing import virtual_bucket
from s3api.body import PayloadBody
from s3api.checksums import DEFAULT
from s3api.claims import AuthContext
from s3api.errors import InvalidArgument
from s3api.face import Face
from s3api.formparts import FilePart, Form
from s3api.formpolicy import parse_policy
from s3api.httpstream import Header
from s3api.listing import encode_key
from s3api.metadata import checksum_headers, meta_of, quoted_etag
from s3api.payload import open_payload
from s3api.refusals import SeveralAuthMechanisms
from s3api.requests import Headers, Request
from s3api.responses import Response, made_version
from s3api.tagging import parse_tags
from s3api.writes import authorize_lock, authorize_tags
from store.types import ObjectMeta, ObjectStat

_FILE_NAME = "${filename}"
# What is proved or spoken of as it was signed.
_VERBATIM = frozenset(("policy", "signature", "x-amz-signature", "awsaccesskeyid"))
_ACTION = "s3:PutObject"
# Fields that say of the object what a PUT's headers do.
_CONTENT_FIELDS = (
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "content-md5",
    "content-type",
    "expires",
)


async def post_object(face: Face, request: Request) -> Response:
    form = Form(request.stream, request.headers.get(b"content-type", b""))
    await form.read_fields()
    fields = {
        name: value if name in _VERBATIM else value.replace(_FILE_NAME, form.file_name)
        for name, value in form.fields.items()
    }
    key = fields.get("key", "")
    if not key:
        raise InvalidArgument(
            "Bucket POST must contain a field named 'key'. If it is specified, please check the "
            "order of the fields.",
            (("ArgumentName", "key"),),
        )
    now_s = time.time()
    auth = _identify(face, request, fields, now_s)
    size_range = None
    if "policy" in fields:
        policy = parse_policy(fields["policy"])
        policy.check({**fields, "bucket": request.bucket}, now_s)
        size_range = policy.size_range
    # From here on it is a request as any other.
    request.auth, request.owner, request.key = auth, auth.account.owner, key
    headers = _headers(fields)
    request.headers = {**request.headers, **headers}
    meta = _meta(fields, headers)
    request.tags = meta.tags
    if not auth.anonymous and "policy" in fields:
        request.told = {"s3:authtype": "POST"}
    face.authorize(request, _ACTION, request.bucket, key)
    authorize_tags(face, request)
    meta = owned_meta(face, request, meta)
    if meta.lock_mode or meta.legal_hold:
        authorize_lock(face, request, meta)
    part = FilePart(form, list(headers.items()), size_range)
    # Whoever signed the form did not sign the file: its size and its bytes are what come.
    payload = open_payload(part, AuthContext(access_key=""), default=DEFAULT, size_required=False)
    stat = await face.namespace.objects.put(
        request.bucket,
        key,
        PayloadBody(payload, face.digest_threads),
        meta,
        maker=request.auth.maker,
    )
    return _response(face, request, fields, stat)


def _identify(face: Face, request: Request, fields: Mapping[str, str], now_s: float) -> AuthContext:
    """Who signed the form, or else the request that it came in. Raises AuthError."""
    auth = face.verifier.authenticate_policy(fields, now_s)
    if auth.anonymous:
        if "policy" in fields and request.auth.anonymous:
            raise InvalidArgument(
                "Bucket POST with a policy must contain a field named 'Signature'.",
                (("ArgumentName", "Signature"),),
            )
        return request.auth
    if not request.auth.anonymous:
        raise SeveralAuthMechanisms()
    return auth


def _headers(fields: Mapping[str, str]) -> Headers:
    """The fields as the headers of a PUT."""
    headers = {
        name.encode(): value.encode()
        for name, value in fields.items()
        if name in _CONTENT_FIELDS or name.startswith("x-amz-")
    }
    if fields.get("acl"):
        headers[CANNED] = fields["acl"].encode()
    return headers


def _meta(fields: Mapping[str, str], headers: Headers) -> ObjectMeta:
    """Raises what `meta_of` and `parse_tags` raise."""
    meta = meta_of(headers)
    tagging = fields.get("tagging", "")
    return replace(meta, tags=parse_tags(tagging.encode())) if tagging else meta


def _response(
    face: Face, request: Request, fields: Mapping[str, str], stat: ObjectStat
) -> Response:
    host = request.text(b"host")
    by_host = face.domains and virtual_bucket(request.headers.get(b"host", b""), face.domains)
    path = "" if by_host else f"/{request.bucket}"
    location = f"{request.scheme}://{host}{path}/{encode_key(stat.key)}"
    headers: list[Header] = [(b"etag", quoted_etag(stat))]
    if stat.version_id is not None:
        headers += made_version(stat)
    target = _redirect(fields, request.bucket, stat)
    if target:
        return Response(303, [*headers, (b"location", target)])
    headers.append((b"location", location.encode()))
    headers += checksum_headers(stat.meta.checksums, "FULL_OBJECT")
    status = fields.get("success_action_status", "")
    if status != "201":
        return Response(200 if status == "200" else 204, headers)
    body = (
        f"{xml.PROLOGUE}<PostResponse>{xml.element('Location', location)}"
        f"{xml.element('Bucket', request.bucket)}{xml.element('Key', stat.key)}"
        f"{xml.element('ETag', quoted_etag(stat).decode())}</PostResponse>"
    )
    return Response(201, [*headers, *xml.XML_HEADERS], body.encode())


def _redirect(fields: Mapping[str, str], bucket: str, stat: ObjectStat) -> bytes:
    """Where success_action_redirect leads, b"" without it or if it is no URL."""
    url = fields.get("success_action_redirect") or fields.get("redirect", "")
    try:
        parts = urlsplit(url)
    except ValueError:
        return b""
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return b""
    if not url.isascii() or not url.isprintable() or " " in url:
        return b""
    said = f"bucket={bucket}&key={quote(stat.key, safe='')}&etag=%22{stat.etag}%22"
    joint = "&" if parts.query else "?"
    return f"{url}{joint}{said}".encode()
