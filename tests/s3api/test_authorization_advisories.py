"""What went wrong in other servers, tried here: one test for each advisory about permission.

Each test has the advisory in its name, the others of its kind in its docstring. How many there are
is kept from falling.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace

import pytest

from s3api.credentials import Credential
from store.identity.records import User
from tests.s3api.conftest import ALICE, BOB
from tests.s3api.iamclients import client_of, refused
from tests.s3api.permissions import CALLS, Call, World
from tests.s3api.raw import exchange, send
from tests.s3api.test_forms import encode, policy, post, signed

_names = itertools.count(1)
ADVISORIES_MIN = 12
FORGED = replace(ALICE, secret_key="another-secret-than-alice's")


def grant(*actions, resource, effect="Allow", **more):
    return {"Effect": effect, "Action": list(actions), "Resource": resource, **more}


def document(*statements):
    return json.dumps({"Version": "2012-10-17", "Statement": statements})


@pytest.fixture(scope="module")
def world(endpoint):
    return World(endpoint)


@pytest.fixture
def user(endpoint):
    """Makes users of alice's account with a policy: their keys."""
    world = World(endpoint)
    identity, account = endpoint.namespace.identity, ALICE.account.id

    def make(text, **more):
        name = f"advised-{next(_names)}"
        world.do(identity.holders.create_user, account, name, tags={})
        world.do(identity.holders.put_inline, account, User, name, "its", text)
        made = world.do(identity.keys.create, account, name, **more)
        return Credential(access_key=made.key.id, secret_key=made.secret)

    return make


@pytest.mark.parametrize("kind", ["header", "presigned", "streaming", "streaming unsigned"])
def test_cve_2025_31489_a_wrong_secret_is_refused_by_every_operation(world, kind):
    """Also CVE-2026-40344, CVE-2026-41145: some handlers, or some kinds, were forgotten."""
    before = world.state()
    for name, call in CALLS.items():
        answer = world.send(call, FORGED, kind)
        assert answer.status == 403, name
        assert answer.code in ("SignatureDoesNotMatch", ""), name
    assert world.state() == before


def test_cve_2026_97731_what_was_not_signed_is_not_honoured(endpoint, world):
    """Also CVE-2026-71191: headers added to somebody's presigned request."""
    put = Call(method="PUT", target="/{b}/added", grants=(), body="x")
    added = {
        "x-amz-copy-source": f"/{world.bucket}/k",
        "x-amz-acl": "public-read",
        "x-amz-tagging": "a=b",
        "x-amz-meta-a": "b",
        "x-amz-bypass-governance-retention": "true",
    }
    for name, value in added.items():
        for kind in ("presigned", "header"):
            request = world.request(put, ALICE, kind, "")
            head, _, body = request.partition(b"\r\n\r\n")
            request = head + f"\r\n{name}: {value}\r\n\r\n".encode() + body
            answer = exchange(endpoint, request)
            assert (answer.status, answer.code) == (403, "AccessDenied"), (name, kind)


def test_cve_2020_11012_administration_needs_the_secret(endpoint):
    for service in ("iam", "sts"):
        client = client_of(endpoint, service, ALICE.access_key, FORGED.secret_key)
        call = client.list_users if service == "iam" else client.get_caller_identity
        refused("SignatureDoesNotMatch", call)


def test_cve_2023_28434_a_form_reaches_no_bucket_but_the_signed_one(endpoint, s3, bucket):
    """Also CVE-2023-43040."""
    s3.create_bucket(Bucket=f"{bucket}-other")
    fields = signed(policy(bucket))
    for more in ({}, {"bucket": bucket}, {"Bucket": f"{bucket}-other"}):
        answer = post(endpoint, f"{bucket}-other", {**fields, **more})
        assert (answer.status, answer.code) == (403, "AccessDenied")
    assert "Contents" not in s3.list_objects_v2(Bucket=f"{bucket}-other")


def test_cve_2021_21362_a_form_of_who_may_only_read_is_refused(endpoint, world, user):
    """Also GHSA-w5fh: what a form's policy allows is no permission."""
    reader = user(document(grant("s3:GetObject", "s3:ListBucket", resource="*")))
    text = encode(policy(world.bucket))
    fields = signed(text, reader.access_key, reader.secret_key)
    before = world.state()
    answer = post(endpoint, world.bucket, fields)
    assert (answer.status, answer.code) == (403, "AccessDenied")
    assert world.state() == before


def test_cve_2021_43858_a_key_is_never_more_than_its_user(world, user):
    """Also CVE-2022-24842, CVE-2024-24747, CVE-2025-62506: service accounts outgrew their users."""
    everything = document(grant("s3:*", "iam:*", resource="*"))
    key = user(document(grant("s3:GetObject", resource="*")), policy=everything)
    assert world.send(CALLS["GetObject"], key).status == 200
    for name in ("PutObject", "DeleteObject", "ListBuckets", "PutBucketPolicy"):
        assert world.send(CALLS[name], key).status == 403, name


def test_ghsa_5354_who_is_only_denied_something_is_allowed_nothing(world, user):
    """Also GHSA-566f, GHSA-xgr5."""
    key = user(document(grant("s3:DeleteObject", resource="*", effect="Deny")))
    for name, call in CALLS.items():
        answer = world.send(call, key)
        assert answer.status == 403 or b"<Code>AccessDenied</Code>" in answer.body, name


def test_cve_2023_25812_who_is_denied_the_bypass_does_not_bypass(endpoint, user):
    """Also GHSA-j548."""
    world = World(endpoint)
    everything = grant("s3:*", resource="*")
    denied = grant("s3:BypassGovernanceRetention", resource="*", effect="Deny")
    retained = world.send(CALLS["PutObjectRetention"], ALICE)
    assert retained.status == 200
    bypass = {"x-amz-bypass-governance-retention": "true"}
    removal = "<Delete><Object><Key>k</Key><VersionId>{v}</VersionId></Object></Delete>"
    one = replace(CALLS["DeleteObject of a version"], headers=bypass)
    many = replace(CALLS["DeleteObjects"], headers=bypass, body=removal)
    key = user(document(everything, denied))
    assert world.send(one, key).status == 403
    assert b"<Code>AccessDenied</Code>" in world.send(many, key).body
    assert world.send(CALLS["GetObject of a version"], ALICE).status == 200
    assert world.send(one, user(document(everything))).status == 204


@pytest.mark.parametrize("name", ["GetObject", "HeadObject", "GetObject of a version"])
@pytest.mark.parametrize("who", [BOB, None])
def test_cve_2024_36107_conditions_tell_nothing_to_who_may_not_read(world, name, who):
    for header, value in (
        ("if-none-match", "*"),
        ("if-match", '"no-such-etag"'),
        ("if-modified-since", "Fri, 01 Jan 2100 00:00:00 GMT"),
        ("range", "bytes=1000-"),
    ):
        answer = world.send(replace(CALLS[name], headers={header: value}), who)
        assert answer.status == 403
        assert not {"etag", "last-modified", "content-range", "x-amz-version-id"} & {
            *answer.headers
        }


def test_cve_2022_35919_dots_lead_nowhere_else(endpoint, user):
    """Also CVE-2026-42600, CVE-2026-54917, CVE-2026-58372, GHSA-8r6f: `..` in paths and bodies."""
    world = World(endpoint)
    mine = f"arn:aws:s3:::{world.bucket}/mine/*"
    key = user(document(grant("s3:*", resource=mine)))
    for path in ("mine/../k", "mine/%2e%2e/k", "mine/..%2fk", "mine%2f..%2fk", "mine//../../k"):
        put = Call(method="PUT", target="/{b}/" + path, grants=(), body="changed")
        assert world.send(put, key).status == 200, path
    # Names are bytes: each of these is a key that begins with mine/.
    assert world.send(CALLS["GetObject"], ALICE).body == b"x"
    for path in ("../k", "./k", "k/../mine/../k", "..%2fmine/k"):
        put = Call(method="PUT", target="/{b}/" + path, grants=(), body="changed")
        assert world.send(put, key).status == 403, path
    for name in ("../k", "k/../mine", "mine"):
        body = f"<Delete><Object><Key>{name}</Key></Object></Delete>"
        assert b"AccessDenied" in world.send(replace(CALLS["DeleteObjects"], body=body), key).body
    source = {"x-amz-copy-source": "/{b}/mine/../../{b}/k"}
    copy = replace(CALLS["CopyObject"], target="/{b}/mine/copy", headers=source)
    assert world.send(copy, key).status in (403, 404)


def test_cve_2026_39360_a_copy_needs_the_right_to_its_source_and_its_target(world, user):
    """Also GHSA-3ppv: and to the version that it names; Swift CVE-2015-5223."""
    here = f"arn:aws:s3:::{world.bucket}/"
    put = grant("s3:PutObject", resource=here + "*")
    read = grant("s3:GetObject", resource=here + "k")
    versioned = {"x-amz-copy-source": "/{b}/k?versionId={v}"}
    for name in ("CopyObject", "UploadPartCopy"):
        call = replace(CALLS[name], headers={**CALLS[name].headers})
        of_version = replace(CALLS[name], headers={**CALLS[name].headers, **versioned})
        for text in (document(put), document(read)):
            assert world.send(call, user(text)).status == 403, name
        both = user(document(put, read))
        assert world.send(call, both).status == 200, name
        assert world.send(of_version, both).status == 403, name
        reading = grant("s3:GetObjectVersion", resource=here + "k")
        assert world.send(of_version, user(document(put, reading))).status == 200, name


def test_cve_2026_21862_no_header_says_where_a_request_is_from(world, user):
    """Also GHSA-6r96: what a client may write is no condition key but where the key says so."""
    near = {"IpAddress": {"aws:SourceIp": "10.1.2.3/32"}}
    safe = {"Bool": {"aws:SecureTransport": "true"}}
    named = {"StringEquals": {"aws:username": "root"}}
    spoofed = {
        "x-forwarded-for": "10.1.2.3",
        "x-real-ip": "10.1.2.3",
        "forwarded": "for=10.1.2.3;proto=https",
        "x-forwarded-proto": "https",
        "aws:sourceip": "10.1.2.3",
        "username": "root",
        "aws-username": "root",
        "principaltype": "Account",
    }
    for condition in (near, safe, named):
        key = user(document(grant("s3:GetObject", resource="*", Condition=condition)))
        for name, value in spoofed.items():
            call = replace(CALLS["GetObject"], headers={name: value} if ":" not in name else {})
            assert world.send(call, key).status == 403, (condition, name)
            asked = replace(CALLS["GetObject"], target=f"/{{b}}/k?{name.replace(':', '%3A')}=x")
            assert world.send(asked, key).status == 403, (condition, name)


@pytest.mark.parametrize(
    ("operator", "given", "status"),
    [
        ("ForAllValues:StringEquals", "a=1&b=2", 200),
        ("ForAllValues:StringEquals", "a=1&c=3", 403),
        ("ForAnyValue:StringEquals", "a=1&c=3", 200),
        ("ForAnyValue:StringEquals", "c=3&d=4", 403),
    ],
)
def test_ghsa_v9cp_sets_of_values_are_compared_as_sets(endpoint, user, operator, given, status):
    world = World(endpoint)
    condition = {operator: {"s3:RequestObjectTagKeys": ["a", "b"]}}
    key = user(
        document(
            grant("s3:PutObject", resource="*"),
            grant("s3:PutObjectTagging", resource="*", Condition=condition),
        )
    )
    put = replace(CALLS["PutObject"], headers={"x-amz-tagging": given})
    assert world.send(put, key).status == status


def test_cve_2023_28432_nothing_is_told_to_whom_nobody_knows(endpoint):
    for method, target in (("GET", "/"), ("PUT", "/made-by-nobody"), ("GET", "/?policy")):
        answer = send(endpoint, method, target, sign=False)
        assert answer.status in (403, 501)
        for secret in (ALICE.secret_key, BOB.secret_key):
            assert secret.encode() not in answer.body


def test_the_advisories_become_no_fewer():
    found = [name for name in globals() if name.startswith(("test_cve_", "test_ghsa_"))]
    assert len(found) >= ADVISORIES_MIN, found
