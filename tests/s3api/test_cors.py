"""CORS: rules that are kept, preflights, and headers on the answers that browsers get."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from s3api.cors import Rule, decode_rules, find_rule, parse_rules
from s3api.errors import InvalidRequest, MalformedXML
from tests.s3api.raw import presigned, send
from tests.s3api.test_objects import code_of

RULES = [
    {
        "ID": "app",
        "AllowedMethods": ["GET", "PUT"],
        "AllowedOrigins": ["https://*.example.com", "http://localhost"],
        "AllowedHeaders": ["Content-*", "x-amz-date"],
        "ExposeHeaders": ["ETag", "x-amz-version-id"],
        "MaxAgeSeconds": 600,
    },
    {"AllowedMethods": ["HEAD"], "AllowedOrigins": ["*"]},
]
GOOD, BAD = "https://app.example.com", "https://example.org"


@pytest.fixture
def shared(s3, bucket):
    s3.put_bucket_cors(Bucket=bucket, CORSConfiguration={"CORSRules": RULES})
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    return bucket


def preflight(endpoint, path, origin=GOOD, method="PUT", asked="", **kwargs):
    headers = {"origin": origin, "access-control-request-method": method}
    if asked:
        headers["access-control-request-headers"] = asked
    given = {name: value for name, value in headers.items() if value}
    return send(endpoint, "OPTIONS", path, given, sign=False, **kwargs)


def allowed(answer):
    prefix = "access-control-"
    return {n.removeprefix(prefix): v for n, v in answer.headers.items() if n.startswith(prefix)}


def test_rules_come_back_as_they_were_put(s3, shared):
    assert s3.get_bucket_cors(Bucket=shared)["CORSRules"] == RULES
    s3.delete_bucket_cors(Bucket=shared)
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_cors(Bucket=shared)
    assert code_of(caught) == (404, "NoSuchCORSConfiguration")


@pytest.mark.parametrize("path", ["", "/k", "/not/there?uploadId=x&partNumber=1"])
def test_preflight_that_fits_a_rule_is_told_what_it_may(endpoint, shared, path):
    answer = preflight(endpoint, f"/{shared}{path}", asked="Content-Type, X-Amz-Date")
    assert answer.status == 200
    assert answer.body == b""
    assert allowed(answer) == {
        "allow-origin": GOOD,
        "allow-methods": "GET, PUT",
        "allow-headers": "content-type, x-amz-date",
        "allow-credentials": "true",
        "expose-headers": "ETag, x-amz-version-id",
        "max-age": "600",
    }
    assert "Origin" in answer.headers["vary"]


def test_preflight_of_a_presigned_url_needs_no_signature_of_its_own(endpoint, shared):
    target = presigned(endpoint, "PUT", f"/{shared}/k", b"")
    assert preflight(endpoint, target).status == 200


@pytest.mark.parametrize(
    ("origin", "method", "asked"),
    [
        (BAD, "PUT", ""),
        ("https://app.example.com.evil", "PUT", ""),
        ("https://.example.co", "PUT", ""),
        (GOOD, "DELETE", ""),
        (GOOD, "PUT", "x-amz-acl"),
        (GOOD, "HEAD", "content-type"),
    ],
)
def test_preflight_that_fits_no_rule_is_refused(endpoint, shared, origin, method, asked):
    answer = preflight(endpoint, f"/{shared}/k", origin, method, asked)
    assert (answer.status, answer.code) == (403, "AccessForbidden")
    assert not allowed(answer)


@pytest.mark.parametrize(("origin", "method"), [("", "GET"), (GOOD, ""), (GOOD, "PATCH")])
def test_preflight_must_say_what_is_to_come(endpoint, shared, origin, method):
    answer = preflight(endpoint, f"/{shared}", origin, method)
    assert (answer.status, answer.code) == (400, "BadRequest")


def test_preflight_of_a_bucket_without_rules_is_refused(endpoint, bucket):
    assert preflight(endpoint, f"/{bucket}/k").code == "AccessForbidden"
    assert preflight(endpoint, "/absent/k").code == "NoSuchBucket"


def test_every_answer_tells_a_browser_whose_page_may_see_it(endpoint, shared):
    for method, target, status in (
        ("GET", f"/{shared}/k", 200),
        ("PUT", f"/{shared}/l", 200),
        ("GET", f"/{shared}?list-type=2", 200),
        ("GET", f"/{shared}?tagging", 404),
        ("GET", f"/{shared}/absent", 404),
    ):
        answer = send(endpoint, method, target, {"origin": GOOD})
        assert (answer.status, allowed(answer).get("allow-origin")) == (status, GOOD), target
        assert allowed(answer)["allow-methods"] == "GET, PUT"
        assert allowed(answer)["expose-headers"] == "ETag, x-amz-version-id"
    denied = send(endpoint, "GET", f"/{shared}/k", {"origin": GOOD}, sign=False)
    assert (denied.status, allowed(denied).get("allow-origin")) == (403, GOOD)
    forged = send(endpoint, "GET", f"/{shared}/k", {"origin": GOOD}, secret="another")
    assert (forged.status, allowed(forged).get("allow-origin")) == (403, GOOD)


def test_rule_for_all_origins_says_so_and_shares_no_cookies(endpoint, shared):
    answer = send(endpoint, "HEAD", f"/{shared}/k", {"origin": BAD})
    assert allowed(answer) == {"allow-origin": "*", "allow-methods": "HEAD"}


def test_answer_without_a_rule_or_an_origin_has_no_such_headers(endpoint, shared, bucket):
    strange = send(endpoint, "GET", f"/{shared}/k", {"origin": BAD})
    assert not allowed(strange)
    assert "Origin" in strange.headers["vary"]
    plain = send(endpoint, "GET", f"/{shared}/k")
    assert not allowed(plain)
    assert "vary" not in plain.headers


def document(*rules):
    return "<CORSConfiguration>{}</CORSConfiguration>".format("".join(rules)).encode()


def rule(*elements):
    return "<CORSRule>{}</CORSRule>".format("".join(elements))


METHOD = "<AllowedMethod>GET</AllowedMethod>"
ORIGIN = "<AllowedOrigin>*</AllowedOrigin>"


@pytest.mark.parametrize(
    ("elements", "refusal"),
    [
        ((METHOD,), MalformedXML),
        ((ORIGIN,), MalformedXML),
        ((METHOD, ORIGIN, "<Allowed>x</Allowed>"), MalformedXML),
        ((METHOD, ORIGIN, "<MaxAgeSeconds>-1</MaxAgeSeconds>"), MalformedXML),
        ((METHOD, ORIGIN, "<MaxAgeSeconds>soon</MaxAgeSeconds>"), MalformedXML),
        ((METHOD, ORIGIN, f"<ID>{'x' * 256}</ID>"), MalformedXML),
        ((METHOD, "<AllowedOrigin></AllowedOrigin>"), MalformedXML),
        ((METHOD, "<AllowedOrigin>a&#10;b</AllowedOrigin>"), MalformedXML),
        ((METHOD, "<AllowedOrigin>http://*.*.com</AllowedOrigin>"), InvalidRequest),
        ((METHOD, ORIGIN, "<AllowedHeader>x-*-*</AllowedHeader>"), InvalidRequest),
        ((METHOD, ORIGIN, "<ExposeHeader>*</ExposeHeader>"), InvalidRequest),
        ((ORIGIN, "<AllowedMethod>PATCH</AllowedMethod>"), InvalidRequest),
        ((ORIGIN, "<AllowedMethod>get</AllowedMethod>"), InvalidRequest),
    ],
)
def test_rules_that_mean_nothing_are_refused(elements, refusal):
    with pytest.raises(refusal):
        parse_rules(document(rule(*elements)))


def test_there_are_one_to_a_hundred_rules():
    one = rule(METHOD, ORIGIN)
    assert len(parse_rules(document(one * 100))) == 100
    for wrong in (document(), document(one * 101), document(one, "<Rule/>")):
        with pytest.raises((MalformedXML, InvalidRequest)):
            parse_rules(wrong)


@pytest.mark.parametrize(
    ("pattern", "origin", "fits"),
    [
        ("*suffix", "foo.suffix", True),
        ("*suffix", "foo.suffix.get", False),
        ("start*end", "startend", True),
        ("start*end", "start12end", True),
        ("start*end", "0start12end", False),
        ("startx*xend", "startxend", False),
        ("prefix*", "prefix", True),
        ("prefix*", "bla.prefix", False),
        ("http://a", "HTTP://A", False),
    ],
)
def test_origins_are_matched_with_one_star(pattern, origin, fits):
    rules = (Rule(methods=("GET",), origins=(pattern,)),)
    assert (find_rule(rules, origin, "GET") is not None) is fits


def test_first_rule_that_fits_decides():
    rules = parse_rules(
        document(
            rule("<AllowedMethod>PUT</AllowedMethod>", ORIGIN, "<ID>1</ID>"),
            rule(METHOD, "<AllowedOrigin>http://a</AllowedOrigin>", "<ID>2</ID>"),
            rule(METHOD, ORIGIN, "<ID>3</ID>"),
        )
    )
    found = find_rule(rules, "http://a", "GET")
    assert found is not None
    assert (found[0].id, found[1]) == ("2", "http://a")


def test_rules_are_read_once():
    text = '[{"methods":["GET"],"origins":["*"]}]'
    assert decode_rules(text) is decode_rules(text)
