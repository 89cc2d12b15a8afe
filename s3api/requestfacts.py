"""What a request can be asked for by the conditions of policies, found out when it is asked.

One `RequestFacts` is made for each decision that policies have a say in. A key is looked up when a
condition names it, and only keys that go with the action are there (`actions.condition_keys`): so
the tags of an object cost a read of the database where a policy looks at them, and nothing else.

Invariants
  1. A key that doesn't apply is absent, never "".
  2. Nothing a client may invent stands for what the connection says: the address is the peer's.

Concurrency: one decision, within it no await. Source: as `store.access.keys`.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from s3api.claims import AuthContext, parse_timestamp
from s3api.credentials import Facts
from s3api.dates import parse_iso_time
from s3api.metadata import parse_tagging
from s3api.refusals import Refusal
from s3api.requests import Request, decode_header, decode_path
from store.access.actions import condition_keys
from store.access.patterns import Values
from store.access.principals import Kind

# Tags of the object that is there, by a condition key; none where there is no object.
Tags = Callable[[], dict[str, str]]

_EXISTING_TAG = "s3:existingobjecttag/"
_REQUEST_TAG = "s3:requestobjecttag/"
_DAY_NS = 86_400 * 1_000_000_000


class RequestFacts:
    """The context of one decision; see the module's header.

    told: what the caller of `authorize` knows beside the request (a version, what a body said).
    """

    __slots__ = ("_account", "_keys", "_region", "_request", "_tags", "_told")

    def __init__(
        self,
        request: Request,
        action: str,
        *,
        region: str,
        account: str,
        told: Facts,
        tags: Tags,
    ) -> None:
        self._request = request
        self._keys = _keys_of(action)
        self._region = region
        self._account = account
        self._told = told
        self._tags = tags

    def get(self, key: str, /) -> Values | None:
        """As `store.access.patterns.Context`."""
        request = self._request
        found = request.auth.facts.get(key)
        if found is not None:
            return found
        if key.startswith(_EXISTING_TAG):
            return self._existing_tag(key) if _EXISTING_TAG in self._keys else None
        if key.startswith(_REQUEST_TAG):
            return self._request_tag(key) if _REQUEST_TAG in self._keys else None
        if key not in self._keys:
            return None
        for told in (self._told, request.told):
            if key in told:
                return told[key]
        if key in ("aws:requestedregion", "aws:resourceaccount", "s3:resourceaccount"):
            return (self._region if key == "aws:requestedregion" else self._account) or None
        if key == "s3:requestobjecttagkeys":
            return tuple(_request_tags(request)) or None
        find = _FINDERS.get(key)
        return None if find is None else find(request)

    def _existing_tag(self, key: str) -> str | None:
        wanted = key.removeprefix(_EXISTING_TAG)
        return _tag(self._tags(), wanted)

    def _request_tag(self, key: str) -> str | None:
        return _tag(_request_tags(self._request), key.removeprefix(_REQUEST_TAG))


@functools.lru_cache(maxsize=1024)
def _keys_of(action: str) -> frozenset[str]:
    return frozenset(key.lower() for key in condition_keys(action))


def _tag(tags: dict[str, str], wanted: str) -> str | None:
    """Names of keys are compared without their case, so names of tags are, too."""
    for name, value in tags.items():
        if name.lower() == wanted:
            return value
    return None


def _request_tags(request: Request) -> dict[str, str]:
    if request.tags is not None:
        return request.tags
    text = request.text(b"x-amz-tagging")
    try:
        return parse_tagging(text) if text else {}
    except Refusal:
        # The operation refuses it, too, and says why.
        return {}


def _header(name: bytes) -> Callable[[Request], str | None]:
    def find(request: Request) -> str | None:
        return request.text(name) if name in request.headers else None

    return find


def _copy_source(request: Request) -> str | None:
    """Decoded, so that no other spelling of a name gets by a policy."""
    value = request.headers.get(b"x-amz-copy-source")
    if value is None:
        return None
    try:
        return decode_path(value.partition(b"?versionId=")[0])
    except Refusal:
        return decode_header(value)


def _parameter(name: str) -> Callable[[Request], str | None]:
    def find(request: Request) -> str | None:
        return request.query.get(name)

    return find


def _principal_arn(request: Request) -> str | None:
    principal = request.auth.access.principal
    return principal.source_arn or principal.arn or None


def _principal_account(request: Request) -> str | None:
    return request.auth.access.principal.account or None


def _user_id(request: Request) -> str | None:
    principal = request.auth.access.principal
    if principal.kind is Kind.ANONYMOUS:
        return "anonymous"
    return principal.account if principal.kind is Kind.ROOT else None


def _source_address(request: Request) -> str | None:
    return request.peer.removeprefix("::ffff:") or None


def _current_time(_: Request) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _auth_type(request: Request) -> str | None:
    auth = request.auth
    if auth.anonymous:
        return None
    return "REST-QUERY-STRING" if auth.presigned else "REST-HEADER"


def _signature_version(request: Request) -> str | None:
    if request.auth.anonymous:
        return None
    return "AWS4-HMAC-SHA256" if request.auth.scope else "AWS"


def _signature_age(request: Request) -> str | None:
    auth: AuthContext = request.auth
    signed_at_s = parse_timestamp(auth.timestamp) if auth.timestamp else None
    if signed_at_s is None:
        return None
    return str(max(0, int((time.time() - signed_at_s) * 1000)))


def _remaining_days(request: Request) -> str | None:
    text = request.told.get("s3:object-lock-retain-until-date") or request.text(
        b"x-amz-object-lock-retain-until-date"
    )
    until_ns = parse_iso_time(text) if isinstance(text, str) and text else None
    return None if until_ns is None else str(max(0, -(-(until_ns - time.time_ns()) // _DAY_NS)))


def _creates(request: Request) -> str:
    """Whether an object comes of it: parts and the beginning of an upload make none yet."""
    is_part = request.query.keys() & {"uploads", "partNumber"}
    return "false" if is_part else "true"


_HEADERS = (
    "x-amz-content-sha256",
    "x-amz-acl",
    "x-amz-grant-read",
    "x-amz-grant-write",
    "x-amz-grant-read-acp",
    "x-amz-grant-write-acp",
    "x-amz-grant-full-control",
    "x-amz-metadata-directive",
    "x-amz-storage-class",
    "x-amz-website-redirect-location",
    "x-amz-object-ownership",
    "x-amz-bucket-object-lock-enabled",
    "if-match",
    "if-none-match",
)
_FINDERS: dict[str, Callable[[Request], str | None]] = {
    **{f"s3:{name}": _header(name.encode()) for name in _HEADERS},
    **{
        f"s3:object-lock-{name}": _header(f"x-amz-object-lock-{name}".encode())
        for name in ("mode", "retain-until-date", "legal-hold")
    },
    "s3:object-lock-remaining-retention-days": _remaining_days,
    "s3:x-amz-copy-source": _copy_source,
    "s3:prefix": _parameter("prefix"),
    "s3:delimiter": _parameter("delimiter"),
    "s3:max-keys": _parameter("max-keys"),
    "s3:versionid": _parameter("versionId"),
    "s3:objectcreationoperation": _creates,
    "s3:tlsversion": lambda request: request.stream.tls_version or None,
    "s3:authtype": _auth_type,
    "s3:signatureversion": _signature_version,
    "s3:signatureage": _signature_age,
    "aws:principalarn": _principal_arn,
    "aws:principalaccount": _principal_account,
    "aws:principaltype": lambda request: request.auth.access.principal.kind.value,
    "aws:principalisawsservice": lambda _: "false",
    "aws:viaawsservice": lambda _: "false",
    "aws:userid": _user_id,
    "aws:sourceip": _source_address,
    "aws:securetransport": lambda request: "true" if request.scheme == "https" else "false",
    "aws:useragent": _header(b"user-agent"),
    "aws:referer": _header(b"referer"),
    "aws:currenttime": _current_time,
    "aws:epochtime": lambda _: str(int(time.time())),
}
