"""SimulatePrincipalPolicy and SimulateCustomPolicy: what would be decided, and by which statement.

Concurrency: pure reading. Source: AWS IAM API reference, the actions of these names.
"""

from __future__ import annotations

from dataclasses import replace

from s3api.iam.answers import Structure
from s3api.iam.calls import Parameters, QueryCall, Result
from s3api.iam.refusals import ValidationError
from store.access.decision import Layer
from store.access.evaluate import Access, ResourceRules
from store.access.explain import explain
from store.access.parse import parse_policy
from store.access.patterns import Values
from store.access.plans import Compiled, compile_policies
from store.access.policy import PolicyKind
from store.access.principals import Kind, Principal
from store.identity.names import account_number

EVALUATIONS_MAX = 2000
_LAYERS = {
    Layer.IDENTITY: "IAM Policy",
    Layer.RESOURCE: "Resource Policy",
    Layer.BOUNDARY: "IAM Policy",
}


async def simulate_principal_policy(call: QueryCall) -> Result:
    arn = call.parameters.text("PolicySourceArn")
    access, facts = call.identity.simulated(call.account, arn)
    return _results(call, _widened(call, access), dict(facts))


async def simulate_custom_policy(call: QueryCall) -> Result:
    if not call.parameters.texts("PolicyInputList"):
        raise ValidationError("PolicyInputList must not be empty.")
    principal = Principal(kind=Kind.USER, account=account_number(call.account))
    return _results(call, _widened(call, Access(principal=principal)), {})


def _widened(call: QueryCall, access: Access) -> Access:
    """With the policies that the call brings along. Raises MalformedPolicy."""
    texts = call.parameters.texts
    policies = [
        parse_policy(document, name=f"PolicyInputList.{number}")
        for number, document in enumerate(texts("PolicyInputList"), start=1)
    ]
    given = compile_policies(Layer.IDENTITY, policies).rules
    own = () if access.identity is None else access.identity.rules
    access = replace(access, identity=Compiled(Layer.IDENTITY, (*own, *given)))
    bounds = [
        parse_policy(document, name="PermissionsBoundaryPolicyInputList")
        for document in texts("PermissionsBoundaryPolicyInputList")
    ]
    if bounds:
        others = tuple(each for each in access.limits if each.layer is not Layer.BOUNDARY)
        boundary = compile_policies(Layer.BOUNDARY, bounds)
        access = replace(access, limits=(*others, boundary))
    return access


def _results(call: QueryCall, access: Access, facts: dict[str, Values]) -> Structure:
    parameters = call.parameters
    facts |= {_key(entry): _values(entry) for entry in parameters.structures("ContextEntries")}
    rules = _rules(call)
    resources = parameters.texts("ResourceArns") or ("*",)
    actions = parameters.texts("ActionNames")
    if not actions:
        raise ValidationError("ActionNames must not be empty.")
    if len(actions) * len(resources) > EVALUATIONS_MAX:
        raise ValidationError(f"A call asks for at most {EVALUATIONS_MAX} evaluations.")
    asked = [(action, resource) for action in actions for resource in resources]
    numbered = list(enumerate(asked))
    found, ending = call.page(numbered, lambda each: f"{each[0]:06}")
    return {
        "EvaluationResults": [
            _result(access, rules, action, resource, facts) for _, (action, resource) in found
        ],
        **ending,
    }


def _rules(call: QueryCall) -> ResourceRules | None:
    document = call.parameters.optional("ResourcePolicy")
    if document is None:
        return None
    policy = parse_policy(document, PolicyKind.RESOURCE, name="ResourcePolicy")
    return ResourceRules(
        account=account_number(call.account), policy=compile_policies(Layer.RESOURCE, [policy])
    )


def _result(
    access: Access,
    rules: ResourceRules | None,
    action: str,
    resource: str,
    facts: dict[str, Values],
) -> Structure:
    explanation = explain(access, rules, action, resource, facts)
    decision = explanation.decision
    matched = [
        {
            "SourcePolicyId": each.source.policy,
            "SourcePolicyType": _LAYERS.get(each.source.layer, "none"),
        }
        for each in explanation.considered
        if not each.missed and each.allow is decision.allowed
    ]
    bounded = any(limit.layer is Layer.BOUNDARY for limit in access.limits)
    boundary: Structure = {"AllowedByPermissionsBoundary": decision.layer is not Layer.BOUNDARY}
    return {
        "EvalActionName": action,
        "EvalResourceName": resource,
        "EvalDecision": decision.outcome.value,
        "MatchedStatements": matched,
        "MissingContextValues": [],
        "PermissionsBoundaryDecisionDetail": boundary if bounded else None,
    }


def _key(entry: Parameters) -> str:
    return entry.text("ContextKeyName").lower()


def _values(entry: Parameters) -> Values:
    values = entry.texts("ContextKeyValues")
    listed = entry.text("ContextKeyType", "").endswith("List")
    return values[0] if len(values) == 1 and not listed else values
