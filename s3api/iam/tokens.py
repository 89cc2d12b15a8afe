"""STS: temporary keys, and who am I.

A role's trust policy has to name the caller, whatever the caller's own policies allow; beyond that
the decision is `store.access.evaluate`'s.

Concurrency: as `store.identity`. Source: AWS STS API reference, the actions of these names; IAM
user guide, "Roles terms and concepts" (role chaining), "Passing session tags".
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache

from msgspec.structs import replace

from s3api.credentials import ROOT
from s3api.iam.answers import Structure, moment
from s3api.iam.calls import QueryCall, Result
from s3api.iam.conditions import Told
from s3api.iam.refusals import QueryDenied, ValidationError
from s3api.iam.webidentity import Vouched
from store.access.decision import Layer, Outcome
from store.access.evaluate import Access, ResourceRules, decide
from store.access.parse import parse_policy
from store.access.patterns import Values
from store.access.plans import Compiled, compile_policies
from store.access.policy import PolicyKind
from store.access.principals import Kind, Principal
from store.identity import names
from store.identity.callers import role_principal
from store.identity.managed import MANAGED, PREFIX
from store.identity.records import POLICIES_TAG, POLICY_CLAIM_TAG, Role, Tags, User
from store.identity.records import Kind as RecordKind
from store.identity.sessions import Session, Source

SESSION_MIN_S = 900
SESSION_DEFAULT_S = 3600
CHAINED_MAX_S = 3600
TOKEN_DEFAULT_S = 12 * 3600
TOKEN_MAX_S = 36 * 3600
CLAIM_MAX_S = 12 * 3600
POLICY_ARNS_MAX = 10
# Under whose names a trust policy may ask for a tag of the role itself.
_OF_ROLE = ("aws", "iam")


async def get_caller_identity(call: QueryCall) -> Result:
    auth = call.request.auth
    number = names.account_number(call.account)
    return {
        "UserId": str(auth.facts.get("aws:userid", number)),
        "Account": number,
        "Arn": auth.access.principal.arn,
    }


async def get_session_token(call: QueryCall) -> Result:
    auth = call.request.auth
    principal = auth.access.principal
    if principal.kind not in (Kind.ROOT, Kind.USER) or call.is_session:
        raise QueryDenied("Cannot call GetSessionToken with session credentials")
    # It takes no permission, but it can be denied.
    decision = decide(auth.access, None, "sts:GetSessionToken", "*", call.facts())
    if decision.outcome is Outcome.DENIED:
        raise call.denied("*")
    _refuse_mfa(call)
    is_user = principal.kind is Kind.USER
    longest_s = TOKEN_MAX_S if is_user else SESSION_DEFAULT_S
    duration_s = _duration(call, longest_s, min(TOKEN_DEFAULT_S, longest_s))
    user = call.identity.holders.get(call.account, User, call.user) if is_user else None
    session = _new_session(call, call.account, Source.USER if user else Source.ROOT, duration_s)
    session = replace(session, via=auth.access_key)
    if user is not None:
        session = replace(session, owner=user.name, owner_id=user.id)
    return {"Credentials": _credentials(call, session)}


async def assume_role(call: QueryCall) -> Result:
    parameters = call.parameters
    name, tags = parameters.text("RoleSessionName"), parameters.tags()
    names.check_session_name(name)
    names.check_tags(tags)
    _refuse_mfa(call)
    if parameters.texts("TransitiveTagKeys"):
        raise ValidationError("Transitive session tags are not supported.")
    source_identity = parameters.text("SourceIdentity", "")
    told = _told_of(name, tags, source_identity)
    for key in ("ExternalId", "DurationSeconds"):
        if value := parameters.text(key, ""):
            told[f"sts:{key.lower()}"] = value
    account, role, arn = _role(call)
    access = call.request.auth.access
    for action in _actions(call, tags, source_identity):
        _check_trust(call, access, action, account, role, arn, told)
    longest_s = min(role.session_max_s, CHAINED_MAX_S) if call.is_session else role.session_max_s
    session = _new_session(call, account, Source.ROLE, _duration(call, longest_s))
    session = _narrowed(call, replace(session, name=name, owner=role.name, owner_id=role.id))
    session = replace(session, tags=tags, source_identity=source_identity)
    return {
        "Credentials": _credentials(call, session),
        "AssumedRoleUser": _assumed(account, role, name),
        "PackedPolicySize": _packed(session) if session.policies else None,
        "SourceIdentity": source_identity or None,
    }


async def assume_role_with_web_identity(call: QueryCall) -> Result:
    parameters = call.parameters
    token, name = parameters.text("WebIdentityToken"), parameters.text("RoleSessionName")
    names.check_session_name(name)
    if not parameters.text("RoleArn", "").startswith("arn:aws:iam::"):
        vouched = await call.face.web_identities.verify(call.identity, ROOT.id, token)
        session = _claimed_session(call, vouched, name)
        assumed: Structure = {
            "AssumedRoleId": f"{names.account_number(ROOT.id)}:{name}",
            "Arn": f"arn:aws:sts::{names.account_number(ROOT.id)}:federated-user/{name}",
        }
    else:
        account, role, arn = _role(call)
        vouched = await call.face.web_identities.verify(call.identity, account, token)
        access = Access(principal=Principal(kind=Kind.FEDERATED, federated=vouched.arn))
        tags, source_identity = vouched.tags(), vouched.source_identity()
        names.check_tags(tags)
        told = {**vouched.facts(), **_told_of(name, tags, source_identity)}
        for action in _actions(call, tags, source_identity):
            _check_trust(call, access, action, account, role, arn, told)
        session = _new_session(call, account, Source.ROLE, _duration(call, role.session_max_s))
        session = replace(session, name=name, owner=role.name, owner_id=role.id)
        session = replace(session, tags=tags, source_identity=source_identity)
        session = _narrowed(call, replace(session, provider=vouched.arn, claims=vouched.facts()))
        assumed = _assumed(account, role, name)
    return {
        "Credentials": _credentials(call, session),
        "SubjectFromWebIdentityToken": vouched.claims.subject,
        "AssumedRoleUser": assumed,
        "PackedPolicySize": _packed(session) if session.policies else None,
        "Provider": vouched.arn,
        "Audience": next(
            each for each in vouched.claims.audiences if each in vouched.provider.clients
        ),
    }


def _told_of(name: str, tags: Tags, source_identity: str) -> dict[str, Values]:
    """What conditions may ask of a session that is asked for."""
    told: dict[str, Values] = {"sts:rolesessionname": name}
    told |= {f"aws:requesttag/{key.lower()}": value for key, value in tags.items()}
    if tags:
        told["aws:tagkeys"] = tuple(tags)
    if source_identity:
        told["sts:sourceidentity"] = source_identity
    return told


def _actions(call: QueryCall, tags: Tags, source_identity: str) -> list[str]:
    """What a role has to let its new session do."""
    further = {"sts:TagSession": bool(tags), "sts:SetSourceIdentity": bool(source_identity)}
    return [f"sts:{call.action}", *(action for action, asked in further.items() if asked)]


# -- roles ------------------------------------------------------------------------------


def _role(call: QueryCall) -> tuple[str, Role, str]:
    """The role that is asked for, with its account and ARN. Raises QueryDenied, as if it denied."""
    arn = call.parameters.text("RoleArn")
    found = call.identity.find_role(arn)
    if found is None:
        raise call.denied(arn)
    account, role = found
    return account, role, arn


@lru_cache(maxsize=1024)
def _trust(name: str, document: str) -> Compiled:
    policy = parse_policy(document, PolicyKind.TRUST, name=f"of {name}")
    return compile_policies(Layer.TRUST, [policy])


def _check_trust(
    call: QueryCall,
    access: Access,
    action: str,
    account: str,
    role: Role,
    arn: str,
    told: Mapping[str, Values],
) -> None:
    """Raises QueryDenied unless the role trusts the caller, and the caller's side allows it."""
    trust = _trust(role.name, role.trust)
    rules = ResourceRules(account=names.account_number(account), policy=trust)
    of_role = {f"{of}:resourcetag/{k.lower()}": v for k, v in role.tags.items() for of in _OF_ROLE}
    told = {**of_role, **told}
    facts = Told(told, call.facts(told))
    plan = trust.plan(action, arn.partition("/")[0], access.principal)
    trusted = plan.allowing(arn, facts) is not None
    if not trusted or not decide(access, rules, action, arn, facts).allowed:
        raise call.denied(arn)


def _assumed(account: str, role: Role, name: str) -> Structure:
    return {
        "AssumedRoleId": f"{role.id}:{name}",
        "Arn": role_principal(account, role, name).arn,
    }


def _claimed_session(call: QueryCall, vouched: Vouched, name: str) -> Session:
    """With the managed policies that its provider gives, or the token's claim lists.

    Raises QueryDenied.
    """
    tags = vouched.provider.tags
    claim = tags.get(POLICY_CLAIM_TAG, "")
    listed = [each.strip() for each in tags.get(POLICIES_TAG, "").split(",")]
    listed += vouched.claims.names(claim) if claim else ()
    own = {policy.name: policy for policy in call.identity.policies.all(ROOT.id)}
    arns: list[str] = []
    for each in listed:
        if PREFIX + each in MANAGED:
            arns.append(PREFIX + each)
        elif each in own:
            arns.append(names.entity_arn(ROOT.id, RecordKind.POLICY, each, own[each].path))
    if not arns:
        raise QueryDenied("Neither provider nor token names a policy that there is.")
    session = _new_session(call, ROOT.id, Source.CLAIM, _duration(call, CLAIM_MAX_S))
    return _narrowed(
        call,
        replace(
            session,
            name=name,
            owner=vouched.provider.url,
            owner_id=vouched.claims.subject,
            attached=tuple(arns),
            provider=vouched.arn,
            claims=vouched.facts(),
        ),
    )


# -- sessions ---------------------------------------------------------------------------


def _refuse_mfa(call: QueryCall) -> None:
    for name in ("SerialNumber", "TokenCode"):
        if call.parameters.optional(name) is not None:
            raise QueryDenied("MultiFactorAuthentication failed: there are no devices here.")


def _duration(call: QueryCall, longest_s: int, default_s: int = SESSION_DEFAULT_S) -> int:
    duration_s = call.parameters.number("DurationSeconds", default_s)
    if duration_s < SESSION_MIN_S:
        raise ValidationError(
            f"1 validation error detected: Value '{duration_s}' at 'durationSeconds' failed to "
            "satisfy constraint: Member must have value greater than or equal to "
            f"{SESSION_MIN_S}"
        )
    if duration_s > longest_s:
        raise ValidationError(
            "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    return duration_s


def _new_session(call: QueryCall, account: str, source: Source, duration_s: int) -> Session:
    now_s = int(time.time())
    return Session(
        account=account,
        source=source,
        secret=call.identity.new_secret(),
        issued_s=now_s,
        expires_s=now_s + duration_s,
    )


def _narrowed(call: QueryCall, session: Session) -> Session:
    """With the policies that the caller gave. Raises MalformedPolicy, NoSuchEntity."""
    parameters = call.parameters
    document = parameters.optional("Policy")
    if document is not None:
        parse_policy(document, PolicyKind.SESSION, name="session policy")
        session = replace(session, policies=(document,))
    arns = tuple(each.text("arn") for each in parameters.structures("PolicyArns"))
    if len(arns) > POLICY_ARNS_MAX:
        raise ValidationError(f"PolicyArns has at most {POLICY_ARNS_MAX} members.")
    for arn in arns:
        call.identity.policies.get(session.account, arn)
    return replace(session, narrowing=arns)


def _credentials(call: QueryCall, session: Session) -> Structure:
    access_key, token = call.identity.start_session(session)
    return {
        "AccessKeyId": access_key,
        "SecretAccessKey": session.secret,
        "SessionToken": token,
        "Expiration": moment(session.expires_s),
    }


def _packed(session: Session) -> int:
    """Percent of what a session's policies may take."""
    return min(100, sum(map(len, session.policies)) * 100 // 2048)
