"""What every operation is given, and the one place where it is decided who may do what.

Invariant: nothing is read or changed for anybody before `Face.authorize` said yes to it, with the
action's name in IAM's words; operations that touch a second object (the source of a copy, each key
of a batch) ask again for that one. Policies will be asked there, and nowhere else.

Concurrency: shared by all requests, never changed after start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import trio

from s3api.credentials import ROOT, Account
from s3api.errors import AccessDenied
from s3api.requests import Request
from s3api.sigv4 import Verifier
from store.namespace import Namespace

# So many threads at once compute MD5 and checksums of bodies; more would only take turns.
DIGEST_THREADS = 4
# The operation itself finds out who asks (POST forms), or anybody may (preflights).
NO_ACTION = ""
# What an account may do that is about no bucket that exists.
_OF_EVERY_ACCOUNT = frozenset(("s3:ListAllMyBuckets", "s3:CreateBucket"))


@dataclass(slots=True, kw_only=True)
class Face:
    """The S3 face of one namespace.

    domains, website_domains: lower case; `<bucket>.<domain>` as host names a bucket, of the API or
    as a website. accounts: those with a name to show, by their owner strings.
    """

    namespace: Namespace
    verifier: Verifier
    region: str = "us-east-1"
    domains: tuple[bytes, ...] = ()
    website_domains: tuple[bytes, ...] = ()
    accounts: dict[str, Account] = field(default_factory=lambda: accounts_by_owner(()))
    digest_limiter: trio.CapacityLimiter = field(
        default_factory=lambda: trio.CapacityLimiter(DIGEST_THREADS)
    )

    def authorize(self, request: Request, action: str, bucket: str, key: str) -> None:
        """Whether who sent the request may do `action` ("s3:GetObject") here.

        Root may do all, an account everything in its own buckets and nothing elsewhere, others
        nothing. bucket, key: not always the request's own. Raises AccessDenied, NoSuchBucket.
        """
        auth = request.auth
        account = auth.account
        if account.root or action == NO_ACTION:
            return
        if action in _OF_EVERY_ACCOUNT:
            if auth.anonymous:
                raise AccessDenied()
            return
        # An absent bucket is told of before a denial, as S3 does it.
        if not bucket or self.namespace.buckets.get(bucket).owner != account.owner:
            raise AccessDenied()

    def check_owner(self, bucket: str, expected: bytes | None) -> None:
        """x-amz-expected-bucket-owner: the client's guard against another's bucket of that name.

        Raises AccessDenied unless it is absent or the bucket's owner, NoSuchBucket.
        """
        if expected is not None and bucket:
            owner = self.account_of(self.namespace.buckets.get(bucket).owner)
            if expected != owner.id.encode():
                raise AccessDenied()

    def account_of(self, owner: str) -> Account:
        """The account that a bucket or upload keeps as its owner; nameless if it is gone."""
        return self.accounts.get(owner) or Account(id=owner, name="")


def accounts_by_owner(accounts: Iterable[Account]) -> dict[str, Account]:
    """For `Face.accounts`: these and the root's."""
    return {account.owner: account for account in (ROOT, *accounts)}
