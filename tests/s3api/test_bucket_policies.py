"""Bucket policies and public access blocks: what is kept, what is refused, and that it holds."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError

from s3api.credentials import Credential
from store.identity.names import entity_arn
from store.identity.records import Kind
from tests.s3api.conftest import ALICE, BOB, WEBSITE_DOMAIN
from tests.s3api.permissions import CALLS, Call, World, policy_of
from tests.s3api.raw import send
from tests.s3api.test_objects import code_of

GET, PUT, LIST = CALLS["GetObject"], CALLS["PutObject"], CALLS["ListObjectsV2"]


@pytest.fixture
def world(endpoint):
    return World(endpoint)


@pytest.fixture
def alice(endpoint):
    return endpoint.client(who=ALICE)


def let(world, *grants, principal="*", **more):
    """Put a policy that allows just these, as alice does it."""
    text = policy_of(world.bucket, grants, principal=principal, **more)
    world.endpoint.client(who=ALICE).put_bucket_policy(Bucket=world.bucket, Policy=text)


def statement(effect, action, resource, principal="*", **more):
    return {
        "Effect": effect,
        "Action": action,
        "Resource": resource,
        "Principal": principal,
        **more,
    }


def put(client, bucket, *statements, **more):
    text = json.dumps({"Version": "2012-10-17", "Statement": statements})
    client.put_bucket_policy(Bucket=bucket, Policy=text, **more)
    return text


def test_policy_is_given_back_as_it_was_put(alice, world):
    text = put(
        alice, world.bucket, statement("Deny", "s3:PutObject", f"arn:aws:s3:::{world.bucket}/x")
    )
    assert alice.get_bucket_policy(Bucket=world.bucket)["Policy"] == text
    status = alice.get_bucket_policy_status(Bucket=world.bucket)
    assert status["PolicyStatus"] == {"IsPublic": False}
    alice.delete_bucket_policy(Bucket=world.bucket)
    with pytest.raises(ClientError) as caught:
        alice.get_bucket_policy(Bucket=world.bucket)
    assert code_of(caught) == (404, "NoSuchBucketPolicy")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "no json",
        '{"Statement": []}',
        '{"Statement": [{"Effect": "Allow"}]}',
        '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject",'
        ' "Resource": "arn:aws:s3:::another-bucket/*"}}',
        " " * 20481,
        " " * 70000,
    ],
)
def test_what_is_no_policy_of_this_bucket_is_malformed(endpoint, alice, world, text):
    with pytest.raises(ClientError) as caught:
        alice.put_bucket_policy(Bucket=world.bucket, Policy=text)
    assert code_of(caught) == (400, "MalformedPolicy")


def test_policy_holds_from_the_moment_it_is_put_until_it_is_gone(alice, world):
    assert world.send(GET, BOB).status == 403
    let(world, ("s3:GetObject", "k"), principal={"AWS": BOB.account.number})
    assert world.send(GET, BOB).status == 200
    assert world.send(GET, None).status == 403
    let(world, ("s3:GetObject", "k"))
    assert world.send(GET, None).status == 200
    alice.delete_bucket_policy(Bucket=world.bucket)
    assert [world.send(GET, who).status for who in (BOB, None)] == [403, 403]


def test_policy_goes_with_its_bucket(alice, endpoint):
    alice.create_bucket(Bucket="anew")
    deny = statement("Deny", "s3:ListBucket", "arn:aws:s3:::anew")
    put(alice, "anew", deny)
    with pytest.raises(ClientError):
        alice.list_objects_v2(Bucket="anew")
    alice.delete_bucket(Bucket="anew")
    alice.create_bucket(Bucket="anew")
    alice.list_objects_v2(Bucket="anew")


def test_denial_holds_for_the_owner_and_for_the_servers_root(s3, alice, world):
    put(alice, world.bucket, statement("Deny", "s3:GetObject", f"arn:aws:s3:::{world.bucket}/k"))
    for client in (alice, s3):
        with pytest.raises(ClientError) as caught:
            client.get_object(Bucket=world.bucket, Key="k")
        assert code_of(caught) == (403, "AccessDenied")
    assert world.send(PUT, ALICE).status == 200


def test_owner_is_never_locked_out_unless_it_said_so(alice, world):
    everything = [f"arn:aws:s3:::{world.bucket}", f"arn:aws:s3:::{world.bucket}/*"]
    put(alice, world.bucket, statement("Deny", "s3:*", everything))
    assert world.send(LIST, ALICE).status == 403
    alice.get_bucket_policy(Bucket=world.bucket)
    put(
        alice,
        world.bucket,
        statement("Deny", "s3:*", everything),
        ConfirmRemoveSelfBucketAccess=True,
    )
    for call in (alice.get_bucket_policy, alice.delete_bucket_policy):
        with pytest.raises(ClientError) as caught:
            call(Bucket=world.bucket)
        assert code_of(caught) == (403, "AccessDenied")


def test_who_may_not_list_is_not_told_what_is_there(world):
    let(world, ("s3:GetObject", "*"))
    absent = replace(GET, target="/{b}/absent")
    for call in (
        absent,
        replace(absent, method="HEAD"),
        replace(GET, target="/{b}/absent?tagging"),
    ):
        assert world.send(call, None).status == 403
    let(world, ("s3:GetObject", "*"), ("s3:ListBucket", ""))
    assert world.send(absent, None).status == 404
    assert world.send(absent, ALICE).status == 404


# Condition, then a request that fits and one that doesn't.
CONDITIONS = [
    ({"StringEquals": {"s3:ExistingObjectTag/t": "1"}}, {}, None),
    ({"StringEquals": {"s3:ExistingObjectTag/t": "2"}}, None, {}),
    ({"StringEquals": {"aws:UserAgent": "me"}}, {"user-agent": "me"}, {"user-agent": "you"}),
    ({"StringLike": {"aws:Referer": "http://a/*"}}, {"referer": "http://a/b"}, {}),
    ({"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}, {}, None),
    ({"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}, None, {}),
    ({"Bool": {"aws:SecureTransport": "false"}}, {}, None),
    ({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, {}, None),
    ({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}, None, {}),
    ({"StringEquals": {"aws:PrincipalType": "Account"}}, {}, None),
    ({"StringEquals": {"aws:PrincipalAccount": BOB.account.number}}, {}, None),
    ({"StringEquals": {"s3:authType": "REST-HEADER"}}, {}, None),
    ({"StringEquals": {"s3:authType": "REST-QUERY-STRING"}}, None, {}),
    ({"StringEquals": {"s3:signatureversion": "AWS4-HMAC-SHA256"}}, {}, None),
    ({"NumericLessThan": {"s3:signatureAge": "600000"}}, {}, None),
    ({"StringEquals": {"s3:x-amz-content-sha256": "UNSIGNED-PAYLOAD"}}, None, {}),
    ({"StringEquals": {"s3:if-match": '"e"'}}, None, {}),
    ({"Null": {"aws:username": "true"}}, {}, None),
]


@pytest.mark.parametrize(("condition", "fits", "not_"), CONDITIONS)
def test_conditions_on_a_read(world, condition, fits, not_):
    let(world, ("s3:GetObject", "k"), Condition=condition)
    if fits is not None:
        assert world.send(replace(GET, headers=fits), BOB).status == 200
    if not_ is not None:
        assert world.send(replace(GET, headers=not_), BOB).status == 403


@pytest.mark.parametrize(
    ("condition", "fits", "not_"),
    [
        ({"StringEquals": {"s3:prefix": "a/"}}, "prefix=a/", "prefix=b/"),
        ({"StringEquals": {"s3:prefix": ""}}, "prefix=", ""),
        ({"StringEquals": {"s3:delimiter": "/"}}, "delimiter=/", ""),
        ({"NumericLessThanEquals": {"s3:max-keys": "10"}}, "max-keys=10", "max-keys=11"),
    ],
)
def test_conditions_on_a_listing(world, condition, fits, not_):
    let(world, ("s3:ListBucket", ""), Condition=condition)
    for query, status in ((fits, 200), (not_, 403)):
        call = Call(method="GET", target="/{b}?list-type=2&" + query, grants=())
        assert world.send(call, BOB).status == status


@pytest.mark.parametrize(
    ("condition", "fits", "not_"),
    [
        (
            {"StringEquals": {"s3:RequestObjectTag/t": "1"}},
            {"x-amz-tagging": "t=1"},
            {"x-amz-tagging": "t=2"},
        ),
        (
            {"ForAllValues:StringEquals": {"s3:RequestObjectTagKeys": ["t"]}},
            {"x-amz-tagging": "t=1"},
            {"x-amz-tagging": "t=1&u=2"},
        ),
        ({"StringEquals": {"s3:if-none-match": "*"}}, {"if-none-match": "*"}, {}),
        ({"Null": {"s3:x-amz-acl": "true"}}, {}, {"x-amz-acl": "bucket-owner-full-control"}),
        (
            {"StringEquals": {"s3:x-amz-website-redirect-location": "/a"}},
            {"x-amz-website-redirect-location": "/a"},
            {"x-amz-website-redirect-location": "/b"},
        ),
    ],
)
def test_conditions_on_an_upload(world, condition, fits, not_):
    grants = (("s3:PutObject", "new"), ("s3:PutObjectTagging", "new"))
    let(world, *grants, Condition=condition)
    call = replace(PUT, target="/{b}/new")
    assert world.send(replace(call, headers=not_), BOB).status == 403
    assert world.send(replace(call, headers=fits), BOB).status == 200


def test_condition_on_the_version_that_is_asked_for(world):
    let(
        world,
        ("s3:GetObjectVersion", "k"),
        Condition={"StringEquals": {"s3:VersionId": world.versions[""]}},
    )
    assert world.send(CALLS["GetObject of a version"], BOB).status == 200
    other = replace(GET, target="/{b}/k?versionId=null")
    assert world.send(other, BOB).status == 403


def test_condition_on_tags_and_locks_that_a_body_names(world):
    tagging = {"StringEquals": {"s3:RequestObjectTag/t": "1"}}
    let(world, ("s3:PutObjectTagging", "k"), Condition=tagging)
    assert world.send(CALLS["PutObjectTagging"], BOB).status == 200
    let(world, ("s3:PutObjectTagging", "k"), Condition={"Null": {"s3:RequestObjectTag/t": "true"}})
    assert world.send(CALLS["PutObjectTagging"], BOB).status == 403
    days = "s3:object-lock-remaining-retention-days"
    for bound, status in (("5", 403), ("10", 200)):
        let(
            world,
            ("s3:PutObjectRetention", "k"),
            Condition={"NumericLessThanEquals": {days: bound}},
        )
        assert world.send(CALLS["PutObjectRetention"], BOB).status == status
    let(
        world,
        ("s3:PutObjectLegalHold", "k"),
        Condition={"StringEquals": {"s3:object-lock-legal-hold": "OFF"}},
    )
    assert world.send(CALLS["PutObjectLegalHold"], BOB).status == 403


def test_condition_on_the_source_of_a_copy_sees_through_its_spelling(world):
    here = f"arn:aws:s3:::{world.bucket}/*"
    source = {"StringLike": {"s3:x-amz-copy-source": f"*{world.bucket}/secret/*"}}
    put(
        world.endpoint.client(who=ALICE),
        world.bucket,
        statement("Allow", ["s3:GetObject", "s3:PutObject"], here),
        statement("Deny", "s3:PutObject", here, Condition=source),
    )
    world.send(replace(PUT, target="/{b}/secret/k"), ALICE)
    for name, status in (("k", 200), ("secret/k", 403), ("secret%2Fk", 403), ("s%65cret/k", 403)):
        headers = {
            "x-amz-copy-source": f"/{world.bucket}/{name}",
            "x-amz-tagging-directive": "REPLACE",
        }
        assert world.send(replace(CALLS["CopyObject"], headers=headers), BOB).status == status


def test_lock_headers_are_shown_to_who_may_see_the_lock(world):
    world.send(CALLS["PutObjectRetention"], ALICE)
    world.send(CALLS["PutObjectLegalHold"], ALICE)
    mode, hold = "x-amz-object-lock-mode", "x-amz-object-lock-legal-hold"
    seen = {
        (): set(),
        ("s3:GetObjectRetention",): {mode},
        ("s3:GetObjectLegalHold",): {hold},
        ("s3:GetObjectRetention", "s3:GetObjectLegalHold"): {mode, hold},
    }
    for further, shown in seen.items():
        let(world, ("s3:GetObject", "k"), *((action, "k") for action in further))
        for name in ("GetObject", "HeadObject"):
            answer = world.send(CALLS[name], BOB)
            assert answer.status == 200
            assert {mode, hold} & {*answer.headers} == shown


def test_tags_are_counted_to_who_may_read_them(world):
    let(world, ("s3:GetObject", "k"))
    assert "x-amz-tagging-count" not in world.send(GET, BOB).headers
    let(world, ("s3:GetObject", "k"), ("s3:GetObjectTagging", "k"))
    assert world.send(GET, BOB).headers["x-amz-tagging-count"] == "1"
    assert world.send(GET, ALICE).headers["x-amz-tagging-count"] == "1"


def test_tags_are_copied_by_who_may_read_and_write_them(world):
    copy = replace(CALLS["CopyObject"], headers={"x-amz-copy-source": "/{b}/k"})
    grants = [("s3:GetObject", "k"), ("s3:PutObject", "new")]
    further = [("s3:GetObjectTagging", "k"), ("s3:PutObjectTagging", "new")]
    for more in ([], further[:1], further[1:]):
        let(world, *grants, *more)
        assert world.send(copy, BOB).status == 403
    let(world, *grants, *further)
    assert world.send(copy, BOB).status == 200


def test_what_a_policy_denies_is_on_no_website(endpoint, alice, world):
    website = {"IndexDocument": {"Suffix": "k"}}
    alice.put_bucket_website(Bucket=world.bucket, WebsiteConfiguration=website)
    host = f"{world.bucket}.{WEBSITE_DOMAIN}"
    allowed = statement("Allow", "s3:GetObject", f"arn:aws:s3:::{world.bucket}/*")
    put(alice, world.bucket, allowed)
    assert send(endpoint, "GET", "/k", sign=False, host=host).body == b"x"
    denied = statement("Deny", "s3:GetObject", f"arn:aws:s3:::{world.bucket}/k")
    put(alice, world.bucket, allowed, denied)
    for path in ("/k", "/"):
        assert send(endpoint, "GET", path, sign=False, host=host).status == 403


# -- the public access block -----------------------------------------------------------------


def test_a_new_bucket_can_not_be_made_public_before_that_is_allowed(alice, world):
    bucket = f"{world.bucket}-new"
    alice.create_bucket(Bucket=bucket)
    public = statement("Allow", "s3:GetObject", f"arn:aws:s3:::{bucket}/*")
    with pytest.raises(ClientError) as caught:
        put(alice, bucket, public)
    assert code_of(caught) == (403, "AccessDenied")
    put(alice, bucket, {**public, "Principal": {"AWS": BOB.account.number}})
    alice.delete_public_access_block(Bucket=bucket)
    with pytest.raises(ClientError) as caught:
        alice.get_public_access_block(Bucket=bucket)
    assert code_of(caught) == (404, "NoSuchPublicAccessBlockConfiguration")
    put(alice, bucket, public)
    assert alice.get_bucket_policy_status(Bucket=bucket)["PolicyStatus"]["IsPublic"]


def test_a_canonical_id_names_an_account_as_its_number_does(endpoint, alice, world):
    grant = ("s3:GetObject", "k")
    hers = world.do(
        endpoint.namespace.identity.holders.create_user, ALICE.account.id, "canon", tags={}
    )
    made = world.do(endpoint.namespace.identity.keys.create, ALICE.account.id, "canon")
    key = Credential(access_key=made.key.id, secret_key=made.secret)
    let(world, grant, principal={"CanonicalUser": BOB.account.id})
    assert world.send(GET, BOB).status == 200
    assert world.send(GET, key).status == 403
    # To the account itself: what its users may do is for their own policies to say.
    let(world, grant, principal={"CanonicalUser": ALICE.account.id})
    assert world.send(GET, key).status == 403
    assert world.send(GET, BOB).status == 403
    arn = entity_arn(ALICE.account.id, Kind.USER, hers.name)
    let(world, grant, principal={"AWS": arn})
    assert world.send(GET, key).status == 200


def test_restricted_public_policy_lets_nobody_in_from_outside(alice, world):
    let(world, ("s3:GetObject", "k"))
    assert [world.send(GET, who).status for who in (ALICE, BOB, None)] == [200, 200, 200]
    alice.put_public_access_block(
        Bucket=world.bucket, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True}
    )
    assert [world.send(GET, who).status for who in (ALICE, BOB, None)] == [200, 403, 403]


def test_switches_are_given_back_as_they_were_put(alice, world):
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    for number in range(16):
        block = {name: bool(number >> index & 1) for index, name in enumerate(names)}
        alice.put_public_access_block(Bucket=world.bucket, PublicAccessBlockConfiguration=block)
        found = alice.get_public_access_block(Bucket=world.bucket)
        assert found["PublicAccessBlockConfiguration"] == block


def test_a_switch_is_true_or_false(endpoint, bucket):
    body = (
        b"<PublicAccessBlockConfiguration><BlockPublicAcls>maybe</BlockPublicAcls>"
        b"</PublicAccessBlockConfiguration>"
    )
    answer = send(endpoint, "PUT", f"/{bucket}?publicAccessBlock", body=body)
    assert (answer.status, answer.code) == (400, "MalformedXML")
