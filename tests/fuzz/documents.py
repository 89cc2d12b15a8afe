"""Documents that clients send: XML of the operations, and policies."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any, cast

import msgspec

from s3api import (
    acl,
    bucketpolicies,
    completion,
    cors,
    deletes,
    documents,
    locks,
    tagging,
    versions,
    websites,
    xml,
)
from s3api.acl import acl_response, parse_acl
from s3api.bucketaccess import POLICY, BucketPolicy, read_access
from s3api.credentials import ROOT
from s3api.errors import Refusal
from s3api.face import Face
from s3api.requests import ANONYMOUS, Request
from s3api.responses import Response
from store.access.acl import Owner, decode_acl, encode_acl
from store.access.decision import Layer
from store.access.errors import AccessError
from store.access.evaluate import ANONYMOUS_ACCESS, ResourceRules, decide
from store.access.explain import explain
from store.access.ownership import AccessBlock
from store.access.parse import parse_bucket_policy, parse_policy
from store.access.plans import compile_policies
from store.access.policy import PolicyKind
from store.access.public import is_public
from store.types import LockRule
from tests.fuzz.registry import cut, finished, target


class _Body:
    """A request's body of one piece."""

    method, raw_path, query_string = "PUT", b"/box", b""
    response_started = False

    def __init__(self, document: bytes) -> None:
        self.headers: list[tuple[bytes, bytes]] = []
        self.content_length: int | None = len(document)
        self._document: bytes | None = document or None

    async def receive_body(self) -> bytes | None:
        document, self._document = self._document, None
        return document


class _Kept:
    """As much of a bucket as its settings need: it keeps what it is told."""

    def __init__(self) -> None:
        self.documents: dict[str, str] = {}
        self.versioning = ""
        self.rule = LockRule()

    def get(self, bucket: str) -> _Kept:
        return self

    def document(self, bucket: str, name: str) -> str | None:
        return self.documents.get(name)

    async def set_document(self, bucket: str, name: str, document: str | None) -> None:
        assert document is not None
        self.documents[name] = document

    async def set_versioning(self, bucket: str, versioning: str) -> None:
        self.versioning = versioning

    def lock_rule(self, bucket: str) -> LockRule:
        return self.rule

    async def set_lock_rule(self, bucket: str, rule: LockRule) -> None:
        self.rule = rule


class _Face:
    """As much of the face as an operation on a bucket's settings needs."""

    def __init__(self) -> None:
        self.buckets = _Kept()
        self.namespace = SimpleNamespace(buckets=self.buckets)

    def bucket_access(self, bucket: str) -> Any:
        return read_access(bucket, self.buckets.documents, ROOT, AccessBlock())


Run = Callable[[Face, Request], Awaitable[Response]]


def _answer(run: Run, face: _Face, document: bytes) -> bytes:
    request = Request(
        method="PUT",
        bucket="box",
        key="",
        query={},
        headers={},
        stream=cast(Any, _Body(document)),
        scheme="http",
        auth=ANONYMOUS,
    )
    response = finished(cast(Any, run(cast(Face, face), request)))
    return bytes(cast(bytes, response.body))


def _setting(name: str, put: Run, get: Run) -> None:
    """What is accepted is shown, and what is shown is accepted and then shown alike."""

    def check(raw: bytes) -> None:
        face = _Face()
        _answer(put, face, raw)
        shown = _answer(get, face, b"")
        _answer(put, face, shown)
        assert _answer(get, face, b"") == shown

    target(Refusal, name=f"xml-{name}")(check)


_setting("cors", cors.put_bucket_cors, cors.get_bucket_cors)
_setting("website", websites.put_bucket_website, websites.get_bucket_website)
_setting("bucket-tagging", documents.put_bucket_tagging, documents.get_bucket_tagging)
_setting("versioning", versions.put_bucket_versioning, versions.get_bucket_versioning)
_setting("object-lock", locks.put_lock_configuration, locks.get_lock_configuration)
_setting(
    "public-access-block",
    bucketpolicies.put_public_access_block,
    bucketpolicies.get_public_access_block,
)
_setting("ownership", bucketpolicies.put_ownership_controls, bucketpolicies.get_ownership_controls)


@target(Refusal)
def xml_document(raw: bytes) -> None:
    """Any document; and any text that is written is read as it was."""
    text = raw.decode("utf-8", "ignore")
    written = xml.document("Root", [xml.element("Text", text)])
    if text.isprintable():
        found = xml.texts(xml.parse(written, "Root"))["Text"]
        assert found == text, (found, text)
    xml.texts(xml.parse(raw, "Root"))


@target(Refusal)
def xml_delete(raw: bytes) -> None:
    deletes._parse(raw)


@target(Refusal)
def xml_complete(raw: bytes) -> None:
    completion._parse(raw)


@target(Refusal)
def xml_tagging(raw: bytes) -> None:
    tags = tagging.parse_tags(raw)
    assert tagging.parse_tags(bytes(cast(bytes, tagging.tagging_response(tags).body))) == tags


@target(Refusal)
def xml_retention(raw: bytes) -> None:
    _, until_ns = locks._parse_retention(raw)
    xml.timestamp(until_ns)


OWNER = Owner(id="a" * 64, name="ann")


def _find(canonical_id: str) -> Owner | None:
    return OWNER if canonical_id == OWNER.id else None


@target(Refusal)
def xml_acl(raw: bytes) -> None:
    """An ACL is written as it is read, and kept as it is."""
    found = parse_acl(raw, OWNER, _find)
    assert decode_acl(encode_acl(found)) == found
    assert parse_acl(bytes(cast(bytes, acl_response(found).body)), OWNER, _find) == found


@target(Refusal)
def acl_headers(raw: bytes) -> None:
    """Lines `name: value` of x-amz-acl and x-amz-grant-*."""
    lines = (line.partition(b":") for line in raw.split(b"\n"))
    headers = {name.lower(): value.strip() for name, _, value in lines}
    found = acl.acl_of_headers(headers, OWNER, OWNER if b"x" in headers else None, _find)
    if found is not None:
        assert decode_acl(encode_acl(found)) == found


@target(AccessError)
def policy(raw: bytes) -> None:
    """Of all kinds; what is accepted can be made ready and asked, in reasonable time."""
    chosen, raw = cut(raw)
    kind = list(PolicyKind)[chosen % len(PolicyKind)]
    parsed = parse_policy(raw, kind)
    is_public(parsed)
    rules = ResourceRules(account="1", policy=compile_policies(Layer.RESOURCE, [parsed]))
    context = {"aws:username": "ann*?$", "aws:sourceip": "10.0.0.1", "s3:prefix": "a/b"}
    for action in ("s3:GetObject", "s3:ListBucket"):
        decide(ANONYMOUS_ACCESS, rules, action, "arn:aws:s3:::box/a/b", context)
        explain(ANONYMOUS_ACCESS, rules, action, "arn:aws:s3:::box/a/b", context)


@target(AccessError)
def bucket_policy(raw: bytes) -> None:
    """As a bucket keeps it: what was accepted once is understood at every start."""
    parse_bucket_policy(raw, "box")
    kept = msgspec.json.encode(BucketPolicy(text=raw.decode())).decode()
    read_access("box", {POLICY: kept}, ROOT, AccessBlock())
