"""Signatures: botocore and the AWS CRT sign, we verify, and every forgery is refused."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest
from awscrt.auth import (
    AwsCredentialsProvider,
    AwsSignatureType,
    AwsSignedBodyHeaderType,
    AwsSigningAlgorithm,
    AwsSigningConfig,
    aws_sign_request,
)
from awscrt.http import HttpHeaders, HttpRequest
from hypothesis import given
from hypothesis import strategies as st

from s3api import signing
from s3api.credentials import Credential, MemoryCredentials
from s3api.refusals import (
    AccessDenied,
    AuthError,
    AuthorizationHeaderMalformed,
    AuthorizationQueryParametersError,
    InvalidAccessKeyId,
    InvalidArgument,
    InvalidRequest,
    InvalidToken,
    Refusal,
    RequestTimeTooSkewed,
    SeveralAuthMechanisms,
    SignatureDoesNotMatch,
    UnsupportedSignature,
)
from s3api.sigv4 import PayloadMode, Verifier, parse_query

ROOT = Credential(access_key="AKIDROOT", secret_key="very secret")
TEMPORARY = Credential(access_key="ASIATEMP", secret_key="short-lived", session_token="tok+en/=")
NOW_S = 1_790_000_000
HOST = b"s3.example.test:9000"

Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def verifier() -> Verifier:
    return Verifier(MemoryCredentials(ROOT, TEMPORARY))


def signed(
    method: str = "PUT",
    path: bytes = b"/bucket/key",
    query: bytes = b"",
    extra: Headers | None = None,
    credential: Credential = ROOT,
    region: str = "us-east-1",
    now_s: float = NOW_S,
    payload_hash: str = "UNSIGNED-PAYLOAD",
) -> Headers:
    headers = [(b"host", HOST), *(extra or [])]
    return headers + signing.sign_headers(
        credential,
        method,
        path,
        query,
        headers,
        region=region,
        now_s=now_s,
        payload_hash=payload_hash,
    )


def replaced(headers: Headers, name: bytes, old: bytes, new: bytes) -> Headers:
    assert any(key == name and old in value for key, value in headers)
    return [(key, value.replace(old, new) if key == name else value) for key, value in headers]


def botocore_sign(
    auth: botocore.auth.SigV4Auth, method: str, url: str, headers: dict[str, str]
) -> tuple[bytes, bytes, Headers]:
    body = b"body" if method == "PUT" else b""
    request = botocore.awsrequest.AWSRequest(method=method, url=url, headers=headers, data=body)
    request.context["signing"] = {}
    auth.add_auth(request)
    parts = urlsplit(request.url)
    received = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
    received.append((b"host", parts.netloc.encode()))
    return parts.path.encode(), parts.query.encode(), received


BOTO_CREDENTIALS = botocore.credentials.Credentials(ROOT.access_key, ROOT.secret_key)
TARGETS = [
    "/bucket/key",
    "/",
    "/bucket//double//slash/../dots/./",
    "/bucket/a%20b%2Bc%25d%C3%BC%F0%9F%98%80",
    "/bucket/key?acl",
    "/bucket?list-type=2&prefix=a%2Fb%20c&delimiter=%2F&max-keys=5",
    "/bucket/key?b=2&a=1&a=0&c=",
]


@pytest.mark.parametrize("target", TARGETS)
def test_headers_signed_by_botocore_are_accepted(target: str) -> None:
    auth = botocore.auth.S3SigV4Auth(BOTO_CREDENTIALS, "s3", "us-east-1")
    path, query, headers = botocore_sign(
        auth,
        "PUT",
        "http://s3.example.test:9000" + target,
        {"x-amz-meta-note": " two   spaces  ", "Content-Type": "text/plain"},
    )
    context = Verifier(MemoryCredentials(ROOT)).authenticate(
        "PUT", path, query, headers, time.time()
    )
    assert context.access_key == ROOT.access_key
    assert context.payload_mode is PayloadMode.HASHED
    assert not context.presigned


@pytest.mark.parametrize("target", TARGETS)
def test_urls_presigned_by_botocore_are_accepted(target: str) -> None:
    auth = botocore.auth.S3SigV4QueryAuth(BOTO_CREDENTIALS, "s3", "us-east-1", expires=60)
    path, query, headers = botocore_sign(auth, "GET", "http://s3.example.test:9000" + target, {})
    context = Verifier(MemoryCredentials(ROOT)).authenticate(
        "GET", path, query, headers, time.time()
    )
    assert context.presigned
    assert context.payload_mode is PayloadMode.UNSIGNED


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("in_query", [False, True])
def test_requests_signed_by_the_crt_are_accepted(target: str, in_query: bool) -> None:
    http_headers = HttpHeaders([("host", HOST.decode()), ("x-amz-meta-note", "a  b")])
    config = AwsSigningConfig(
        algorithm=AwsSigningAlgorithm.V4,
        signature_type=AwsSignatureType.HTTP_REQUEST_QUERY_PARAMS
        if in_query
        else AwsSignatureType.HTTP_REQUEST_HEADERS,
        credentials_provider=AwsCredentialsProvider.new_static(
            TEMPORARY.access_key, TEMPORARY.secret_key, TEMPORARY.session_token
        ),
        region="us-east-1",
        service="s3",
        date=datetime.fromtimestamp(NOW_S, UTC),
        use_double_uri_encode=False,
        should_normalize_uri_path=False,
        signed_body_value="UNSIGNED-PAYLOAD",
        signed_body_header_type=AwsSignedBodyHeaderType.NONE
        if in_query
        else AwsSignedBodyHeaderType.X_AMZ_CONTENT_SHA_256,
        expiration_in_seconds=300 if in_query else None,
    )
    request = aws_sign_request(HttpRequest("GET", target, http_headers), config).result(10)
    path, _, query = request.path.encode().partition(b"?")
    headers = [(name.lower().encode(), value.encode()) for name, value in request.headers]
    context = Verifier(MemoryCredentials(TEMPORARY)).authenticate(
        "GET", path, query, headers, NOW_S
    )
    assert context.access_key == TEMPORARY.access_key
    assert context.presigned is in_query


def test_request_without_credentials_is_anonymous(verifier: Verifier) -> None:
    assert verifier.authenticate("GET", b"/", b"", [(b"host", HOST)], NOW_S).anonymous


def test_context_continues_into_chunk_signatures(verifier: Verifier) -> None:
    mode = PayloadMode.STREAMING
    context = verifier.authenticate(
        "PUT", b"/bucket/key", b"", signed(payload_hash=mode.value), NOW_S
    )
    assert context.payload_mode is mode
    assert context.scope == signing.format_scope(context.timestamp, "us-east-1")
    assert context.signing_key == signing.signing_key(
        ROOT.secret_key, context.timestamp[:8], "us-east-1"
    )


FORGERIES: list[tuple[str, dict[str, object], type[Refusal]]] = [
    ("another method", {"method": "DELETE"}, SignatureDoesNotMatch),
    ("another path", {"path": b"/bucket/other"}, SignatureDoesNotMatch),
    ("a longer query", {"query": b"acl"}, SignatureDoesNotMatch),
    ("unknown key", {"edit": (b"authorization", b"AKIDROOT", b"AKIDLOOT")}, InvalidAccessKeyId),
    ("a changed header", {"edit": (b"x-amz-meta-a", b"1", b"2")}, SignatureDoesNotMatch),
    ("an unsigned x-amz-", {"add": (b"x-amz-copy-source", b"/a/b")}, AccessDenied),
    ("a repeated x-amz-", {"add": (b"x-amz-meta-a", b"3")}, SignatureDoesNotMatch),
    ("host not signed", {"edit": (b"authorization", b"host;", b"")}, AccessDenied),
    ("a signed header missing", {"drop": b"range"}, SignatureDoesNotMatch),
    ("it in the query instead", {"drop": b"range", "query": b"range=1"}, SignatureDoesNotMatch),
    ("another service", {"edit": (b"authorization", b"/s3/", b"/ec2/")}, AuthError),
    ("another terminator", {"edit": (b"authorization", b"aws4_re", b"aws5_re")}, AuthError),
    ("another region", {"edit": (b"authorization", b"us-east-1", b"eu-west-1")}, AuthError),
    ("another day", {"edit": (b"authorization", b"/20260921/", b"/20260920/")}, AuthError),
    ("no date", {"drop": b"x-amz-date"}, AccessDenied),
    ("a bad date", {"edit": (b"x-amz-date", b"T", b" ")}, AccessDenied),
    ("no payload hash", {"drop": b"x-amz-content-sha256"}, InvalidRequest),
    ("another payload", {"edit": (b"x-amz-content-sha256", b"UNS", b"NUS")}, InvalidArgument),
    (
        "another scheme",
        {"edit": (b"authorization", b"AWS4-HMAC-SHA256", b"Basic")},
        UnsupportedSignature,
    ),
    ("ECDSA", {"edit": (b"authorization", b"HMAC-SHA256", b"ECDSA-P256")}, UnsupportedSignature),
    ("two authorizations", {"add": (b"authorization", b"AWS4-HMAC-SHA256 x")}, AuthError),
    ("no fields", {"edit": (b"authorization", b"=", b":")}, AuthorizationHeaderMalformed),
    ("short signature", {"edit": (b"authorization", b"Signature=", b"Signature=0")}, AuthError),
    ("upper-case name", {"edit": (b"authorization", b"=host", b"=Host")}, AuthError),
    ("a name twice", {"edit": (b"authorization", b"host;", b"host;host;")}, AuthError),
    ("header and query", {"query": b"X-Amz-Signature=00"}, SeveralAuthMechanisms),
    ("too late", {"now_s": NOW_S + 901}, RequestTimeTooSkewed),
    ("too early", {"now_s": NOW_S - 901}, RequestTimeTooSkewed),
    ("a token from nowhere", {"add": (b"x-amz-security-token", b"t")}, InvalidToken),
]


@pytest.mark.parametrize(
    ("what", "change", "refusal"), FORGERIES, ids=[row[0] for row in FORGERIES]
)
def test_forged_header_signature_is_refused(
    verifier: Verifier, what: str, change: dict[str, object], refusal: type[Refusal]
) -> None:
    headers = signed(extra=[(b"x-amz-meta-a", b"1"), (b"range", b"bytes=0-1")])
    verifier.authenticate("PUT", b"/bucket/key", b"", headers, NOW_S)
    if "edit" in change:
        headers = replaced(headers, *change["edit"])  # type: ignore[misc]
    if "add" in change:
        headers = [*headers, change["add"]]  # type: ignore[list-item]
    headers = [pair for pair in headers if pair[0] != change.get("drop")]
    with pytest.raises(refusal):
        verifier.authenticate(
            change.get("method", "PUT"),  # type: ignore[arg-type]
            change.get("path", b"/bucket/key"),  # type: ignore[arg-type]
            change.get("query", b""),  # type: ignore[arg-type]
            headers,
            change.get("now_s", NOW_S),  # type: ignore[arg-type]
        )


def test_any_region_is_accepted_when_lenient() -> None:
    lenient = Verifier(MemoryCredentials(ROOT), region=None)
    headers = signed(region="mars-north-1")
    assert lenient.authenticate("PUT", b"/bucket/key", b"", headers, NOW_S).access_key
    with pytest.raises(AuthorizationHeaderMalformed) as caught:
        Verifier(MemoryCredentials(ROOT)).authenticate("PUT", b"/bucket/key", b"", headers, NOW_S)
    assert ("Region", "us-east-1") in caught.value.extras


def test_date_header_may_stand_in_for_x_amz_date(verifier: Verifier) -> None:
    headers = [
        (b"host", HOST),
        (b"date", time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(NOW_S)).encode()),
        (b"x-amz-content-sha256", b"UNSIGNED-PAYLOAD"),
    ]
    names = sorted(name for name, _ in headers)
    request = signing.canonical_request("GET", b"/", b"", dict(headers), names, b"UNSIGNED-PAYLOAD")
    timestamp = signing.format_timestamp(NOW_S)
    scope = signing.format_scope(timestamp, "us-east-1")
    key = signing.signing_key(ROOT.secret_key, timestamp[:8], "us-east-1")
    proof = signing.signature(key, signing.string_to_sign(timestamp, scope, request))
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={ROOT.access_key}/{scope},"
        f"SignedHeaders={b';'.join(names).decode()},Signature={proof}"
    )
    headers.append((b"authorization", authorization.encode()))
    assert verifier.authenticate("GET", b"/", b"", headers, NOW_S).timestamp == timestamp


@pytest.mark.parametrize("token", [b"", b"other"])
def test_temporary_key_with_wrong_token_is_refused(verifier: Verifier, token: bytes) -> None:
    impostor = Credential(
        access_key=TEMPORARY.access_key,
        secret_key=TEMPORARY.secret_key,
        session_token=token.decode(),
    )
    with pytest.raises(InvalidToken):
        verifier.authenticate("PUT", b"/bucket/key", b"", signed(credential=impostor), NOW_S)


def test_changed_secret_invalidates_old_signatures() -> None:
    credentials = MemoryCredentials(ROOT)
    verifier = Verifier(credentials)
    headers = signed()
    verifier.authenticate("PUT", b"/bucket/key", b"", headers, NOW_S)
    credentials.put(Credential(access_key=ROOT.access_key, secret_key="changed"))
    with pytest.raises(SignatureDoesNotMatch):
        verifier.authenticate("PUT", b"/bucket/key", b"", headers, NOW_S)


def presigned(expires_s: int = 60, headers: Headers | None = None) -> bytes:
    return signing.presign(
        ROOT,
        "PUT",
        b"/bucket/key",
        b"versionId=a+b",
        [(b"host", HOST), *(headers or [])],
        region="us-east-1",
        now_s=NOW_S,
        expires_s=expires_s,
    )


PRESIGNED_FORGERIES: list[tuple[str, bytes, bytes, float, type[Refusal]]] = [
    ("expired", b"", b"", NOW_S + 61, AccessDenied),
    ("not yet valid", b"", b"", NOW_S - 901, AccessDenied),
    ("longer life", b"Expires=60", b"Expires=61", NOW_S, SignatureDoesNotMatch),
    ("zero life", b"Expires=60", b"Expires=0", NOW_S, AccessDenied),
    ("eight days", b"Expires=60", b"Expires=691200", NOW_S, AccessDenied),
    ("negative life", b"Expires=60", b"Expires=-1", NOW_S, AccessDenied),
    ("no number", b"Expires=60", b"Expires=6e1", NOW_S, AuthorizationQueryParametersError),
    ("no expiry", b"X-Amz-Expires=60&", b"", NOW_S, AuthorizationQueryParametersError),
    ("algorithm", b"HMAC-SHA256", b"HMAC-SHA1", NOW_S, AuthorizationQueryParametersError),
    ("service", b"%2Fs3%2F", b"%2Fec2%2F", NOW_S, AuthorizationQueryParametersError),
    ("unknown key", b"AKIDROOT", b"AKIDLOOT", NOW_S, InvalidAccessKeyId),
    ("another version", b"versionId=a", b"versionId=b", NOW_S, SignatureDoesNotMatch),
    ("twice", b"&X-Amz-Ex", b"&X-Amz-Expires=60&X-Amz-Ex", NOW_S, AuthError),
    ("a token", b"&X-Amz-Ex", b"&X-Amz-Security-Token=t&X-Amz-Ex", NOW_S, InvalidToken),
    ("host unsigned", b"SignedHeaders=host", b"SignedHeaders=date", NOW_S, AccessDenied),
    ("signature", b"Signature=", b"Signature=g", NOW_S, AuthorizationQueryParametersError),
]


@pytest.mark.parametrize(
    ("what", "old", "new", "now_s", "refusal"),
    PRESIGNED_FORGERIES,
    ids=[row[0] for row in PRESIGNED_FORGERIES],
)
def test_forged_presigned_url_is_refused(
    verifier: Verifier, what: str, old: bytes, new: bytes, now_s: float, refusal: type[Refusal]
) -> None:
    query = presigned()
    verifier.authenticate("PUT", b"/bucket/key", query, [(b"host", HOST)], NOW_S + 60)
    assert old in query
    with pytest.raises(refusal):
        verifier.authenticate(
            "PUT", b"/bucket/key", query.replace(old, new, 1), [(b"host", HOST)], now_s
        )


@pytest.mark.parametrize("name", [b"x-amz-copy-source", b"x-amz-acl", b"x-amz-meta-a"])
def test_presigned_put_with_added_amz_header_is_refused(verifier: Verifier, name: bytes) -> None:
    headers = [(b"host", HOST), (name, b"/victim/secret")]
    with pytest.raises(AccessDenied):
        verifier.authenticate("PUT", b"/bucket/key", presigned(), headers, NOW_S)


def test_presigned_signed_header_is_not_taken_from_the_query(verifier: Verifier) -> None:
    query = presigned(headers=[(b"x-amz-acl", b"private")])
    headers = [(b"host", HOST), (b"x-amz-acl", b"private")]
    verifier.authenticate("PUT", b"/bucket/key", query, headers, NOW_S)
    with pytest.raises(SignatureDoesNotMatch):
        verifier.authenticate(
            "PUT", b"/bucket/key", query + b"&x-amz-acl=private", [(b"host", HOST)], NOW_S
        )


@given(
    st.binary(max_size=40).map(lambda key: b"/b/" + key),
    st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), max_size=4),
)
def test_signature_covers_the_decoded_path_and_query(
    key: bytes, pairs: list[tuple[str, str]]
) -> None:
    canonical = signing.canonical_path(b"".join(b"%%%02x" % byte for byte in key))
    assert canonical == signing.canonical_path(canonical)
    assert signing.unquote_to_bytes(canonical) == key
    try:
        encoded = [(name.encode(), value.encode()) for name, value in pairs if name]
    except UnicodeEncodeError:
        return
    query = signing.canonical_query(encoded)
    assert sorted(parse_query(query)) == sorted(pair for pair in pairs if pair[0])


def test_query_plus_and_percent_twenty_are_the_same_space() -> None:
    assert parse_query(b"a=x+y&b=x%20y&&c") == [("a", "x y"), ("b", "x y"), ("c", "")]
    with pytest.raises(InvalidArgument):
        parse_query(b"a=%ff")


def test_signed_policy_is_accepted_and_forged_one_refused(verifier: Verifier) -> None:
    policy = base64.b64encode(b'{"expiration": "2030-01-01T00:00:00Z"}').decode()
    fields = signing.sign_policy(ROOT, policy, region="us-east-1", now_s=NOW_S)
    assert verifier.authenticate_policy(fields, NOW_S + 3600).access_key == ROOT.access_key
    with pytest.raises(SignatureDoesNotMatch):
        verifier.authenticate_policy({**fields, "policy": policy[::-1]}, NOW_S)
    changed = fields["x-amz-credential"].replace("ROOT", "LOOT")
    with pytest.raises(InvalidAccessKeyId):
        verifier.authenticate_policy({**fields, "x-amz-credential": changed}, NOW_S)
    with pytest.raises(InvalidArgument):
        verifier.authenticate_policy({"signature": "x", "awsaccesskeyid": "y"}, NOW_S)
    with pytest.raises(UnsupportedSignature):
        verifier.authenticate_policy({**fields, "x-amz-algorithm": "AWS4-ECDSA"}, NOW_S)
    assert verifier.authenticate_policy({"key": "k"}, NOW_S).anonymous
