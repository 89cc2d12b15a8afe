"""Every operation as one request, with exactly the grants that it needs.

`calls_of` is total over `router.OPERATIONS` by construction: what it lacks is a KeyError. In a
target, {b} stands for the bucket, {v} for the id of k's version, {u} for the id of an upload, {p}
for the prefix that all of it is under. The bucket has the object `k` (tagged), keeps versions, and
has object lock.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import time
import zlib
from dataclasses import dataclass, field
from typing import Any

import trio
from botocore.auth import HmacV1Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from s3api import accountblocks, signing
from s3api.bucketaccess import BLOCK, POLICY, REMOVED, BucketPolicy
from s3api.credentials import Credential
from s3api.router import _ON_VERSIONS, OPERATIONS
from s3api.sigv2 import SIGNED_PARAMETERS
from store.access.actions import ACTIONS, On
from store.access.evaluate import SERVICE_RESOURCE
from tests.s3api.conftest import ALICE, Endpoint
from tests.s3api.raw import Answer, exchange

_buckets = itertools.count(1)
BOUNDARY = "a-boundary-of-forms"
_TAGS = "<Tagging><TagSet><Tag><Key>t</Key><Value>1</Value></Tag></TagSet></Tagging>"
_LATER = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 9 * 86400))
_POLICY = json.dumps(
    {
        "Statement": {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:GetBucketWebsite",
            "Resource": "arn:aws:s3:::{b}",
        }
    }
)


@dataclass(frozen=True, kw_only=True)
class Call:
    """One request. grants: (action, key) each, the key "" for the bucket itself."""

    method: str
    target: str
    grants: tuple[tuple[str, str], ...]
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""


_BODIES = {
    "PutBucketAcl": "<AccessControlPolicy></AccessControlPolicy>",
    "PutBucketVersioning": "<VersioningConfiguration><Status>Enabled</Status>"
    "</VersioningConfiguration>",
    "PutObjectLockConfiguration": "<ObjectLockConfiguration><ObjectLockEnabled>Enabled"
    "</ObjectLockEnabled></ObjectLockConfiguration>",
    "PutBucketCors": "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod>"
    "<AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>",
    "PutBucketTagging": _TAGS,
    "PutBucketWebsite": "<WebsiteConfiguration><IndexDocument><Suffix>i</Suffix></IndexDocument>"
    "</WebsiteConfiguration>",
    "PutBucketRequestPayment": "<RequestPaymentConfiguration><Payer>BucketOwner</Payer>"
    "</RequestPaymentConfiguration>",
    "PutBucketOwnershipControls": "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter"
    "</ObjectOwnership></Rule></OwnershipControls>",
    "PutBucketLogging": "<BucketLoggingStatus/>",
    "PutBucketNotificationConfiguration": "<NotificationConfiguration/>",
    "PutBucketPolicy": _POLICY,
    "PutPublicAccessBlock": "<PublicAccessBlockConfiguration/>",
    "PutAccountPublicAccessBlock": "<PublicAccessBlockConfiguration/>",
    "DeleteObjects": "<Delete><Object><Key>{p}k</Key></Object></Delete>",
    "PutObject": "x",
    "PutObjectAcl": "<AccessControlPolicy></AccessControlPolicy>",
    "PutObjectTagging": _TAGS,
    "PutObjectRetention": f"<Retention><Mode>GOVERNANCE</Mode><RetainUntilDate>{_LATER}"
    "</RetainUntilDate></Retention>",
    "PutObjectLegalHold": "<LegalHold><Status>ON</Status></LegalHold>",
    "UploadPart": "x",
    "CompleteMultipartUpload": "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber>"
    f"<ETag>{hashlib.md5(b'x').hexdigest()}</ETag></Part></CompleteMultipartUpload>",
}
_QUERIES = {
    "UploadPart": "partNumber=1&uploadId={u}",
    "UploadPartCopy": "partNumber=1&uploadId={u}",
    "ListParts": "uploadId={u}",
    "CompleteMultipartUpload": "uploadId={u}",
    "AbortMultipartUpload": "uploadId={u}",
    "ListObjectsV2": "list-type=2",
    "GetBucketAnalyticsConfiguration": "analytics&id=x",
}
_SOURCE = {"x-amz-copy-source": "/{b}/{p}k"}
_HEADERS = {
    "CopyObject": {**_SOURCE, "x-amz-tagging-directive": "REPLACE"},
    "UploadPartCopy": _SOURCE,
    "RenameObject": {"x-amz-rename-source": "/{b}/{p}k"},
    "GetObjectAttributes": {"x-amz-object-attributes": "ETag"},
}
# Those of S3 Control are done to an account, that of the caller.
_OF_ACCOUNTS = {"x-amz-account-id": ALICE.account.number}
# What an operation asks for beside its own action.
_FURTHER = {
    "CopyObject": (("s3:GetObject", "k"),),
    "UploadPartCopy": (("s3:GetObject", "k"),),
    "RenameObject": (("s3:GetObject", "k"), ("s3:DeleteObject", "k")),
    "GetObjectAttributes": (("s3:GetObject", "k"),),
}
# Where it is done, if not on k.
_KEYS = dict.fromkeys(("CopyObject", "RenameObject", "PostObject"), "new") | dict.fromkeys(
    (
        "CreateMultipartUpload",
        "UploadPart",
        "UploadPartCopy",
        "ListParts",
        "CompleteMultipartUpload",
        "AbortMultipartUpload",
    ),
    "upload",
)
# Answers that say the operation was done, or tried.
TRIED = frozenset((200, 204, 404, 409))


def _form(key: str) -> str:
    return (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="key"\r\n\r\n{{p}}{key}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nx\r\n'
        f"--{BOUNDARY}--\r\n"
    )


def call_of(method: str, subresource: str, name: str, action: str) -> Call:
    """The call of one row of the table."""
    on = ACTIONS[action].on
    key = _KEYS.get(name, "k") if on is On.OBJECT else ""
    if name.endswith("AccountPublicAccessBlock"):
        return Call(
            method=method,
            target=accountblocks.PATH.decode(),
            grants=((action, ""),),
            headers=_OF_ACCOUNTS,
            body=_BODIES.get(name, ""),
        )
    path = "/" if on is On.ACCOUNT else "/{b}" + (f"/{{p}}{key}" if key else "")
    if name in ("PostObject", "DeleteObjects"):
        path = "/{b}"
    if name == "CreateBucket":
        path = "/{b}-made"
    query = _QUERIES.get(name, subresource.removesuffix("copy"))
    headers = dict(_HEADERS.get(name, {}))
    body = _BODIES.get(name, "")
    if name == "PostObject":
        body = _form(key)
        headers["content-type"] = f"multipart/form-data; boundary={BOUNDARY}"
    return Call(
        method=method,
        target=path + (f"?{query}" if query else ""),
        grants=((action, key), *_FURTHER.get(name, ())),
        headers=headers,
        body=body,
    )


def calls_of() -> dict[str, Call]:
    """All operations, and those on versions once more with a version's id."""
    calls = {
        operation.name: call_of(method, subresource, operation.name, operation.action)
        for (_, method, subresource), operation in OPERATIONS.items()
    }
    for name, operation in _ON_VERSIONS.items():
        plain = calls[name]
        joint = "&" if "?" in plain.target else "?"
        further = plain.grants[1:]
        if name == "GetObjectAttributes":
            further = (("s3:GetObjectVersion", "k"),)
        calls[f"{name} of a version"] = Call(
            method=plain.method,
            target=plain.target + joint + "versionId={v}",
            grants=((operation.action, "k"), *further),
            headers=plain.headers,
            body=plain.body,
        )
    return calls


CALLS = calls_of()


def resource_of(bucket: str, action: str, key: str) -> str:
    """The ARN that a grant of it names."""
    if ACTIONS[action].on is On.ACCOUNT:
        return SERVICE_RESOURCE
    name = f"{bucket}-made" if action == "s3:CreateBucket" else bucket
    return f"arn:aws:s3:::{name}/{key}" if key else f"arn:aws:s3:::{name}"


def policy_of(bucket: str, grants: Any, *, principal: Any = None, **more: Any) -> str:
    """A document that allows just these. principal: for a bucket's policy."""
    whom = {} if principal is None else {"Principal": principal}
    statements = [
        {
            "Effect": "Allow",
            "Action": action,
            "Resource": resource_of(bucket, action, key),
            **whom,
            **more,
        }
        for action, key in grants
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


class World:
    """A bucket of alice, made anew, in which calls are tried."""

    def __init__(self, endpoint: Endpoint, *prefixes: str) -> None:
        """prefixes: all is there below each; by default at the top."""
        self.endpoint = endpoint
        self.bucket = f"allowed-{next(_buckets)}"
        self.uploads: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        self.do(
            endpoint.namespace.buckets.create,
            self.bucket,
            ALICE.account.owner,
            lock=True,
            documents={BLOCK: REMOVED},
        )
        for prefix in prefixes or ("",):
            made = self._made("PUT", "k", prefix)
            self.versions[prefix] = made.headers["x-amz-version-id"]
            begun = self._made("POST", "upload?uploads", prefix).body
            upload = begun.partition(b"<UploadId>")[2].partition(b"<")[0].decode()
            self.uploads[prefix] = upload
            self._made("PUT", f"upload?{_QUERIES['UploadPart']}", prefix)

    def _made(self, method: str, target: str, prefix: str) -> Answer:
        call = Call(
            method=method,
            target="/{b}/{p}" + target,
            grants=(),
            headers={"x-amz-tagging": "t=1"} if target == "k" else {},
            body="x" if method == "PUT" else "",
        )
        answer = self.send(call, ALICE, prefix=prefix)
        assert answer.status == 200, answer
        return answer

    def do(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Run it on the server's own thread."""

        async def run() -> Any:
            return await function(*args, **kwargs)

        return trio.from_thread.run(run, trio_token=self.endpoint.token)

    def set_policy(self, text: str | None) -> None:
        """The bucket's."""
        kept = None
        if text is not None:
            kept = json.dumps({"text": text})
            assert BucketPolicy(text=text)
        self.do(self.endpoint.namespace.buckets.set_document, self.bucket, POLICY, kept)

    def state(self) -> Any:
        """What a refused call must not have changed."""

        async def look() -> Any:
            namespace = self.endpoint.namespace
            page = await namespace.listing.versions(self.bucket)
            rules = namespace.buckets.rules(self.bucket)
            uploads = (await namespace.uploads.page(self.bucket)).entries
            return str(page.entries), str(uploads), dict(rules.documents), rules.versioning

        return self.do(look)

    def send(
        self, call: Call, who: Credential | None, kind: str = "header", *, prefix: str = ""
    ) -> Answer:
        """The answer to the call, signed by `who` as `kind` says."""
        return exchange(self.endpoint, self.request(call, who, kind, prefix))

    def fill(self, text: str, prefix: str) -> str:
        """With the names of this world."""
        for mark, name in (
            ("{b}", self.bucket),
            ("{v}", self.versions.get(prefix, "")),
            ("{u}", self.uploads.get(prefix, "")),
            ("{p}", prefix),
        ):
            text = text.replace(mark, name)
        return text

    def request(self, call: Call, who: Credential | None, kind: str, prefix: str) -> bytes:
        """Its bytes."""
        target = self.fill(call.target, prefix)
        body = self.fill(call.body, prefix).encode()
        pairs = [(b"host", f"127.0.0.1:{self.endpoint.port}".encode())]
        pairs += [(k.encode(), self.fill(v, prefix).encode()) for k, v in call.headers.items()]
        if who is not None:
            target, pairs, body = signed(call.method, target, pairs, body, who, kind)
        if body or call.method in ("PUT", "POST"):
            pairs.append((b"content-length", str(len(body)).encode()))
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in pairs)
        return f"{call.method} {target} HTTP/1.1\r\n".encode() + lines + b"\r\n" + body


Pairs = list[tuple[bytes, bytes]]


def signed(
    method: str, target: str, pairs: Pairs, body: bytes, who: Credential, kind: str
) -> tuple[str, Pairs, bytes]:
    """Target, headers and body as a client of this kind sends them."""
    if kind == "version 2":
        return target, [*pairs, *_signed_by_version_2(method, target, pairs, who)], body
    path, _, query = target.partition("?")
    raw_path, raw_query = path.encode(), query.encode()
    now_s = time.time()
    where: Any = {"region": "us-east-1", "now_s": now_s}
    # A checksum that comes with Complete speaks of the object.
    has_trailer = method != "POST" or "uploadId" not in query
    if kind == "presigned":
        query = signing.presign(
            who, method, raw_path, raw_query, pairs, expires_s=60, **where
        ).decode()
        return f"{path}?{query}", pairs, body
    payload_hash = hashlib.sha256(body).hexdigest()
    if kind == "streaming":
        payload_hash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
    elif kind == "streaming unsigned":
        payload_hash = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
        if has_trailer:
            pairs = [*pairs, (b"x-amz-trailer", b"x-amz-checksum-crc32")]
    if kind.startswith("streaming"):
        pairs = [*pairs, (b"x-amz-decoded-content-length", str(len(body)).encode())]
    added = signing.sign_headers(
        who, method, raw_path, raw_query, pairs, payload_hash=payload_hash, **where
    )
    if kind == "streaming":
        body = _signed_chunks(body, who, dict(added))
    elif kind == "streaming unsigned":
        checksum = base64.b64encode(zlib.crc32(body).to_bytes(4, "big"))
        chunk = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
        trailer = b"x-amz-checksum-crc32:" + checksum + b"\r\n" if has_trailer else b""
        body = chunk + b"0\r\n" + trailer + b"\r\n"
    return target, [*pairs, *added], body


class _Version2(HmacV1Auth):
    """botocore's, which signs all subresources of today."""

    QSAOfInterest = sorted(name.decode() for name in SIGNED_PARAMETERS)


def _signed_by_version_2(method: str, target: str, pairs: Pairs, who: Credential) -> Pairs:
    """Date, Authorization, and a session's token, as botocore makes them."""
    headers = {name.decode(): value.decode() for name, value in pairs}
    asked = AWSRequest(method, f"http://{headers['host']}{target}", headers=headers)
    known = Credentials(who.access_key, who.secret_key, who.session_token or None)
    _Version2(known).add_auth(asked)
    added = {name.lower(): value for name, value in asked.headers.items()}
    return [(n.encode(), v.encode()) for n, v in added.items() if n not in headers]


def _signed_chunks(body: bytes, who: Credential, added: dict[bytes, bytes]) -> bytes:
    timestamp = added[b"x-amz-date"].decode()
    previous = added[b"authorization"].rpartition(b"=")[2].decode()
    key = signing.signing_key(who.secret_key, timestamp[:8], "us-east-1")
    scope = signing.format_scope(timestamp, "us-east-1")
    out = []
    for chunk in ([body] if body else []) + [b""]:
        previous = signing.chunk_signature(
            key, timestamp, scope, previous, hashlib.sha256(chunk).hexdigest()
        )
        out.append(b"%x;chunk-signature=%b\r\n%b\r\n" % (len(chunk), previous.encode(), chunk))
    return b"".join(out)
