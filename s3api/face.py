"""What every operation is given, and the one place where it is decided who may do what.

Concurrency: shared by all requests, never changed after start.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import trio

from s3api.claims import AuthContext
from s3api.errors import AccessDenied
from s3api.sigv4 import Verifier
from store.namespace import Namespace

# So many threads at once compute MD5 and checksums of bodies; more would only take turns.
DIGEST_THREADS = 4
# What ACLs and listings call the account that the root key acts for.
OWNER_ID = hashlib.sha256(b"twofold root").hexdigest()
OWNER_NAME = "root"


@dataclass(slots=True, kw_only=True)
class Face:
    """The S3 face of one namespace.

    domains: lower case; `<bucket>.<domain>` as host names a bucket.
    """

    namespace: Namespace
    verifier: Verifier
    region: str = "us-east-1"
    domains: tuple[bytes, ...] = ()
    digest_limiter: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(DIGEST_THREADS)
    )


def check_owner(expected: bytes | None) -> None:
    """x-amz-expected-bucket-owner: the client's guard against another's bucket of that name.

    Raises AccessDenied unless it is absent or names the one account there is.
    """
    if expected is not None and expected != OWNER_ID.encode():
        raise AccessDenied()


def authorize(auth: AuthContext, action: str, bucket: str, key: str) -> None:
    """Whether this identity may do `action` ("s3:GetObject") here. Raises AccessDenied.

    The root key may do all, nobody else anything; policies will be asked here.
    """
    if auth.anonymous:
        raise AccessDenied()
