"""Who may do what, over all layers: the examples behind AWS's evaluation logic, in our words."""

from __future__ import annotations

from typing import Any

import pytest

from store.access.canned import POLICIES
from store.access.decision import Layer, Outcome
from store.access.evaluate import (
    ANONYMOUS_ACCESS,
    SERVICE_RESOURCE,
    Access,
    ResourceRules,
    decide,
    resource_arn,
)
from store.access.explain import explain
from store.access.parse import parse_policy
from store.access.plans import PLANS_MAX, compile_policies
from store.access.policy import PolicyKind
from store.access.principals import Kind, Principal, Strength
from tests.store.access.builders import (
    OURS,
    THEIRS,
    access,
    allow,
    ask,
    bucket_rules,
    deny,
    document,
    layer,
    root,
    session,
    user,
)

BOX = "arn:aws:s3:::box/*"
ANN = {"AWS": f"arn:aws:iam::{OURS}:user/ann"}
NOTHING = allow("iam:GetUser")


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    decision = ask(access(user(), allow("s3:PutObject")))
    assert not decision.allowed and decision.outcome is Outcome.NOT_ALLOWED
    assert decision.layer is Layer.IDENTITY and decision.source is None
    assert str(decision) == "no identity policy allows it"


def test_a_deny_wins_over_every_allow_and_is_named() -> None:
    decision = ask(access(user(), allow(), deny("s3:Get*", BOX, Sid="NoReading")))
    assert decision.outcome is Outcome.DENIED
    assert decision.source is not None and decision.source.sid == "NoReading"
    assert str(decision) == "denied by statement 1 (NoReading) of identity policy p"


@pytest.mark.parametrize("where", ["identity", "resource", "boundary", "session", "key"])
def test_a_deny_wins_from_whatever_layer(where: str) -> None:
    no = deny("s3:GetObject")
    statements = {"identity": [allow()], "resource": [allow(Principal="*")]}
    limits = {name: [allow()] for name in ("boundary", "session", "key")}
    if where in statements:
        statements[where].append({**no, "Principal": "*"} if where == "resource" else no)
    else:
        limits[where].append(no)
    kinds = {"boundary": Layer.BOUNDARY, "session": Layer.SESSION, "key": Layer.KEY}
    who = access(
        user(),
        *statements["identity"],
        limits=[layer(kinds[name], *limit) for name, limit in limits.items()],
    )
    rules = bucket_rules(*statements["resource"])
    assert ask(who, rules=rules).outcome is Outcome.DENIED
    assert ask(who, "s3:PutObject", rules=rules).allowed


def test_not_action_and_not_resource_are_all_the_others() -> None:
    who = access(user(), {"Effect": "Allow", "NotAction": "s3:Delete*", "NotResource": BOX})
    assert ask(who, resource="arn:aws:s3:::bin/a").allowed
    assert not ask(who, resource="arn:aws:s3:::box/a").allowed
    assert not ask(who, "s3:DeleteObject", "arn:aws:s3:::bin/a").allowed


def test_actions_ignore_case_and_resources_do_not() -> None:
    who = access(user(), allow("S3:gETobject", "arn:aws:s3:::box/A"))
    assert ask(who, resource="arn:aws:s3:::box/A").allowed
    assert not ask(who, resource="arn:aws:s3:::box/a").allowed


def test_a_home_of_ones_own() -> None:
    who = access(
        user(), allow(["s3:GetObject", "s3:PutObject"], "arn:aws:s3:::box/${aws:username}/*")
    )
    context: dict[str, str | tuple[str, ...]] = {"aws:username": "ann"}
    assert ask(who, resource="arn:aws:s3:::box/ann/x", context=context).allowed
    for other in ("box/bob/x", "box/ann", "box/annex/x", "box2/ann/x", "box/x/ann/y"):
        assert not ask(who, resource=f"arn:aws:s3:::{other}", context=context).allowed
    assert not ask(who, resource="arn:aws:s3:::box/ann/x").allowed


def test_a_name_that_looks_like_a_pattern_opens_nothing() -> None:
    who = access(user("*"), allow("s3:GetObject", "arn:aws:s3:::box/${aws:username}/*"))
    context: dict[str, str | tuple[str, ...]] = {"aws:username": "*"}
    assert not ask(who, resource="arn:aws:s3:::box/bob/x", context=context).allowed
    assert ask(who, resource="arn:aws:s3:::box/*/x", context=context).allowed


def test_an_exception_that_cannot_be_named_is_no_hole() -> None:
    """Allow on all but a home nobody knows grants nothing; Deny on all but it denies all."""
    place = {"NotResource": "arn:aws:s3:::box/${aws:username}/*"}
    assert not ask(access(user(), {"Effect": "Allow", "Action": "s3:*", **place})).allowed
    denied = access(user(), allow(), {"Effect": "Deny", "Action": "s3:*", **place})
    assert ask(denied).outcome is Outcome.DENIED


class TestTheBucketsOwnPolicy:
    """Grants of a resource, by how they name the caller."""

    def test_everyone_includes_the_anonymous(self) -> None:
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal="*"))
        assert ask(ANONYMOUS_ACCESS, rules=rules).allowed
        assert not ask(ANONYMOUS_ACCESS, "s3:PutObject", rules=rules).allowed
        assert not ask(ANONYMOUS_ACCESS).allowed

    def test_it_holds_for_named_users_and_no_others(self) -> None:
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal=ANN))
        assert ask(access(user("ann")), rules=rules).allowed
        assert not ask(access(user("bob")), rules=rules).allowed
        assert not ask(ANONYMOUS_ACCESS, rules=rules).allowed

    def test_a_grant_to_the_account_leaves_it_to_identity_policies(self) -> None:
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal={"AWS": OURS}))
        assert not ask(access(user()), rules=rules).allowed
        assert ask(access(user(), allow("s3:GetObject")), rules=rules).allowed

    def test_from_another_account_both_sides_have_to_grant(self) -> None:
        stranger = user(account=THEIRS)
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal={"AWS": THEIRS}))
        assert not ask(access(stranger), rules=rules).allowed
        assert not ask(access(stranger, allow())).allowed
        decision = ask(access(stranger, allow()), rules=rules)
        assert decision.allowed and decision.layer is Layer.RESOURCE

    def test_everyone_is_not_enough_for_a_stranger_whose_account_forbids(self) -> None:
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal="*"))
        assert not ask(access(user(account=THEIRS)), rules=rules).allowed
        assert ask(access(root(THEIRS)), rules=rules).allowed

    def test_not_principal_denies_all_but_those(self) -> None:
        rules = bucket_rules(deny("s3:*", BOX, NotPrincipal=ANN))
        assert ask(access(user("ann"), allow()), rules=rules).allowed
        assert ask(access(user("bob"), allow()), rules=rules).outcome is Outcome.DENIED
        assert ask(ANONYMOUS_ACCESS, rules=rules).outcome is Outcome.DENIED

    def test_restricted_it_grants_nothing_to_strangers_and_still_denies_them(self) -> None:
        rules = bucket_rules(
            allow("s3:GetObject", BOX, Principal="*"),
            deny("s3:PutObject", BOX, Principal="*"),
            restricted=True,
        )
        assert not ask(ANONYMOUS_ACCESS, rules=rules).allowed
        assert not ask(access(root(THEIRS)), rules=rules).allowed
        assert ask(access(user()), rules=rules).allowed
        assert ask(ANONYMOUS_ACCESS, "s3:PutObject", rules=rules).outcome is Outcome.DENIED

    def test_an_acl_grants_like_the_bucket(self) -> None:
        rules = ResourceRules(account=OURS)
        asked = (rules, "s3:GetObject", "arn:aws:s3:::box/a", {})
        decision = decide(ANONYMOUS_ACCESS, *asked, Strength.DIRECT)
        assert decision.allowed and decision.layer is Layer.ACL
        assert not decide(access(user()), *asked, Strength.ACCOUNT).allowed
        stranger = access(user(account=THEIRS), allow())
        assert decide(stranger, *asked, Strength.ACCOUNT).allowed


class TestRoot:
    """Root needs no policy, and obeys those that deny."""

    def test_root_may_do_everything_in_its_account(self) -> None:
        decision = ask(access(root()))
        assert decision.allowed and decision.layer is None and str(decision) == "allowed to root"
        assert not ask(access(root(THEIRS))).allowed

    def test_a_deny_binds_root(self) -> None:
        rules = bucket_rules(deny(Principal="*"))
        assert ask(access(root()), rules=rules).outcome is Outcome.DENIED

    @pytest.mark.parametrize("action", ["Get", "Put", "Delete"])
    def test_root_can_always_change_a_policy_that_locks_it_out(self, action: str) -> None:
        asked = (f"s3:{action}BucketPolicy", "arn:aws:s3:::box")
        rules = bucket_rules(deny(Principal="*"))
        assert ask(access(root()), *asked, rules).allowed
        assert not ask(access(root(THEIRS)), *asked, rules).allowed
        assert not ask(access(user(), allow()), *asked, rules).allowed
        bound = bucket_rules(deny(Principal="*"), binds_root=True)
        assert not ask(access(root()), *asked, bound).allowed

    def test_a_key_of_root_with_a_policy_has_only_that(self) -> None:
        who = access(root(), limits=[layer(Layer.KEY, allow("s3:GetObject"))])
        assert ask(who).allowed
        assert ask(who, "s3:PutObject").layer is Layer.KEY


class TestLimits:
    """Boundary, session and key policies narrow; what exceeds them has to name the caller."""

    @pytest.mark.parametrize("kind", [Layer.BOUNDARY, Layer.SESSION, Layer.KEY])
    def test_a_limit_narrows_and_grants_nothing(self, kind: Layer) -> None:
        limit = layer(kind, allow(["s3:GetObject", "s3:PutObject"]))
        who = access(user(), allow(["s3:GetObject", "s3:DeleteObject"]), limits=[limit])
        assert ask(who).allowed
        assert ask(who, "s3:PutObject").layer is Layer.IDENTITY
        assert ask(who, "s3:DeleteObject").layer is kind

    @pytest.mark.parametrize("principal", ["*", {"AWS": f"arn:aws:iam::{OURS}:role/job"}])
    def test_a_session_policy_narrows_what_a_bucket_grants_everyone_or_the_role(
        self, principal: Any
    ) -> None:
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal=principal))
        assert ask(access(session()), rules=rules).allowed
        narrowed = access(session(), limits=[layer(Layer.SESSION, NOTHING)])
        assert ask(narrowed, rules=rules).layer is Layer.SESSION

    @pytest.mark.parametrize(
        ("kind", "allowed"),
        [(Layer.BOUNDARY, True), (Layer.SESSION, True), (Layer.KEY, False)],
    )
    def test_a_bucket_that_names_the_caller_exceeds_all_but_the_policy_of_a_key(
        self, kind: Layer, allowed: bool
    ) -> None:
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal=ANN))
        assert ask(access(user(), limits=[layer(kind, NOTHING)]), rules=rules).allowed is allowed

    def test_a_strangers_limits_hold_whoever_is_named(self) -> None:
        named = {"AWS": f"arn:aws:iam::{THEIRS}:user/ann"}
        rules = bucket_rules(allow("s3:GetObject", BOX, Principal=named))
        limit = layer(Layer.BOUNDARY, NOTHING)
        who = access(user(account=THEIRS), allow(), limits=[limit])
        assert ask(who, rules=rules).layer is Layer.BOUNDARY


class TestTrust:
    """Who may take a role: the same rules, with the trust policy as the resource's."""

    ROLE = f"arn:aws:iam::{OURS}:role/job"

    def rules(self, principal: Any, **more: Any) -> ResourceRules:
        statement = {"Effect": "Allow", "Action": "sts:AssumeRole*", "Principal": principal, **more}
        policy = parse_policy(document(statement), PolicyKind.TRUST, name="of work")
        return ResourceRules(account=OURS, policy=compile_policies(Layer.TRUST, [policy]))

    def test_a_named_user_may_and_the_account_leaves_it_to_identity(self) -> None:
        asked = ("sts:AssumeRole", self.ROLE)
        assert ask(access(user()), *asked, self.rules(ANN)).allowed
        assert not ask(access(user()), *asked, self.rules({"AWS": OURS})).allowed
        assert ask(access(user(), allow("sts:*")), *asked, self.rules({"AWS": OURS})).allowed

    def test_a_token_of_a_provider_by_its_claims(self) -> None:
        condition = {"ForAnyValue:StringEquals": {"jwt:groups": "staff"}}
        rules = self.rules({"Federated": "https://op.example"}, Condition=condition)
        asked = ("sts:AssumeRoleWithWebIdentity", self.ROLE, rules)
        bearer = access(Principal(kind=Kind.FEDERATED, federated="https://op.example"))
        assert ask(bearer, *asked, {"jwt:groups": ("staff", "x")}).allowed
        assert not ask(bearer, *asked, {"jwt:groups": ("x",)}).allowed
        other = access(Principal(kind=Kind.FEDERATED, federated="https://evil.example"))
        decision = ask(other, *asked, {"jwt:groups": ("staff",)})
        assert not decision.allowed and decision.layer is Layer.TRUST


class TestCanned:
    """What the policies that are always there allow."""

    @pytest.mark.parametrize(
        ("name", "can", "cannot"),
        [
            ("readonly", {"s3:GetObject", "s3:ListBucket"}, {"s3:PutObject", "s3:DeleteObject"}),
            ("writeonly", {"s3:PutObject"}, {"s3:GetObject", "s3:ListBucket", "s3:DeleteObject"}),
            ("readwrite", {"s3:DeleteBucket", "s3:GetObject"}, {"iam:CreateUser"}),
            ("diagnostics", {"twofold:ReadLogs"}, {"s3:GetObject", "twofold:StopServer"}),
            ("consoleAdmin", {"s3:PutObject", "iam:CreateUser", "twofold:Heal"}, set()),
        ],
    )
    def test_canned(self, name: str, can: set[str], cannot: set[str]) -> None:
        own = compile_policies(Layer.IDENTITY, [POLICIES[name]])
        who = Access(principal=user(), identity=own)
        assert {a for a in can | cannot if ask(who, a).allowed} == can

    def test_readonly_lists_the_buckets(self) -> None:
        own = compile_policies(Layer.IDENTITY, [POLICIES["readonly"]])
        who = Access(principal=user(), identity=own)
        assert ask(who, "s3:ListAllMyBuckets", SERVICE_RESOURCE).allowed


def test_an_account_wide_listing_is_covered_by_all_buckets() -> None:
    who = access(user(), allow("s3:ListAllMyBuckets", "arn:aws:s3:::*"))
    assert ask(who, "s3:ListAllMyBuckets", SERVICE_RESOURCE).allowed


def test_arns_of_buckets_and_objects() -> None:
    assert resource_arn("box") == "arn:aws:s3:::box"
    assert resource_arn("box", "a/b") == "arn:aws:s3:::box/a/b"


def test_only_keys_that_some_policy_looks_at_need_to_be_found_out() -> None:
    tagged = {"StringEquals": {"s3:ExistingObjectTag/Colour": "${jwt:team}"}}
    limit = layer(Layer.KEY, allow("s3:*", Condition={"IpAddress": {"aws:SourceIp": "10.0.0.1"}}))
    who = access(
        user(), allow("s3:GetObject", Condition=tagged), allow("s3:PutObject"), limits=[limit]
    )
    assert who.keys_for("s3:GetObject") == {
        "s3:existingobjecttag/colour",
        "jwt:team",
        "aws:sourceip",
    }
    assert who.keys_for("s3:PutObject") == {"aws:sourceip"}


def test_remembered_plans_are_bounded() -> None:
    own = layer(Layer.IDENTITY, allow("s3:GetObject", "arn:aws:s3:::box7/*"))
    who = Access(principal=user(), identity=own)
    allowed = [
        ask(who, resource=f"arn:aws:s3:::box{number}/a").allowed for number in range(PLANS_MAX + 9)
    ]
    assert allowed.count(True) == 1 and len(own._plans) <= PLANS_MAX


def test_an_explanation_says_where_each_statement_stopped() -> None:
    prefix = {"StringLike": {"s3:prefix": "ann/*"}}
    who = access(
        user(),
        allow("s3:PutObject"),
        allow("s3:ListBucket", "arn:aws:s3:::bin"),
        allow("s3:ListBucket", "arn:aws:s3:::box", Condition=prefix),
        {"Effect": "Deny", "NotAction": "s3:*", "Resource": "*"},
    )
    rules = bucket_rules(allow(Principal={"AWS": THEIRS}), deny("s3:Delete*", Principal="*"))
    found = explain(who, rules, "s3:ListBucket", "arn:aws:s3:::box", {"s3:prefix": "bob/"})
    assert not found.decision.allowed
    assert [each.missed for each in found.considered] == [
        "Action does not name s3:ListBucket",
        "Resource does not cover arn:aws:s3:::box",
        "Condition StringLike s3:prefix ('ann/*') fails: the request has 'bob/'",
        "NotAction excludes s3:ListBucket",
        f"Principal does not name arn:aws:iam::{OURS}:user/ann",
        "Action does not name s3:ListBucket",
    ]
    allowed = explain(who, rules, "s3:ListBucket", "arn:aws:s3:::box", {"s3:prefix": "ann/x"})
    lines = list(allowed.lines())
    assert lines[0] == "allowed by statement 2 of identity policy p"
    assert lines[3] == "  statement 2 of identity policy p allows: applies"
