"""The website configuration of a bucket: read, written and removed; `s3api.webpages` serves it.

It is one of the bucket's documents ("website"), kept as JSON. Having one makes nothing readable:
that is for the bucket's policy, its ACLs and its public access block to say.

Concurrency: any task; what is parsed is remembered by its text. Source: Amazon S3 API reference,
PutBucketWebsite; user guide, "Configuring a webpage redirect".
"""

from __future__ import annotations

import functools

import msgspec

from s3api import xml
from s3api.body import read_document
from s3api.errors import InvalidArgument, InvalidRequest, MalformedXML
from s3api.face import Face
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.settingrefusals import NoSuchWebsite

DOCUMENT = "website"
SIZE_BYTES_MAX = 128 * 1024
RULES_MAX = 50
PROTOCOLS = ("", "http", "https")
REDIRECT_CODES = range(301, 400)
ERROR_CODES = range(400, 600)


class Redirect(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where to, "" for as it was asked. At most one of key and prefix is not None."""

    protocol: str = ""
    host: str = ""
    key: str | None = None
    prefix: str | None = None
    code: int = 0


class RoutingRule(msgspec.Struct, frozen=True, omit_defaults=True):
    """prefix: of keys that it is for. error_code: that would be answered, 0 for before any is."""

    redirect: Redirect
    prefix: str = ""
    error_code: int = 0


class Website(msgspec.Struct, frozen=True, omit_defaults=True):
    """index: added to keys that end with a slash. error: a key, "" for a page of ours.

    everything: where all requests are sent; the rest is empty then.
    """

    index: str = ""
    error: str = ""
    everything: Redirect | None = None
    rules: tuple[RoutingRule, ...] = ()


@functools.lru_cache(maxsize=1024)
def decode_website(document: str) -> Website:
    """The configuration as a bucket keeps it."""
    return msgspec.json.decode(document, type=Website)


def parse_website(document: bytes) -> Website:
    """A WebsiteConfiguration. Raises MalformedXML, InvalidRequest, InvalidArgument."""
    root = xml.parse(document, "WebsiteConfiguration")
    sections = {xml.local_name(child): child for child in root}
    if len(sections) != len(root) or not sections.keys() <= {
        "IndexDocument",
        "ErrorDocument",
        "RedirectAllRequestsTo",
        "RoutingRules",
    }:
        raise MalformedXML()
    everything = sections.get("RedirectAllRequestsTo")
    if everything is not None:
        if len(sections) > 1:
            raise InvalidRequest(
                "RedirectAllRequestsTo cannot be provided in conjunction with other Routing Rules."
            )
        return Website(everything=_parse_redirect(everything, {"HostName", "Protocol"}))
    index = (
        xml.texts(sections["IndexDocument"]).get("Suffix") if "IndexDocument" in sections else ""
    )
    if not index or "/" in index:
        raise InvalidArgument(
            "The IndexDocument Suffix is not well formed", (("ArgumentName", "IndexDocument"),)
        )
    error = ""
    if "ErrorDocument" in sections:
        error = xml.texts(sections["ErrorDocument"]).get("Key", "")
        if not error:
            raise InvalidArgument(
                "The ErrorDocument Key is not well formed", (("ArgumentName", "ErrorDocument"),)
            )
    rules = sections.get("RoutingRules")
    return Website(index=index, error=error, rules=() if rules is None else _parse_rules(rules))


def _parse_rules(element: xml.Element) -> tuple[RoutingRule, ...]:
    if len(element) > RULES_MAX:
        raise InvalidRequest(
            f"{len(element)} routing rules provided, the number of routing rules in a website "
            f"configuration is limited to {RULES_MAX}."
        )
    return tuple(_parse_rule(child) for child in element)


def _parse_rule(element: xml.Element) -> RoutingRule:
    sections = {xml.local_name(child): child for child in element}
    if xml.local_name(element) != "RoutingRule" or "Redirect" not in sections:
        raise MalformedXML()
    redirect = _parse_redirect(
        sections["Redirect"],
        {"HostName", "Protocol", "ReplaceKeyWith", "ReplaceKeyPrefixWith", "HttpRedirectCode"},
    )
    if "Condition" not in sections:
        return RoutingRule(redirect=redirect)
    condition = xml.texts(sections["Condition"])
    if not condition or not condition.keys() <= {"KeyPrefixEquals", "HttpErrorCodeReturnedEquals"}:
        raise MalformedXML()
    code = condition.get("HttpErrorCodeReturnedEquals")
    return RoutingRule(
        redirect=redirect,
        prefix=condition.get("KeyPrefixEquals", ""),
        error_code=0 if code is None else _parse_code(code, "error", ERROR_CODES),
    )


def _parse_redirect(element: xml.Element, allowed: set[str]) -> Redirect:
    fields = xml.texts(element)
    if not fields or not fields.keys() <= allowed:
        raise MalformedXML()
    protocol, host = fields.get("Protocol", ""), fields.get("HostName", "")
    if protocol not in PROTOCOLS:
        raise InvalidRequest(
            "Invalid protocol, protocol can be http or https. If not defined the protocol will be "
            "selected automatically."
        )
    if ("HostName" in fields or len(allowed) == 2) and not _is_host(host):
        raise InvalidRequest("The host of a redirect must be a name, with or without a port.")
    key, prefix = fields.get("ReplaceKeyWith"), fields.get("ReplaceKeyPrefixWith")
    if key is not None and prefix is not None:
        raise InvalidRequest("You can only define ReplaceKeyPrefix or ReplaceKey but not both.")
    code = fields.get("HttpRedirectCode")
    return Redirect(
        protocol=protocol,
        host=host,
        key=key,
        prefix=prefix,
        code=0 if code is None else _parse_code(code, "redirect", REDIRECT_CODES),
    )


def _is_host(text: str) -> bool:
    """Whether it may stand in a URL between // and the next slash."""
    return (
        bool(text) and text.isascii() and text.isprintable() and not set(text) & set(' /\\?#"<>@')
    )


def _parse_code(text: str, kind: str, allowed: range) -> int:
    if text.isascii() and text.isdecimal() and len(text) == 3 and int(text) in allowed:
        return int(text)
    raise InvalidRequest(
        f"The provided HTTP {kind} code ({text}) is not valid. Valid codes are "
        f"{allowed.start} to {allowed.stop - 1}."
    )


async def put_bucket_website(face: Face, request: Request) -> Response:
    website = parse_website(await read_document(request, SIZE_BYTES_MAX))
    document = msgspec.json.encode(website).decode()
    await face.namespace.buckets.set_document(request.bucket, DOCUMENT, document)
    return Response(200)


async def delete_bucket_website(face: Face, request: Request) -> Response:
    await face.namespace.buckets.set_document(request.bucket, DOCUMENT, None)
    return NO_CONTENT


async def get_bucket_website(face: Face, request: Request) -> Response:
    document = face.namespace.buckets.document(request.bucket, DOCUMENT)
    if document is None:
        raise NoSuchWebsite(extras=(("BucketName", request.bucket),))
    website = decode_website(document)
    if website.everything is not None:
        parts = [_redirect_element("RedirectAllRequestsTo", website.everything)]
    else:
        parts = [f"<IndexDocument>{xml.element('Suffix', website.index)}</IndexDocument>"]
        if website.error:
            parts.append(f"<ErrorDocument>{xml.element('Key', website.error)}</ErrorDocument>")
        if website.rules:
            rules = "".join(map(_rule_element, website.rules))
            parts.append(f"<RoutingRules>{rules}</RoutingRules>")
    return xml_response("WebsiteConfiguration", parts)


def _rule_element(rule: RoutingRule) -> str:
    condition = ""
    if rule.error_code:
        condition = xml.element("HttpErrorCodeReturnedEquals", rule.error_code)
    condition += xml.optional("KeyPrefixEquals", rule.prefix)
    if condition:
        condition = f"<Condition>{condition}</Condition>"
    redirect = _redirect_element("Redirect", rule.redirect)
    return f"<RoutingRule>{condition}{redirect}</RoutingRule>"


def _redirect_element(name: str, redirect: Redirect) -> str:
    parts = [
        xml.optional("HostName", redirect.host),
        xml.element("HttpRedirectCode", redirect.code) if redirect.code else "",
        xml.optional("Protocol", redirect.protocol),
        "" if redirect.prefix is None else xml.element("ReplaceKeyPrefixWith", redirect.prefix),
        "" if redirect.key is None else xml.element("ReplaceKeyWith", redirect.key),
    ]
    return f"<{name}>{''.join(parts)}</{name}>"
