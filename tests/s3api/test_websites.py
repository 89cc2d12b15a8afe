"""Buckets as websites: their configuration, and what a browser gets."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

from s3api.errors import InvalidArgument, InvalidRequest, MalformedXML
from s3api.websites import decode_website, parse_website
from tests.s3api.conftest import ALICE, WEBSITE_DOMAIN
from tests.s3api.raw import send
from tests.s3api.test_objects import code_of

PAGES = {
    "index.html": b"<h1>home</h1>",
    "about.html": b"about",
    "docs/index.html": b"docs",
    "docs/a b": b"spaced",
    "error.html": b"<h1>oops</h1>",
}
RULES = [
    {
        "Condition": {"KeyPrefixEquals": "old/"},
        "Redirect": {"ReplaceKeyPrefixWith": "docs/", "HttpRedirectCode": "302"},
    },
    {
        "Condition": {"KeyPrefixEquals": "gone", "HttpErrorCodeReturnedEquals": "404"},
        "Redirect": {"HostName": "other.example", "Protocol": "https", "ReplaceKeyWith": "x?"},
    },
]


@pytest.fixture
def site(s3, bucket):
    for key, body in PAGES.items():
        s3.put_object(Bucket=bucket, Key=key, Body=body, ContentType="text/html")
    configuration = {
        "IndexDocument": {"Suffix": "index.html"},
        "ErrorDocument": {"Key": "error.html"},
        "RoutingRules": RULES,
    }
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=configuration)
    s3.delete_public_access_block(Bucket=bucket)
    open_to_all(s3, bucket, "s3:GetObject", "s3:ListBucket")
    return bucket


def open_to_all(s3, bucket, *actions, effect="Allow", **more):
    """Let anybody do this, and nothing else."""
    resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    statements = [
        {"Effect": effect, "Principal": "*", "Action": action, "Resource": resources[place], **more}
        for action in actions
        for place in (["s3:ListBucket", "s3:GetObject"].index(action),)
    ]
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps({"Statement": statements}))


def ask(endpoint, bucket, path, method="GET", headers=None, **kwargs):
    host = f"{bucket}.{WEBSITE_DOMAIN}:{endpoint.port}"
    return send(endpoint, method, path, headers or {}, sign=False, host=host, **kwargs)


def test_configuration_comes_back_as_it_was_put(s3, site):
    found = s3.get_bucket_website(Bucket=site)
    assert found["IndexDocument"] == {"Suffix": "index.html"}
    assert found["ErrorDocument"] == {"Key": "error.html"}
    assert found["RoutingRules"] == RULES
    everything = {"RedirectAllRequestsTo": {"HostName": "a.example", "Protocol": "https"}}
    s3.put_bucket_website(Bucket=site, WebsiteConfiguration=everything)
    found = s3.get_bucket_website(Bucket=site)
    assert found["RedirectAllRequestsTo"] == everything["RedirectAllRequestsTo"]
    assert "IndexDocument" not in found
    s3.delete_bucket_website(Bucket=site)
    with pytest.raises(ClientError) as caught:
        s3.get_bucket_website(Bucket=site)
    assert code_of(caught) == (404, "NoSuchWebsiteConfiguration")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/", PAGES["index.html"]),
        ("/?utm_source=x&versionId=y&response-content-type=z", PAGES["index.html"]),
        ("/about.html", b"about"),
        ("/docs/", b"docs"),
        ("/docs/a%20b", b"spaced"),
    ],
)
def test_anybody_reads_pages_and_folders_by_their_index(endpoint, site, path, body):
    answer = ask(endpoint, site, path)
    assert (answer.status, answer.body) == (200, body)
    assert answer.headers["content-type"] == "text/html"
    head = ask(endpoint, site, path, "HEAD")
    assert (head.status, head.headers["content-length"]) == (200, str(len(body)))


@pytest.mark.parametrize("path", ["/", "/about.html", "/nowhere", "/docs", "/error.html"])
def test_nothing_is_shown_that_not_everybody_may_read(endpoint, s3, site, path):
    s3.delete_bucket_policy(Bucket=site)
    answer = ask(endpoint, site, path)
    assert (answer.status, b"Code: AccessDenied" in answer.body) == (403, True)
    assert not any(body in answer.body for body in PAGES.values())


def test_a_public_policy_shows_nothing_while_public_access_is_blocked(endpoint, s3, site):
    assert ask(endpoint, site, "/about.html").status == 200
    s3.put_public_access_block(
        Bucket=site, PublicAccessBlockConfiguration={"RestrictPublicBuckets": True}
    )
    assert ask(endpoint, site, "/about.html").status == 403


def test_a_missing_page_is_forbidden_to_whom_may_not_list(endpoint, s3, site):
    open_to_all(s3, site, "s3:GetObject")
    for method in ("GET", "HEAD"):
        answer = ask(endpoint, site, "/nowhere", method)
        assert answer.status == 403
    assert ask(endpoint, site, "/nowhere").body == PAGES["error.html"]
    # A rule for what is not found is no rule for what is forbidden.
    assert ask(endpoint, site, "/gone/for/good").status == 403
    assert ask(endpoint, site, "/about.html").body == b"about"


def test_conditions_of_the_policy_hold_for_pages(endpoint, s3, site):
    condition = {"StringLike": {"aws:Referer": "http://a.example/*"}}
    open_to_all(s3, site, "s3:GetObject", Condition=condition)
    assert ask(endpoint, site, "/about.html").status == 403
    assert (
        ask(endpoint, site, "/about.html", headers={"referer": "http://a.example/"}).status == 200
    )
    condition = {"IpAddress": {"aws:SourceIp": "127.0.0.1/32"}}
    open_to_all(s3, site, "s3:GetObject", Condition=condition)
    assert ask(endpoint, site, "/about.html").status == 200


def test_large_pages_are_streamed_and_ranges_and_conditions_hold(endpoint, s3, site):
    body = bytes(range(256)) * 12_000
    etag = s3.put_object(Bucket=site, Key="large", Body=body)["ETag"]
    assert ask(endpoint, site, "/large").body == body
    part = ask(endpoint, site, "/large", headers={"range": "bytes=5-9"})
    assert (part.status, part.body) == (206, body[5:10])
    assert ask(endpoint, site, "/large", headers={"if-none-match": etag}).status == 304
    refused = ask(endpoint, site, "/large", headers={"range": "bytes=9999999-"})
    assert (refused.status, b"<h1>416" in refused.body) == (416, True)


def test_folder_without_its_slash_is_found(endpoint, site):
    answer = ask(endpoint, site, "/docs")
    assert (answer.status, answer.headers["location"]) == (302, "/docs/")


def test_absent_page_is_the_error_document(endpoint, s3, site):
    for headers in ({}, {"range": "bytes=0-3"}, {"if-none-match": "*"}):
        answer = ask(endpoint, site, "/nowhere", headers=headers)
        assert (answer.status, answer.body) == (404, PAGES["error.html"])
    assert ask(endpoint, site, "/nowhere", "HEAD").status == 404
    s3.delete_object(Bucket=site, Key="error.html")
    answer = ask(endpoint, site, "/nowhere")
    assert (answer.status, b"Code: NoSuchKey" in answer.body) == (404, True)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "status", "location"),
    [
        ("/old/a%20b", 302, "http://{host}/docs/a%20b"),
        ("/gone/for/good", 301, "https://other.example/x%3F"),
    ],
)
def test_rules_lead_elsewhere(endpoint, s3, site, path, status, location):
    answer = ask(endpoint, site, path)
    host = f"{site}.{WEBSITE_DOMAIN}:{endpoint.port}"
    assert (answer.status, answer.headers["location"]) == (status, location.format(host=host))
    s3.put_object(Bucket=site, Key="gone/for/good", Body=b"back")
    if status == 301:
        assert ask(endpoint, site, path).body == b"back"


@pytest.mark.parametrize("target", ["/about.html", "https://other.example/x"])
def test_object_may_lead_elsewhere(endpoint, s3, site, target):
    s3.put_object(Bucket=site, Key="moved", WebsiteRedirectLocation=target)
    answer = ask(endpoint, site, "/moved")
    assert (answer.status, answer.headers["location"]) == (301, target)


def test_everything_may_lead_elsewhere(endpoint, s3, bucket):
    everything = {"RedirectAllRequestsTo": {"HostName": "a.example:8443"}}
    s3.put_bucket_website(Bucket=bucket, WebsiteConfiguration=everything)
    answer = ask(endpoint, bucket, "/x/y?z=1")
    assert (answer.status, answer.headers["location"]) == (301, "http://a.example:8443/x/y")


def test_only_buckets_with_a_website_are_shown_and_only_there(endpoint, s3, site, bucket):
    private = endpoint.client(who=ALICE)
    name = f"{bucket}-private"
    private.create_bucket(Bucket=name)
    private.put_object(Bucket=name, Key="index.html", Body=b"secret")
    answer = ask(endpoint, name, "/index.html")
    assert (answer.status, b"NoSuchWebsiteConfiguration" in answer.body) == (404, True)
    assert b"secret" not in answer.body
    assert b"NoSuchBucket" in ask(endpoint, "absent", "/").body
    s3.delete_bucket_policy(Bucket=site)
    assert send(endpoint, "GET", f"/{site}/index.html", sign=False).code == "AccessDenied"


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE", "PATCH"])
def test_website_can_only_be_read(endpoint, s3, site, method):
    answer = ask(endpoint, site, "/index.html", method, body=b"x")
    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    assert s3.get_object(Bucket=site, Key="index.html")["Body"].read() == PAGES["index.html"]


def test_signatures_mean_nothing_to_a_website(endpoint, site):
    headers = {"authorization": "AWS nobody:nothing"}
    assert ask(endpoint, site, "/about.html", headers=headers).body == b"about"


def test_nothing_that_was_asked_for_stands_unescaped_in_a_page(endpoint, s3, site):
    s3.delete_object(Bucket=site, Key="error.html")
    answer = ask(endpoint, site, "/%3Cscript%3E%0d%0a")
    assert answer.status == 404
    assert b"<script>" not in answer.body
    answer = ask(endpoint, site, "/old/%0d%0ax: y")
    assert "x" not in answer.headers


def test_cors_rules_hold_for_the_website_too(endpoint, s3, site):
    rules = [{"AllowedMethods": ["GET"], "AllowedOrigins": ["*"]}]
    s3.put_bucket_cors(Bucket=site, CORSConfiguration={"CORSRules": rules})
    answer = ask(endpoint, site, "/", headers={"origin": "http://a"})
    assert answer.headers["access-control-allow-origin"] == "*"
    asked = {"origin": "http://a", "access-control-request-method": "GET"}
    assert ask(endpoint, site, "/", "OPTIONS", asked).status == 200


INDEX = "<IndexDocument><Suffix>i</Suffix></IndexDocument>"


def rules(inner):
    return f"{INDEX}<RoutingRules><RoutingRule>{inner}</RoutingRule></RoutingRules>"


def document(inner):
    return f"<WebsiteConfiguration>{inner}</WebsiteConfiguration>".encode()


@pytest.mark.parametrize(
    ("inner", "refusal"),
    [
        ("", InvalidArgument),
        ("<IndexDocument><Suffix></Suffix></IndexDocument>", InvalidArgument),
        ("<IndexDocument><Suffix>a/b</Suffix></IndexDocument>", InvalidArgument),
        ("<ErrorDocument><Key>e</Key></ErrorDocument>", InvalidArgument),
        (INDEX + "<ErrorDocument><Key></Key></ErrorDocument>", InvalidArgument),
        (INDEX + "<Other/>", MalformedXML),
        (INDEX + INDEX, MalformedXML),
        (
            INDEX + "<RedirectAllRequestsTo><HostName>h</HostName></RedirectAllRequestsTo>",
            InvalidRequest,
        ),
        (
            "<RedirectAllRequestsTo><Protocol>http</Protocol></RedirectAllRequestsTo>",
            InvalidRequest,
        ),
        (
            "<RedirectAllRequestsTo><HostName>a/b</HostName></RedirectAllRequestsTo>",
            InvalidRequest,
        ),
        (
            "<RedirectAllRequestsTo><HostName>h</HostName><Protocol>ftp</Protocol>"
            "</RedirectAllRequestsTo>",
            InvalidRequest,
        ),
        (rules(""), MalformedXML),
        (rules("<Redirect/>"), MalformedXML),
        (rules("<Condition/><Redirect><HostName>h</HostName></Redirect>"), MalformedXML),
        (rules("<Redirect><HttpRedirectCode>300</HttpRedirectCode></Redirect>"), InvalidRequest),
        (rules("<Redirect><HttpRedirectCode>200</HttpRedirectCode></Redirect>"), InvalidRequest),
        (
            rules(
                "<Redirect><ReplaceKeyWith>a</ReplaceKeyWith>"
                "<ReplaceKeyPrefixWith>b</ReplaceKeyPrefixWith></Redirect>"
            ),
            InvalidRequest,
        ),
        (
            rules(
                "<Condition><HttpErrorCodeReturnedEquals>200</HttpErrorCodeReturnedEquals>"
                "</Condition><Redirect><HostName>h</HostName></Redirect>"
            ),
            InvalidRequest,
        ),
        (
            INDEX
            + "<RoutingRules>"
            + "<RoutingRule><Redirect><HostName>h</HostName></Redirect></RoutingRule>" * 51
            + "</RoutingRules>",
            InvalidRequest,
        ),
    ],
)
def test_configuration_that_means_nothing_is_refused(inner, refusal):
    with pytest.raises(refusal):
        parse_website(document(inner))


def test_prefix_may_be_replaced_by_nothing(endpoint, s3, bucket):
    inner = rules(
        "<Condition><KeyPrefixEquals>a/</KeyPrefixEquals></Condition>"
        "<Redirect><ReplaceKeyPrefixWith></ReplaceKeyPrefixWith></Redirect>"
    )
    answer = send(endpoint, "PUT", f"/{bucket}?website", body=document(inner))
    assert answer.status == 200
    moved = ask(endpoint, bucket, "/a/b")
    assert moved.headers["location"].endswith("/b")
    assert "/a/" not in moved.headers["location"]


def test_configuration_is_read_once():
    text = '{"index":"i"}'
    assert decode_website(text) is decode_website(text)
