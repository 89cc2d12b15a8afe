"""IAM as boto3 speaks it: users, keys, groups, policies, roles, and who may do all that."""

from __future__ import annotations

import itertools
import json
from typing import Any

import botocore.session
import pytest

from s3api.iam import table
from s3api.iam.refusals import QueryRefusal, query_failure
from s3api.refusals import InvalidAccessKeyId
from store.access.errors import MalformedPolicy, TokenRefused
from store.errors import NoSpace
from store.identity.errors import IdentityError
from store.identity.sessions import TokenTooLarge
from tests.s3api.conftest import ALICE, Endpoint
from tests.s3api.iamclients import client_of, client_with, document, fresh, refused

CANNED = "arn:aws:iam::aws:policy"


@pytest.fixture(scope="module")
def iam(endpoint: Endpoint) -> Any:
    return client_of(endpoint, "iam")


@pytest.fixture
def user(iam: Any) -> str:
    name = fresh("user")
    iam.create_user(UserName=name)
    return name


@pytest.fixture
def user_iam(endpoint: Endpoint, iam: Any, user: str) -> Any:
    return client_with(endpoint, "iam", key_of(iam, user))


def key_of(iam: Any, user: str) -> dict[str, Any]:
    key: dict[str, Any] = iam.create_access_key(UserName=user)["AccessKey"]
    return key


def test_a_user_is_created_shown_renamed_and_deleted(iam: Any) -> None:
    name = fresh("user")
    tags = [{"Key": "team", "Value": "red + blue"}]
    made = iam.create_user(UserName=name, Path="/staff/", Tags=tags)["User"]
    assert made["Arn"].endswith(f":user/staff/{name}") and made["UserId"].startswith("AIDA")
    got = iam.get_user(UserName=name)["User"]
    assert got == made and got["Tags"] == tags
    iam.update_user(UserName=name, NewUserName=f"{name}-b", NewPath="/")
    refused("NoSuchEntity", iam.get_user, UserName=name)
    assert iam.get_user(UserName=f"{name}-b")["User"]["UserId"] == made["UserId"]
    iam.tag_user(UserName=f"{name}-b", Tags=[{"Key": "a", "Value": ""}])
    iam.untag_user(UserName=f"{name}-b", TagKeys=["team"])
    assert iam.list_user_tags(UserName=f"{name}-b")["Tags"] == [{"Key": "a", "Value": ""}]
    iam.delete_user(UserName=f"{name}-b")
    refused("NoSuchEntity", iam.delete_user, UserName=f"{name}-b")


def test_names_are_unique_whatever_their_case(iam: Any, user: str) -> None:
    refused("EntityAlreadyExists", iam.create_user, UserName=user.upper())
    refused("ValidationError", iam.create_user, UserName="no spaces here")
    refused("ValidationError", iam.create_user, UserName="fine", Path="nolead/")


def test_listings_come_in_pages_and_by_path(iam: Any) -> None:
    prefix = f"/{fresh('paged')}/"
    names = [fresh("paged") for _ in range(5)]
    for name in names:
        iam.create_user(UserName=name, Path=prefix)
    pages = iam.get_paginator("list_users").paginate(
        PathPrefix=prefix, PaginationConfig={"PageSize": 2}
    )
    shown = [[each["UserName"] for each in page["Users"]] for page in pages]
    assert [len(page) for page in shown] == [2, 2, 1]
    assert sorted(itertools.chain.from_iterable(shown)) == sorted(names)


def test_keys_are_shown_once_and_can_be_disabled(iam: Any, user: str) -> None:
    key = key_of(iam, user)
    assert key["Status"] == "Active" and len(key["SecretAccessKey"]) == 40
    [listed] = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    assert listed["AccessKeyId"] == key["AccessKeyId"] and "SecretAccessKey" not in listed
    iam.update_access_key(UserName=user, AccessKeyId=key["AccessKeyId"], Status="Inactive")
    [listed] = iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
    assert listed["Status"] == "Inactive"
    refused("DeleteConflict", iam.delete_user, UserName=user)
    iam.delete_access_key(UserName=user, AccessKeyId=key["AccessKeyId"])
    iam.delete_user(UserName=user)


def test_a_key_of_another_user_is_not_found(iam: Any, user: str) -> None:
    key = key_of(iam, user)["AccessKeyId"]
    other = fresh("user")
    iam.create_user(UserName=other)
    refused("NoSuchEntity", iam.delete_access_key, UserName=other, AccessKeyId=key)


def test_last_use_is_known(endpoint: Endpoint, iam: Any, user: str) -> None:
    key = key_of(iam, user)
    used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
    assert used["UserName"] == user and used["AccessKeyLastUsed"]["ServiceName"] == "N/A"
    client_with(endpoint, "sts", key).get_caller_identity()
    used = iam.get_access_key_last_used(AccessKeyId=key["AccessKeyId"])
    assert used["AccessKeyLastUsed"]["ServiceName"] == "sts"


def test_groups_have_members_and_policies(endpoint: Endpoint, iam: Any, user: str) -> None:
    group = fresh("group")
    iam.create_group(GroupName=group)
    iam.add_user_to_group(GroupName=group, UserName=user)
    assert [each["UserName"] for each in iam.get_group(GroupName=group)["Users"]] == [user]
    [listed] = iam.list_groups_for_user(UserName=user)["Groups"]
    assert listed["GroupName"] == group
    s3 = client_with(endpoint, "s3", key_of(iam, user))
    refused("AccessDenied", s3.list_buckets)
    iam.put_group_policy(
        GroupName=group, PolicyName="list", PolicyDocument=document("s3:ListAllMyBuckets")
    )
    s3.list_buckets()
    refused("DeleteConflict", iam.delete_group, GroupName=group)
    iam.remove_user_from_group(GroupName=group, UserName=user)
    refused("AccessDenied", s3.list_buckets)
    iam.delete_group_policy(GroupName=group, PolicyName="list")
    iam.update_group(GroupName=group, NewGroupName=f"{group}-b")
    iam.delete_group(GroupName=f"{group}-b")


@pytest.mark.parametrize("made", ["User", "Group", "Role"])
def test_inline_policies_of_users_groups_and_roles(iam: Any, made: str) -> None:
    name = create(iam, made)
    lower = made.lower()
    put, get = getattr(iam, f"put_{lower}_policy"), getattr(iam, f"get_{lower}_policy")
    named = {f"{made}Name": name, "PolicyName": "one"}
    text = document("s3:Get*", "arn:aws:s3:::b/${aws:username}/ü+%20*")
    put(**named, PolicyDocument=text)
    assert get(**named)["PolicyDocument"] == json.loads(text)
    listed = getattr(iam, f"list_{lower}_policies")(**{f"{made}Name": name})
    assert listed["PolicyNames"] == ["one"]
    refused("MalformedPolicyDocument", put, **named, PolicyDocument='{"Statement": 1}')
    getattr(iam, f"delete_{lower}_policy")(**named)
    refused("NoSuchEntity", get, **named)


@pytest.mark.parametrize("made", ["User", "Group", "Role"])
def test_attached_policies_of_users_groups_and_roles(iam: Any, made: str) -> None:
    name = create(iam, made)
    lower, whose = made.lower(), {f"{made}Name": name}
    arn = iam.create_policy(PolicyName=fresh("policy"), PolicyDocument=document())["Policy"]["Arn"]
    attach, detach = getattr(iam, f"attach_{lower}_policy"), getattr(iam, f"detach_{lower}_policy")
    attach(**whose, PolicyArn=arn)
    attach(**whose, PolicyArn=f"{CANNED}/readonly")
    attached = getattr(iam, f"list_attached_{lower}_policies")(**whose)["AttachedPolicies"]
    assert {each["PolicyArn"] for each in attached} == {arn, f"{CANNED}/readonly"}
    assert iam.get_policy(PolicyArn=arn)["Policy"]["AttachmentCount"] == 1
    [entity] = iam.list_entities_for_policy(PolicyArn=arn)[f"Policy{made}s"]
    assert entity[f"{made}Name"] == name
    refused("DeleteConflict", iam.delete_policy, PolicyArn=arn)
    refused("NoSuchEntity", attach, **whose, PolicyArn=f"{CANNED}/nothing")
    detach(**whose, PolicyArn=arn)
    refused("NoSuchEntity", detach, **whose, PolicyArn=arn)
    iam.delete_policy(PolicyArn=arn)


def create(iam: Any, made: str) -> str:
    name = fresh(made.lower())
    if made == "Role":
        trust = document("sts:AssumeRole", None, Principal={"AWS": "*"})
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust)
    else:
        getattr(iam, f"create_{made.lower()}")(**{f"{made}Name": name})
    return name


def test_versions_of_a_policy(iam: Any) -> None:
    name = fresh("policy")
    one, two = document("s3:GetObject"), document("s3:PutObject")
    arn = iam.create_policy(PolicyName=name, PolicyDocument=one, Description="d")["Policy"]["Arn"]
    refused("EntityAlreadyExists", iam.create_policy, PolicyName=name, PolicyDocument=one)
    version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=two, SetAsDefault=True)
    assert version["PolicyVersion"]["VersionId"] == "v2"
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v2"
    got = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert got["Document"] == json.loads(one) and not got["IsDefaultVersion"]
    refused("DeleteConflict", iam.delete_policy, PolicyArn=arn)
    refused("DeleteConflict", iam.delete_policy_version, PolicyArn=arn, VersionId="v2")
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v1")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v2")
    shown = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert [each["VersionId"] for each in shown] == ["v1"]
    for _ in range(4):
        iam.create_policy_version(PolicyArn=arn, PolicyDocument=two)
    refused("LimitExceeded", iam.create_policy_version, PolicyArn=arn, PolicyDocument=two)


def test_canned_policies_are_listed_and_stay(iam: Any) -> None:
    listed = iam.list_policies(Scope="AWS")["Policies"]
    assert {"readonly", "readwrite", "writeonly", "diagnostics", "consoleAdmin"} <= {
        each["PolicyName"] for each in listed
    }
    refused("UnmodifiableEntity", iam.delete_policy, PolicyArn=f"{CANNED}/readonly")


def test_a_boundary_narrows(endpoint: Endpoint, iam: Any, user: str) -> None:
    iam.attach_user_policy(UserName=user, PolicyArn=f"{CANNED}/readwrite")
    s3 = client_with(endpoint, "s3", key_of(iam, user))
    s3.list_buckets()
    iam.put_user_permissions_boundary(UserName=user, PermissionsBoundary=f"{CANNED}/writeonly")
    refused("AccessDenied", s3.list_buckets)
    shown = iam.get_user(UserName=user)["User"]["PermissionsBoundary"]
    assert shown["PermissionsBoundaryArn"] == f"{CANNED}/writeonly"
    iam.delete_user_permissions_boundary(UserName=user)
    s3.list_buckets()


def test_roles(iam: Any) -> None:
    name = fresh("role")
    trust = document("sts:AssumeRole", None, Principal={"AWS": "*"})
    made = iam.create_role(
        RoleName=name,
        AssumeRolePolicyDocument=trust,
        Description="what for",
        MaxSessionDuration=7200,
        Tags=[{"Key": "k", "Value": "v"}],
    )["Role"]
    assert made["AssumeRolePolicyDocument"] == json.loads(trust)
    assert iam.get_role(RoleName=name)["Role"] == made
    assert name in [each["RoleName"] for each in iam.list_roles()["Roles"]]
    other = document("sts:AssumeRole", None, Principal={"AWS": "123456789012"})
    iam.update_assume_role_policy(RoleName=name, PolicyDocument=other)
    iam.update_role(RoleName=name, Description="else", MaxSessionDuration=3600)
    got = iam.get_role(RoleName=name)["Role"]
    assert got["AssumeRolePolicyDocument"] == json.loads(other) and got["Description"] == "else"
    assert got["MaxSessionDuration"] == 3600
    refused("ValidationError", iam.update_role, RoleName=name, MaxSessionDuration=3599 + 43200)
    bad = document("sts:AssumeRole", "*", Principal={"AWS": "*"})
    refused(
        "MalformedPolicyDocument", iam.update_assume_role_policy, RoleName=name, PolicyDocument=bad
    )
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document())
    refused("DeleteConflict", iam.delete_role, RoleName=name)
    iam.delete_role_policy(RoleName=name, PolicyName="p")
    iam.delete_role(RoleName=name)


def test_providers(iam: Any) -> None:
    url = f"https://{fresh('idp')}.example.com/realm"
    arn = iam.create_open_id_connect_provider(
        Url=url, ClientIDList=["one"], ThumbprintList=["a" * 40]
    )["OpenIDConnectProviderArn"]
    assert arn.endswith(f":oidc-provider/{url.removeprefix('https://')}")
    iam.add_client_id_to_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="two")
    got = iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    assert got["ClientIDList"] == ["one", "two"] and got["Url"] == url
    iam.tag_open_id_connect_provider(
        OpenIDConnectProviderArn=arn, Tags=[{"Key": "policy-claim", "Value": "policy"}]
    )
    iam.remove_client_id_from_open_id_connect_provider(OpenIDConnectProviderArn=arn, ClientID="one")
    listed = iam.list_open_id_connect_providers()["OpenIDConnectProviderList"]
    assert {"Arn": arn} in listed
    refused("EntityAlreadyExists", iam.create_open_id_connect_provider, Url=url)
    iam.delete_open_id_connect_provider(OpenIDConnectProviderArn=arn)
    refused("NoSuchEntity", iam.get_open_id_connect_provider, OpenIDConnectProviderArn=arn)
    refused(
        "ValidationError", iam.create_open_id_connect_provider, Url="https://idp.example.com/?a=b"
    )


def test_the_summary_counts(iam: Any, user: str) -> None:
    summary = iam.get_account_summary()["SummaryMap"]
    assert summary["Users"] >= 1 and summary["UsersQuota"] == 5000


def test_a_simulation_says_why(iam: Any, user: str) -> None:
    iam.put_user_policy(
        UserName=user,
        PolicyName="own",
        PolicyDocument=document("s3:GetObject", "arn:aws:s3:::b/${aws:username}/*"),
    )
    arn = iam.get_user(UserName=user)["User"]["Arn"]
    own, others = f"arn:aws:s3:::b/{user}/x", "arn:aws:s3:::b/other/x"
    results = iam.simulate_principal_policy(
        PolicySourceArn=arn, ActionNames=["s3:GetObject"], ResourceArns=[own, others]
    )["EvaluationResults"]
    assert [each["EvalDecision"] for each in results] == ["allowed", "implicitDeny"]
    assert results[0]["MatchedStatements"][0]["SourcePolicyId"] == "own"
    [custom] = iam.simulate_custom_policy(
        PolicyInputList=[document("s3:*", "*", "Deny")], ActionNames=["s3:GetObject"]
    )["EvaluationResults"]
    assert custom["EvalDecision"] == "explicitDeny"


# -- who may ----------------------------------------------------------------------------


def test_a_user_may_only_what_policies_say(user: str, user_iam: Any, iam: Any) -> None:
    refused("AccessDenied", user_iam.get_user)
    refused("AccessDenied", user_iam.create_access_key)
    own = "arn:aws:iam::*:user/${aws:username}"
    iam.put_user_policy(
        UserName=user,
        PolicyName="self",
        PolicyDocument=document(["iam:GetUser", "iam:*AccessKey*"], own),
    )
    assert user_iam.get_user()["User"]["UserName"] == user
    key = user_iam.create_access_key()["AccessKey"]
    assert key["UserName"] == user
    assert len(user_iam.list_access_keys()["AccessKeyMetadata"]) == 2
    user_iam.delete_access_key(AccessKeyId=key["AccessKeyId"])
    refused("AccessDenied", user_iam.get_user, UserName="another")
    refused("AccessDenied", user_iam.create_user, UserName=fresh("user"))
    refused("AccessDenied", user_iam.list_users)


def test_nobody_gives_themselves_more(user: str, user_iam: Any, iam: Any) -> None:
    arguments = {"UserName": user, "PolicyName": "p", "PolicyDocument": document("*")}
    refused("AccessDenied", user_iam.put_user_policy, **arguments)
    refused(
        "AccessDenied",
        user_iam.attach_user_policy,
        UserName=user,
        PolicyArn=f"{CANNED}/consoleAdmin",
    )
    iam.attach_user_policy(UserName=user, PolicyArn=f"{CANNED}/consoleAdmin")
    user_iam.create_user(UserName=fresh("user"))


def test_accounts_do_not_see_each_other(endpoint: Endpoint, iam: Any, user: str) -> None:
    theirs = client_of(endpoint, "iam", ALICE.access_key, ALICE.secret_key)
    refused("NoSuchEntity", theirs.get_user, UserName=user)
    theirs.create_user(UserName=user)
    assert (
        theirs.get_user(UserName=user)["User"]["Arn"] != iam.get_user(UserName=user)["User"]["Arn"]
    )
    s3 = client_with(endpoint, "s3", key_of(theirs, user))
    theirs.attach_user_policy(UserName=user, PolicyArn=f"{CANNED}/readwrite")
    name = fresh("of-alice")
    s3.create_bucket(Bucket=name)
    owner = client_of(endpoint, "s3", ALICE.access_key, ALICE.secret_key)
    assert name in [each["Name"] for each in owner.list_buckets()["Buckets"]]


@pytest.fixture
def root_bucket(endpoint: Endpoint) -> str:
    name = fresh("roots")
    client_of(endpoint, "s3").create_bucket(Bucket=name)
    return name


def test_a_users_folder_is_all_it_reaches(
    endpoint: Endpoint, iam: Any, user: str, root_bucket: str
) -> None:
    iam.put_user_policy(
        UserName=user,
        PolicyName="folder",
        PolicyDocument=document("s3:*Object", f"arn:aws:s3:::{root_bucket}/${{aws:username}}/*"),
    )
    s3 = client_with(endpoint, "s3", key_of(iam, user))
    s3.put_object(Bucket=root_bucket, Key=f"{user}/x", Body=b"1")
    assert s3.get_object(Bucket=root_bucket, Key=f"{user}/x")["Body"].read() == b"1"
    refused("AccessDenied", s3.put_object, Bucket=root_bucket, Key="other/x", Body=b"1")
    refused("AccessDenied", s3.list_objects_v2, Bucket=root_bucket)


# -- the protocol -----------------------------------------------------------------------


def test_keys_that_do_not_exist_or_sign_wrongly(endpoint: Endpoint, iam: Any, user: str) -> None:
    bogus = client_of(endpoint, "iam", "AKIANOTHERE", "whatever")
    refused("InvalidClientTokenId", bogus.get_user)
    key = key_of(iam, user)
    wrong = client_of(endpoint, "iam", key["AccessKeyId"], "not-the-secret")
    refused("SignatureDoesNotMatch", wrong.get_user)


def test_every_action_is_one_of_botocores_models() -> None:
    session = botocore.session.get_session()
    for service, actions in (("iam", table.IAM), ("sts", table.STS)):
        known = set(session.get_service_model(service).operation_names)
        assert set(actions) <= known, set(actions) - known


def leaves(of: type[Any]) -> set[type[Any]]:
    """The classes below that have none below them."""
    return {of} if not of.__subclasses__() else set().union(*map(leaves, of.__subclasses__()))


def test_every_refusal_has_a_code_and_a_sentence() -> None:
    made: list[Exception] = [each() for each in leaves(QueryRefusal)]
    made += [each("A sentence.") for each in leaves(IdentityError)]
    made += [MalformedPolicy("no policy"), TokenTooLarge(), InvalidAccessKeyId(), NoSpace()]
    made += [TokenRefused(reason, "no.") for reason in ("expired", "audience", "unavailable", "x")]
    for error in made:
        failure = query_failure(error)
        assert failure is not None, error
        assert failure.code and failure.message and 400 <= failure.status < 600, error
    assert query_failure(KeyError("ours")) is None
