"""Single values that clients send: headers, parameters, names, dates, ranges; and tokens."""

from __future__ import annotations

from typing import Any, cast

from metadb.records import InodeId
from s3api.checksums import parse_content_md5, parse_object_checksum, parse_promise
from s3api.conditions import deletion_precondition, evaluate, precondition_of, range_applies
from s3api.dates import http_date, parse_http_date, parse_iso_time
from s3api.errors import Refusal
from s3api.listing import encode_key, parse_listing
from s3api.metadata import meta_headers, meta_of, override
from s3api.payload import open_payload
from s3api.requestfacts import _FINDERS, RequestFacts
from s3api.requests import (
    adopt_query_headers,
    decode_path,
    open_request,
    parse_copy_range,
    parse_copy_source,
    parse_range,
)
from s3api.router import find_operation
from s3api.tokens import decode_token, encode_token
from s3api.xml import timestamp
from store.access.errors import SealBroken, TokenRefused
from store.access.providers import Unusable, parse_discovery, parse_keys
from store.access.sealed import BadMasterKey, Secret, parse_keyring, seal, unseal
from store.access.tokens import verify_token
from store.errors import InvalidArgument, InvalidKey, InvalidName, KeyTooLong, NameTooLong
from store.names import alias_of, check_length, component_of, name_of, split_key
from store.posixacl import inherited, mode_of, pack, parse, with_mode
from store.types import ObjectMeta, ObjectStat, decode_meta, encode_meta
from tests.fuzz.registry import target
from tests.fuzz.signatures import lines_of
from tests.store.access.tokens_made import ISSUER, NOW_S, PROVIDER, ed, public, sign


class _Stream:
    """A request's head, as lines say it."""

    response_started = False
    content_length: int | None = 0
    tls_version = ""

    def __init__(self, raw: bytes) -> None:
        self.method, self.raw_path, self.query_string, self.headers = lines_of(raw)


STAT = ObjectStat(
    key="key",
    inode=InodeId(5),
    size=100,
    etag="9a0364b9e99bb480dd25e1f0284c8555",
    modified_ns=1_700_000_000_000_000_000,
    version_id=None,
    meta=ObjectMeta(),
)


@target(Refusal, rounds=60)
def request(raw: bytes) -> None:
    """A request's head, taken apart by all who look at it before it is carried out."""
    stream = cast(Any, _Stream(raw))
    asked = open_request(stream, "http", (b"s3.example",))
    adopt_query_headers(asked)
    operation = find_operation(asked)
    facts = RequestFacts(
        asked, operation.action, region="r", account="1", told={}, tags=lambda: {"a": "b"}
    )
    for key in (*_FINDERS, "s3:requestobjecttag/a", "s3:requestobjecttagkeys"):
        facts.get(key)
    for read in _READERS:
        try:
            read(asked)
        except Refusal:
            continue
    meta = meta_of(asked.headers)
    assert decode_meta(encode_meta(meta)) == meta
    for name, value in override(meta_headers(meta), asked.query):
        assert b"\n" not in name + value and b"\r" not in name + value, (name, value)


_READERS = (
    lambda asked: parse_listing(asked),
    lambda asked: asked.version(),
    lambda asked: precondition_of(asked, dates=True),
    lambda asked: deletion_precondition(asked),
    lambda asked: evaluate(asked.headers, STAT),
    lambda asked: range_applies(asked.headers.get(b"if-range"), STAT),
    lambda asked: parse_promise(asked.headers),
    lambda asked: parse_object_checksum(asked.headers),
    lambda asked: parse_content_md5(asked.headers),
    lambda asked: parse_range(asked.text(b"range"), 100),
    lambda asked: parse_copy_range(asked.text(b"x-amz-copy-source-range"), 100),
    lambda asked: parse_copy_source(asked.headers.get(b"x-amz-copy-source", b"")),
    lambda asked: open_payload(asked.stream, asked.auth),
)


@target(Refusal, size_max_bytes=100)
def byte_range(raw: bytes) -> None:
    """A range lies within the object, whichever header names it."""
    text = raw.decode("latin-1")
    for size in (0, 1, 100, 1 << 62):
        for read in (parse_range, parse_copy_range):
            try:
                found = read(text, size)
            except Refusal:
                continue
            assert found is None or 0 <= found[0] < found[1] <= size, found


@target(size_max_bytes=100)
def dates(raw: bytes) -> None:
    """All times that are understood can be told."""
    text = raw.decode("latin-1")
    seconds, time_ns = parse_http_date(raw), parse_iso_time(text)
    if seconds is not None:
        assert isinstance(seconds, int)
    if time_ns is not None:
        timestamp(time_ns)
    if time_ns is not None and time_ns >= 0:
        assert parse_http_date(http_date(time_ns)) == time_ns // 1_000_000_000


@target(Refusal)
def copy_source(raw: bytes) -> None:
    """bucket/key?versionId=id, and back."""
    found = parse_copy_source(raw)
    assert decode_path(encode_key(found.key).encode()) == found.key


@target(Refusal)
def continuation_token(raw: bytes) -> None:
    text = raw.decode("utf-8", "ignore")
    assert decode_token(encode_token(text)) == text
    decode_token(raw.decode("latin-1"))


@target(InvalidKey, KeyTooLong)
def key_names(raw: bytes) -> None:
    """Each component of a key has one name, and the name leads back to it."""
    key = raw.decode("utf-8", "surrogateescape")
    components = split_key(key)
    assert "/".join(part.decode() for part in components) == key
    for component in components:
        name = name_of(component)
        assert 0 < len(name) <= 255 and b"/" not in name and name not in (b".", b"..")
        if alias_of(component) is None:
            assert component_of(name) == component, (name, component)
        else:
            assert component_of(name) is None
    check_length(key)


@target(InvalidName, NameTooLong)
def posix_names(raw: bytes) -> None:
    """Each name of the mount stands for one component, which has that name."""
    name = raw.replace(b"/", b"").replace(b"\0", b"")
    component = component_of(name) if name not in (b"", b".", b"..") else None
    if component is not None:
        assert component.decode() is not None
        assert name_of(component) == name or alias_of(component) is not None, name


@target(InvalidArgument)
def posix_acl(raw: bytes) -> None:
    """The bytes of system.posix_acl_access, and back."""
    acl = parse(raw)
    assert parse(pack(acl)) == acl
    for mode in (0, 0o777, 0o640):
        assert mode_of(with_mode(acl, mode), 0) == mode
        inherited(acl, mode)


@target(TokenRefused)
def token(raw: bytes) -> None:
    """Any token; and one that is signed, whatever it claims."""
    for text in (raw.decode("latin-1"), sign(raw, ed(), "Ed25519")):
        try:
            claims = verify_token(text, PROVIDER, (public(ed()),), NOW_S)
        except TokenRefused:
            continue
        claims.context()
        claims.names("policy")
        claims.texts("realm.roles")


@target(Unusable)
def provider_documents(raw: bytes) -> None:
    """What a provider publishes of itself and its keys."""
    for read in (parse_keys, lambda document: parse_discovery(document, ISSUER)):
        try:
            read(raw)
        except Unusable:
            continue


KEYRING = parse_keyring("00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f")


@target(BadMasterKey)
def master_keys(raw: bytes) -> None:
    parse_keyring(raw.decode("latin-1"))


@target(SealBroken)
def sealed_secret(raw: bytes) -> None:
    """A sealed secret that was changed anywhere is broken."""
    sealed = seal(KEYRING, Secret(b"secret"), purpose="key", owner="ann")
    changed = raw + sealed[len(raw) :]
    if changed != sealed:
        unseal(KEYRING, changed, purpose="key", owner="ann")
        raise AssertionError("it was opened")
