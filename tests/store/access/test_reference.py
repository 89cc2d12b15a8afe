"""The compiled evaluator and the slow one say the same, whatever the policies and the request.

In CI some thousand cases; TWOFOLD_FULL=1 makes it 100,000.
"""

from __future__ import annotations

import json
import os
from collections import Counter

import pytest

from store.access.decision import Layer
from store.access.evaluate import Access, ResourceRules, decide, is_sure
from store.access.explain import explain
from store.access.parse import parse_policy
from store.access.plans import Compiled, compile_policies
from store.access.policy import Limits, Policy, PolicyKind
from store.access.principals import Kind, Principal, Strength
from tests.store.access.cases import CaseMaker
from tests.store.access.reference import Case, Document, judge

FULL = os.environ.get("TWOFOLD_FULL") == "1"
CASES = 100_000 if FULL else 3_000
BLOCKS = 20 if FULL else 4
ROOMY = Limits(size_max=100_000)
KINDS = {
    "user": Kind.USER,
    "session": Kind.SESSION,
    "root": Kind.ROOT,
    "anonymous": Kind.ANONYMOUS,
    "federated": Kind.FEDERATED,
}
ACL = {"none": Strength.NONE, "account": Strength.ACCOUNT, "direct": Strength.DIRECT}


def read(document: Document, kind: PolicyKind = PolicyKind.IDENTITY) -> Policy:
    return parse_policy(json.dumps(document), kind, limits=ROOMY)


def layer_of(layer: Layer, documents: list[Document] | None) -> Compiled | None:
    if documents is None:
        return None
    return compile_policies(layer, [read(document) for document in documents])


def access_of(case: Case) -> Access:
    limits = (
        layer_of(Layer.BOUNDARY, case.boundary),
        layer_of(Layer.SESSION, case.session),
        layer_of(Layer.KEY, case.key),
    )
    caller = case.caller
    return Access(
        principal=Principal(
            kind=KINDS[caller.kind],
            account=caller.account,
            arn=caller.arn,
            source_arn=caller.source_arn,
            canonical_id=caller.canonical_id,
            federated=caller.federated,
        ),
        identity=layer_of(Layer.IDENTITY, case.identity),
        limits=tuple(limit for limit in limits if limit is not None),
    )


def rules_of(case: Case) -> ResourceRules:
    policy = None
    if case.resource_policy is not None:
        # Not read as that of one bucket: those speak of their own alone, which tests less.
        parsed = read(case.resource_policy, PolicyKind.RESOURCE)
        policy = compile_policies(Layer.RESOURCE, [parsed])
    return ResourceRules(
        account=case.owner,
        policy=policy,
        restricted=case.restricted,
        binds_root=case.binds_root,
    )


@pytest.mark.slow
@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_policies_mean_what_the_slow_evaluator_says(block: int) -> None:
    count = CASES // BLOCKS
    outcomes: Counter[str] = Counter()
    for seed in range(block * count, (block + 1) * count):
        case = CaseMaker(seed).case()
        expected = judge(case)
        access, rules, acl = access_of(case), rules_of(case), ACL[case.acl]
        asked = (access, rules, case.action, case.resource, case.context, acl)
        decision = decide(*asked)
        assert decision.outcome.value == expected, f"seed {seed}: {decision}, {case}"
        # Remembered plans say the same as new ones.
        assert decide(*asked) is decision, f"seed {seed}"
        assert explain(*asked).decision is decision
        if is_sure(access, rules, case.action, case.resource):
            assert expected == "allowed", f"seed {seed}: {case}"
            outcomes["sure"] += 1
        outcomes[expected] += 1
    for outcome in ("allowed", "explicitDeny", "implicitDeny"):
        assert outcomes[outcome] > count * 0.05, outcomes
    assert outcomes["sure"] > count * 0.001, outcomes
