"""Documents that are policies, and sentences about those that aren't."""

from __future__ import annotations

import json
from typing import Any

import pytest

from store.access.canned import DOCUMENTS, POLICIES
from store.access.errors import MalformedPolicy
from store.access.parse import parse_bucket_policy, parse_policy
from store.access.policy import Limits, PolicyKind
from tests.store.access.builders import allow, deny, document


def test_a_single_statement_need_not_stand_in_a_list() -> None:
    policy = parse_policy(json.dumps({"Version": "2012-10-17", "Statement": allow("s3:Get*")}))
    (statement,) = policy.statements
    assert statement.allow and statement.actions == ("s3:Get*",) and statement.resources == ("*",)
    assert policy.has_variables


def test_without_a_version_a_policy_is_of_the_old_one() -> None:
    policy = parse_policy(json.dumps({"Statement": [allow()]}))
    assert policy.version == "2008-10-17" and not policy.has_variables


def test_numbers_and_booleans_of_conditions_become_texts() -> None:
    condition = {"NumericLessThan": {"s3:max-keys": 10}, "Bool": {"aws:SecureTransport": [True]}}
    (statement,) = parse_policy(document(allow(Condition=condition))).statements
    assert [c.values for c in statement.conditions] == [("10",), ("true",)]


def test_qualifier_and_if_exists_are_taken_off_the_operator() -> None:
    name = "ForAnyValue:StringNotLikeIfExists"
    (statement,) = parse_policy(document(allow(Condition={name: {"jwt:groups": "a*"}}))).statements
    (condition,) = statement.conditions
    assert condition.operator.name == "StringNotLike" and condition.if_exists
    assert condition.operator_name == name


@pytest.mark.parametrize(
    ("statement", "element", "word"),
    [
        ({**allow(), "Effect": "allow"}, "Effect", "Allow or Deny"),
        ({"Effect": "Allow", "Resource": "*"}, "", "neither Action nor NotAction"),
        ({"Effect": "Allow", "Action": "s3:*"}, "", "neither Resource nor NotResource"),
        (allow(NotAction="s3:Get*"), "", "both Action and NotAction"),
        (allow(NotResource="*"), "", "both Resource and NotResource"),
        (allow([]), "Action", "a string or a list"),
        (allow(["s3:GetObject", 1]), "Action", "a string or a list"),
        (allow("GetObject"), "Action", "service:action"),
        (allow(resource="box/*"), "Resource", "neither an ARN nor"),
        (allow(resource="arn:aws:s3:::box/${aws:username"), "Resource", "no policy variable"),
        (allow(resource="arn:aws:s3:::box/${}"), "Resource", "no policy variable"),
        (allow(Principal="*"), "", "only for policies of resources"),
        (allow(Sid="not me"), "Sid", "letters and digits"),
        (allow(Colour="red"), "", "'Colour' is no element"),
        (allow(Condition=[]), "Condition", "an object"),
        (
            allow(Condition={"StringSame": {"aws:a": "x"}}),
            "Condition.StringSame",
            "no condition op",
        ),
        (allow(Condition={"NullIfExists": {"aws:a": "true"}}), "Condition.NullIfExists", "no cond"),
        (allow(Condition={"StringLike": {}}), "Condition.StringLike", "object of condition keys"),
        (allow(Condition={"Bool": {"aws:a": []}}), "Condition.Bool.aws:a", "no value"),
        (allow(Condition={"Bool": {"aws:a": "yes"}}), "Condition.Bool.aws:a", "true or false"),
        (allow(Condition={"Bool": {"aws:a": [None]}}), "Condition.Bool.aws:a", "must be a string"),
        (
            allow(Condition={"IpAddress": {"aws:a": "10.0.0/8"}}),
            "Condition.IpAddress.aws:a",
            "CIDR",
        ),
        (allow(Condition={"DateEquals": {"aws:a": "soon"}}), "Condition.DateEquals.aws:a", "date"),
        (
            allow(Condition={"NumericEquals": {"aws:a": "1e9999"}}),
            "Condition.NumericEquals.aws:a",
            "number",
        ),
        (allow(Condition={"ArnLike": {"aws:a": "arn:aws"}}), "Condition.ArnLike.aws:a", "ARN"),
        (allow(Condition={"StringLike": {"prefix": "a"}}), "Condition.StringLike.prefix", "key"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    statement: dict[str, Any], element: str, word: str
) -> None:
    with pytest.raises(MalformedPolicy, match=word) as refused:
        parse_policy(document(deny(), statement))
    assert (refused.value.statement, refused.value.element) == (1, element)
    assert str(refused.value).startswith("Statement[1]")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "not JSON"),
        ("[]", "a JSON object"),
        ('{"Version": "2012-10-18", "Statement": []}', "2012-10-17"),
        ('{"Version": "2012-10-17"}', "a statement or a list"),
        ('{"Version": "2012-10-17", "Statement": []}', "a statement or a list"),
        ('{"Version": "2012-10-17", "Statement": [7]}', "must be an object"),
        ('{"Statement": {"Effect": "Deny", "Effect": "Allow"}}', "'Effect' stands twice"),
        ('{"Statement": NaN}', "NaN is not JSON"),
        ('{"Statement": ' + "[" * 5000 + "]" * 5000 + "}", "Statement|deep"),
        ('{"Statement": ' + "1" * 5000 + "}", "too many digits"),
        ('{"Extra": 1, "Statement": []}', "'Extra' is no element"),
        ('{"Id": 1, "Statement": []}', "Id: must be a string"),
    ],
)
def test_what_is_no_document_is_refused(text: str, word: str) -> None:
    with pytest.raises(MalformedPolicy, match=word):
        parse_policy(text, limits=Limits(size_max=20_000))


def test_broken_json_is_refused_with_line_and_column() -> None:
    with pytest.raises(MalformedPolicy) as refused:
        parse_policy('{"Version": "2012-10-17",\n "Statement" []}')
    assert (refused.value.line, refused.value.column) == (2, 14)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(MalformedPolicy, match="UTF-8"):
        parse_policy(b"\xff")


def test_sizes_count_bytes_for_buckets_and_no_white_space_for_others() -> None:
    padded = document(allow()) + " " * 7000
    assert parse_policy(padded)
    long = document(allow(resource=[f"arn:aws:s3:::box/{i:050}" for i in range(100)]))
    with pytest.raises(MalformedPolicy, match="at most 6144"):
        parse_policy(long)
    assert parse_policy(long, limits=Limits(size_max=10_000))
    theirs = document(allow(resource="arn:aws:s3:::box/*", Principal="*"))
    assert parse_bucket_policy(theirs, "box")
    with pytest.raises(MalformedPolicy, match="20500 bytes, at most 20480"):
        parse_bucket_policy(theirs.ljust(20_500), "box")


def test_more_wildcards_than_anybody_needs_are_refused() -> None:
    with pytest.raises(MalformedPolicy, match="more than 1000 wildcards"):
        parse_policy(document(allow(resource="arn:aws:s3:::box/" + "*a" * 1001)))


def test_two_statements_of_an_identity_policy_have_two_sids() -> None:
    with pytest.raises(MalformedPolicy, match=r"Statement\[1\].Sid: 'A'"):
        parse_policy(document(allow(Sid="A"), deny(Sid="A")))


@pytest.mark.parametrize(
    "principal",
    [
        "*",
        {"AWS": "*"},
        {"AWS": ["111111111111", "arn:aws:iam::111111111111:root"]},
        {"AWS": "arn:aws:iam::111111111111:user/staff/ann"},
        {"AWS": "arn:aws:sts::111111111111:assumed-role/job/now"},
        {"AWS": "arn:aws:iam::tenant:user/ann"},
        {"CanonicalUser": "79a59df9", "Federated": "https://op.example"},
    ],
)
def test_principals_that_are_ones(principal: Any) -> None:
    text = document(allow(resource="arn:aws:s3:::box/*", Principal=principal))
    assert parse_bucket_policy(text, "box").statements[0].principals


@pytest.mark.parametrize(
    "principal",
    [
        "ann",
        {},
        [],
        {"AWS": []},
        {"AWS": "ann"},
        {"AWS": "arn:aws:iam::111111111111:user/*"},
        {"AWS": "arn:aws:s3:::box"},
        {"AWS": "arn:aws:iam::111111111111:group/staff"},
        {"User": "ann"},
        {"Federated": "*"},
        {"CanonicalUser": ""},
    ],
)
def test_principals_that_are_none(principal: Any) -> None:
    with pytest.raises(MalformedPolicy, match="Principal"):
        parse_bucket_policy(
            document(allow(resource="arn:aws:s3:::box/*", Principal=principal)), "box"
        )


def test_not_principal_goes_with_deny_alone() -> None:
    place = {"resource": "arn:aws:s3:::box/*", "NotPrincipal": {"AWS": "111111111111"}}
    assert parse_bucket_policy(document(deny(**place)), "box").statements[0].not_principal
    with pytest.raises(MalformedPolicy, match="only goes with Effect Deny"):
        parse_bucket_policy(document(allow(**place)), "box")


@pytest.mark.parametrize(
    "resource",
    ["*", "arn:aws:s3:::box", "arn:aws:s3:::*", "arn:aws:s3:::b*/x", "arn:aws:s3:::box/"],
)
def test_a_bucket_policy_may_speak_of_its_bucket(resource: str) -> None:
    assert parse_bucket_policy(document(allow(resource=resource, Principal="*")), "box")


@pytest.mark.parametrize(
    "resource", ["arn:aws:s3:::box2", "arn:aws:s3:::box2/*", "arn:aws:s3:::c*", "arn:aws:sns:::box"]
)
def test_a_bucket_policy_may_not_speak_of_others(resource: str) -> None:
    with pytest.raises(MalformedPolicy, match="not within"):
        parse_bucket_policy(document(allow(resource=resource, Principal="*")), "box")


@pytest.mark.parametrize(
    ("action", "resource", "word"),
    [
        ("s3:GetObjekt", "arn:aws:s3:::box/*", "no action that is known"),
        ("ec2:*", "arn:aws:s3:::box/*", "no action that is known"),
        ("s3:GetObject", "arn:aws:s3:::box", "applies to any"),
        ("s3:ListBucket", "arn:aws:s3:::box/*", "applies to any"),
    ],
)
def test_a_bucket_policy_that_can_do_nothing_is_a_slip(
    action: str, resource: str, word: str
) -> None:
    with pytest.raises(MalformedPolicy, match=word):
        parse_bucket_policy(document(allow(action, resource, Principal="*")), "box")


def test_a_trust_policy_has_principals_and_no_resource() -> None:
    statement = {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"AWS": "111111111111"},
    }
    assert parse_policy(document(statement), PolicyKind.TRUST)
    with pytest.raises(MalformedPolicy, match="has no Resource"):
        parse_policy(document({**statement, "Resource": "*"}), PolicyKind.TRUST)
    with pytest.raises(MalformedPolicy, match="has no Principal"):
        parse_policy(document({"Effect": "Allow", "Action": "sts:*"}), PolicyKind.TRUST)


def test_conditions_may_ask_for_claims_as_aws_names_them() -> None:
    condition = {"StringEquals": {"op.example:8080/realms/a:aud": "twofold"}}
    (statement,) = parse_policy(document(allow(Condition=condition))).statements
    assert statement.conditions[0].key == "op.example:8080/realms/a:aud"


def test_a_policy_tells_whom_it_names() -> None:
    arns = ["arn:aws:iam::111111111111:user/bob", "arn:aws:iam::111111111111:role/a"]
    statement = allow(resource="*", Principal={"AWS": [*arns, "111111111111"]})
    assert list(parse_bucket_policy(document(statement), "box").principals()) == sorted(arns)


def test_canned_policies_are_documents_that_can_be_shown() -> None:
    assert set(DOCUMENTS) == {"readonly", "readwrite", "writeonly", "diagnostics", "consoleAdmin"}
    assert all(parse_policy(DOCUMENTS[name], name=name) == POLICIES[name] for name in DOCUMENTS)
