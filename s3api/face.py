"""What every operation is given, and the one place where it is decided who may do what.

Invariant: nothing is read or changed for anybody before `Face.authorize` said yes to it, with the
action's name in IAM's words; operations that touch a second object (the source of a copy, each key
of a batch) ask again for that one. Policies and ACLs are asked there, and nowhere else.

The root of an account in its own bucket, where neither policies nor ACLs have a say, is let in
without any of that. The root of the server is at home in every account, so that only what a bucket
itself denies stops it.

Concurrency: shared by all requests, never changed after start.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from s3api.bucketaccess import BucketAccess, BucketAccesses, owner_of, private_acl
from s3api.credentials import NO_FACTS, ROOT, Account, Facts
from s3api.errors import AccessDenied
from s3api.iam.webidentity import WebIdentities
from s3api.proxies import Network
from s3api.requestfacts import RequestFacts
from s3api.requests import Request, parse_copy_source
from s3api.sigv4 import Verifier
from store.access.acl import OBJECT_ACTIONS
from store.access.decision import Outcome
from store.access.evaluate import (
    SERVICE_RESOURCE,
    ResourceRules,
    decide,
    is_sure,
    resource_arn,
)
from store.access.ownership import DEFAULT_OWNERSHIP, Ownership
from store.access.principals import Kind, Strength
from store.digests import DigestThreads
from store.errors import KeyDeleted, NoSuchBucket, NoSuchKey, NoSuchVersion, NotFound, StoreError
from store.identity.names import account_number
from store.namespace import Namespace
from store.types import ObjectMeta

# So many threads at once compute MD5 and checksums of bodies; more would only take turns.
DIGEST_THREADS = 4
# The operation itself finds out who asks (POST forms), or anybody may (preflights).
NO_ACTION = ""
COPY_SOURCE = b"x-amz-copy-source"
_ABSENT = (NoSuchKey, KeyDeleted, NoSuchVersion)
# What is done to an object that is there already: its own owner and ACL have a say.
_OF_WHAT_IS_THERE = frozenset().union(*OBJECT_ACTIONS.values()) | {
    f"s3:{verb}Object{version}Tagging"
    for verb in ("Get", "Put", "Delete")
    for version in ("", "Version")
}


# What who begins an upload may do with it by that alone.
_OF_UPLOADS = frozenset({"s3:ListMultipartUploadParts", "s3:AbortMultipartUpload"})


@dataclass(slots=True, kw_only=True)
class Face:
    """The S3 face of one namespace.

    domains, website_domains: lower case; `<bucket>.<domain>` as host names a bucket, of the API or
    as a website. object_ownership, block_public_access: what new buckets have, where their maker
    says nothing. trusted_proxies: who is believed whom it speaks for. accounts: those with a name
    to show, by their owner strings.
    """

    namespace: Namespace
    verifier: Verifier
    region: str = "us-east-1"
    domains: tuple[bytes, ...] = ()
    website_domains: tuple[bytes, ...] = ()
    object_ownership: Ownership | None = DEFAULT_OWNERSHIP
    block_public_access: bool = True
    trusted_proxies: tuple[Network, ...] = ()
    accesses: BucketAccesses = field(default_factory=BucketAccesses)
    web_identities: WebIdentities = field(default_factory=WebIdentities)
    accounts: dict[str, Account] = field(default_factory=lambda: accounts_by_owner(()))
    digest_threads: DigestThreads = field(default_factory=lambda: DigestThreads(DIGEST_THREADS))

    def authorize(
        self,
        request: Request,
        action: str,
        bucket: str,
        key: str,
        version: str | None = None,
    ) -> None:
        """Whether who sent the request may do `action` ("s3:GetObject") here.

        bucket, key: not always the request's own, nor is version, which then has to be given.
        Raises AccessDenied, NoSuchBucket; and where ACLs would decide on an object that is not
        there, NoSuchKey and its kin to whom may know it.
        """
        if action == NO_ACTION:
            return
        auth = request.auth
        access = auth.access
        if not bucket:
            self.authorize_creation(request, action)
            return
        said = self.bucket_access(bucket)
        principal = access.principal
        if principal.kind is Kind.ROOT and not access.limits:
            at_home = auth.account.root or principal.account == said.rules.account
            if said.plain and at_home:
                return
        elif not said.has_acls and is_sure(access, said.rules, action, resource_arn(bucket, key)):
            return
        told = NO_FACTS
        if version is None and (bucket, key) == (request.bucket, request.key):
            version = request.query.get("versionId")
        elif version:
            told = {"s3:versionid": version}
        if not self._decide(request, said, action, bucket, key, version, told):
            raise AccessDenied()

    def authorize_creation(self, request: Request, action: str) -> None:
        """Whether the sender may do this to a bucket that is not there yet. Raises AccessDenied."""
        facts = self._facts(request, action, None)
        resource = resource_arn(request.bucket) if request.bucket else SERVICE_RESOURCE
        if not decide(request.auth.access, None, action, resource, facts).allowed:
            raise AccessDenied()

    def authorize_acl(self, request: Request) -> None:
        """Whether the sender may store the request's object with an ACL of its own.

        That is for its own account to say, whose the object becomes, but for what the bucket
        denies. Raises AccessDenied, NoSuchBucket.
        """
        action, said = "s3:PutObjectAcl", self.bucket_access(request.bucket)
        access = request.auth.access
        facts = self._facts(request, action, said)
        resource = resource_arn(request.bucket, request.key)
        account = access.principal.account or said.rules.account
        rules = replace(said.rules, account=account)
        decision = decide(access, rules, action, resource, facts)
        if decision.outcome is Outcome.DENIED or not (decision.allowed or request.auth.anonymous):
            raise AccessDenied()

    def allows(self, request: Request, action: str, bucket: str, key: str) -> bool:
        """`authorize` as a question. Raises NoSuchBucket."""
        try:
            self.authorize(request, action, bucket, key)
        except AccessDenied:
            return False
        return True

    def conceal(self, request: Request, error: Exception) -> Exception:
        """What the sender is told instead of `error`: who may not list a key learns of none."""
        if not isinstance(error, _ABSENT) or not request.key:
            return error
        asked = {(request.bucket, request.key)}
        if COPY_SOURCE in request.headers:
            source = parse_copy_source(request.headers[COPY_SOURCE])
            asked.add((source.bucket, source.key))
        try:
            may_know = all(self._may_list(request, *each) for each in asked)
        except NoSuchBucket:
            return error
        return error if may_know else AccessDenied()

    def _may_list(self, request: Request, bucket: str, key: str) -> bool:
        said = self.bucket_access(bucket)
        told = {"s3:prefix": key}
        return self._decide(request, said, "s3:ListBucket", bucket, "", None, told)

    def bucket_access(self, bucket: str) -> BucketAccess:
        """What the bucket says of who may do what. Raises NoSuchBucket."""
        rules = self.namespace.buckets.rules(bucket)
        return self.accesses.get(bucket, rules, self.account_of, self.namespace.identity)

    def _decide(
        self,
        request: Request,
        said: BucketAccess,
        action: str,
        bucket: str,
        key: str,
        version: str | None,
        told: Facts,
    ) -> bool:
        auth = request.auth
        access = auth.access
        principal = access.principal
        is_root = auth.account.root and principal.kind is Kind.ROOT
        rules = said.rules_for_root if is_root else said.rules
        resource = resource_arn(bucket, key)
        there = _Existing(self, bucket, key, version)
        facts = self._facts(request, action, said, there, told)
        acl = said.grants(principal, action)
        if action in _OF_UPLOADS and self._is_initiator(request, bucket, key):
            acl = max(acl, Strength.DIRECT)
        decision = decide(access, rules, action, resource, facts, acl)
        if not said.has_acls or action not in _OF_WHAT_IS_THERE:
            return decision.allowed
        if decision.outcome is Outcome.DENIED:
            return False
        meta = there.meta()
        if meta is None:
            absent = there.error
            if not decision.allowed and absent and self._may_list(request, bucket, key):
                raise absent
            return decision.allowed
        # The policy of the bucket grants nothing of what isn't the bucket owner's.
        if meta.owner and not is_root:
            rules = ResourceRules(account=account_number(meta.owner))
        owner = self.account_of(meta.owner) if meta.owner else said.owner
        acl = said.object_grants(meta.acl or private_acl(owner_of(owner)), principal, action)
        return decide(access, rules, action, resource, facts, acl).allowed

    def _is_initiator(self, request: Request, bucket: str, key: str) -> bool:
        """Whether who asks has begun the upload, or is the account whose user did."""
        principal = request.auth.access.principal
        if principal.kind is Kind.ANONYMOUS:
            return False
        try:
            upload = self.namespace.uploads.get(bucket, key, request.query.get("uploadId", ""))
        except StoreError:
            # The operation says so.
            return False
        if principal.kind is not Kind.ROOT:
            return upload.owner == principal.arn
        its = tuple(f"arn:aws:{service}::{principal.account}:" for service in ("iam", "sts"))
        account = self.account_of(upload.owner)
        return upload.owner.startswith(its) or account.number == principal.account

    def _facts(
        self,
        request: Request,
        action: str,
        said: BucketAccess | None,
        there: _Existing | None = None,
        told: Facts = NO_FACTS,
    ) -> RequestFacts:
        account = request.auth.access.principal.account if said is None else said.owner.number
        return RequestFacts(
            request,
            action,
            region=self.region,
            account=account,
            told=told,
            tags=dict if there is None else there.tags,
        )

    def check_owner(self, bucket: str, expected: bytes | None) -> None:
        """x-amz-expected-bucket-owner: the client's guard against another's bucket of that name.

        Raises AccessDenied unless it is absent or the bucket's owner, by number or id;
        NoSuchBucket.
        """
        if expected is not None and bucket:
            owner = self.account_of(self.namespace.buckets.get(bucket).owner)
            if expected.decode("latin-1") not in (owner.number, owner.id):
                raise AccessDenied()

    def account_of(self, owner: str) -> Account:
        """The account of an owner string or canonical id; nameless if it is gone."""
        return self.accounts.get(owner) or Account(id=owner, name="")


def accounts_by_owner(accounts: Iterable[Account]) -> dict[str, Account]:
    """For `Face.accounts`: these and the root's, which goes by its id, too."""
    return {ROOT.id: ROOT, **{account.owner: account for account in (ROOT, *accounts)}}


class _Existing:
    """The object that a decision is about, read when it is asked for, and once."""

    __slots__ = ("_face", "_known", "_meta", "_name", "error")

    def __init__(self, face: Face, bucket: str, key: str, version: str | None) -> None:
        self._face = face
        self._name = (bucket, key, version or None)
        self._known = False
        self._meta: ObjectMeta | None = None
        self.error: StoreError | None = None

    def meta(self) -> ObjectMeta | None:
        """None where there is no such object."""
        if not self._known:
            self._known = True
            try:
                self._meta = self._face.namespace.objects.stat(*self._name).meta
            except NotFound as absent:
                self.error = absent
            except StoreError:
                # No name that an object could have: the operation says so.
                self._meta = None
        return self._meta

    def tags(self) -> dict[str, str]:
        """Its tags."""
        meta = self.meta()
        return {} if meta is None else meta.tags
