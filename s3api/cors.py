"""Cross-origin requests: a bucket's rules, preflights, and the headers of answers to browsers.

The rules are one of the bucket's documents ("cors"), kept as JSON. A request without an Origin
header never comes here. The first rule that fits origin and method (and, in a preflight, all the
headers that are asked for) decides.

Concurrency: any task; what is parsed is remembered by its text. Source: Amazon S3 user guide,
"Using cross-origin resource sharing"; API reference, PutBucketCors; Fetch standard, section 3.3.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import replace

import msgspec

from s3api import xml
from s3api.body import read_document
from s3api.errors import InvalidRequest, MalformedXML
from s3api.face import Face
from s3api.httpstream import Header
from s3api.requests import Request
from s3api.responses import NO_CONTENT, Response, xml_response
from s3api.settingrefusals import NoSuchCors, PreflightMalformed, PreflightRefused
from store.errors import StoreError

DOCUMENT = "cors"
METHODS = ("GET", "PUT", "POST", "DELETE", "HEAD")
RULES_MAX = 100
ID_LENGTH_MAX = 255
SIZE_BYTES_MAX = 64 * 1024
_VARY: Header = (b"vary", b"Origin, Access-Control-Request-Headers, Access-Control-Request-Method")
_LISTS = {
    "AllowedHeader": "headers",
    "AllowedMethod": "methods",
    "AllowedOrigin": "origins",
    "ExposeHeader": "exposed",
}


class Rule(msgspec.Struct, frozen=True, omit_defaults=True):
    """One CORSRule. Origins and headers may hold one "*" each, for any characters.

    max_age_s: how long browsers may remember a preflight, None for their default.
    """

    methods: tuple[str, ...]
    origins: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    id: str = ""
    max_age_s: int | None = None

    def origin_for(self, origin: str) -> str:
        """What Access-Control-Allow-Origin says to this origin, "" if it is not allowed."""
        for pattern in self.origins:
            if pattern == "*":
                return "*"
            if _matches(pattern, origin):
                return origin
        return ""

    def allows_headers(self, names: Sequence[str]) -> bool:
        patterns = [pattern.lower() for pattern in self.headers]
        return all(any(_matches(pattern, name) for pattern in patterns) for name in names)


def _matches(pattern: str, text: str) -> bool:
    before, star, behind = pattern.partition("*")
    if not star:
        return pattern == text
    fits = len(text) >= len(before) + len(behind)
    return fits and text.startswith(before) and text.endswith(behind)


def find_rule(
    rules: Sequence[Rule], origin: str, method: str, headers: Sequence[str] = ()
) -> tuple[Rule, str] | None:
    """The first rule for these, and what to say to the origin. headers: lower case."""
    for rule in rules:
        said = rule.origin_for(origin) if method in rule.methods else ""
        if said and rule.allows_headers(headers):
            return rule, said
    return None


@functools.lru_cache(maxsize=1024)
def decode_rules(document: str) -> tuple[Rule, ...]:
    """The rules as a bucket keeps them."""
    return msgspec.json.decode(document, type=tuple[Rule, ...])


def parse_rules(document: bytes) -> tuple[Rule, ...]:
    """The rules of a CORSConfiguration. Raises MalformedXML, InvalidRequest."""
    root = xml.parse(document, "CORSConfiguration")
    rules = tuple(_parse_rule(element) for element in xml.children(root, "CORSRule"))
    if not rules or len(rules) != len(root):
        raise MalformedXML()
    if len(rules) > RULES_MAX:
        raise InvalidRequest(f"A CORS configuration has at most {RULES_MAX} rules.")
    return rules


def _parse_rule(element: xml.Element) -> Rule:
    lists: dict[str, list[str]] = {field: [] for field in _LISTS.values()}
    single = xml.texts(element)
    for child in element:
        name = xml.local_name(child)
        if name in _LISTS:
            lists[_LISTS[name]].append(child.text or "")
        elif name not in ("ID", "MaxAgeSeconds"):
            raise MalformedXML()
    age = single.get("MaxAgeSeconds")
    if age is not None and not (age.isascii() and age.isdecimal() and len(age) < 10):
        raise MalformedXML()
    rule = Rule(
        methods=tuple(lists["methods"]),
        origins=tuple(lists["origins"]),
        headers=tuple(lists["headers"]),
        exposed=tuple(lists["exposed"]),
        id=single.get("ID", ""),
        max_age_s=None if age is None else int(age),
    )
    _check_rule(rule)
    return rule


def _check_rule(rule: Rule) -> None:
    if not rule.methods or not rule.origins or len(rule.id) > ID_LENGTH_MAX:
        raise MalformedXML()
    for method in rule.methods:
        if method not in METHODS:
            raise InvalidRequest(
                f"Found unsupported HTTP method in CORS config. Unsupported method is {method}"
            )
    for name, patterns in (("AllowedOrigin", rule.origins), ("AllowedHeader", rule.headers)):
        for pattern in patterns:
            if pattern.count("*") > 1:
                raise InvalidRequest(f'{name} "{pattern}" can not have more than one wildcard.')
    for header in rule.exposed:
        if "*" in header:
            raise InvalidRequest(f'ExposeHeader "{header}" must not contain a wildcard.')
    for text in (*rule.origins, *rule.headers, *rule.exposed):
        if not text or not text.isprintable():
            raise MalformedXML()


async def put_bucket_cors(face: Face, request: Request) -> Response:
    rules = parse_rules(await read_document(request, SIZE_BYTES_MAX))
    document = msgspec.json.encode(rules).decode()
    await face.namespace.buckets.set_document(request.bucket, DOCUMENT, document)
    return Response(200)


async def get_bucket_cors(face: Face, request: Request) -> Response:
    document = face.namespace.buckets.document(request.bucket, DOCUMENT)
    if document is None:
        raise NoSuchCors(extras=(("BucketName", request.bucket),))
    return xml_response("CORSConfiguration", map(_rule_element, decode_rules(document)))


def _rule_element(rule: Rule) -> str:
    parts = [xml.optional("ID", rule.id)]
    for name, field in _LISTS.items():
        parts += [xml.element(name, text) for text in getattr(rule, field)]
    if rule.max_age_s is not None:
        parts.append(xml.element("MaxAgeSeconds", rule.max_age_s))
    return f"<CORSRule>{''.join(parts)}</CORSRule>"


async def delete_bucket_cors(face: Face, request: Request) -> Response:
    await face.namespace.buckets.set_document(request.bucket, DOCUMENT, None)
    return NO_CONTENT


async def preflight(face: Face, request: Request) -> Response:
    """OPTIONS: whether a browser may send what it is about to. Asks for no signature."""
    origin = request.text(b"origin")
    method = request.text(b"access-control-request-method")
    if not origin or method not in METHODS:
        raise PreflightMalformed()
    document = face.namespace.buckets.document(request.bucket, DOCUMENT)
    asked = request.text(b"access-control-request-headers").lower()
    names = [name.strip() for name in asked.split(",") if name.strip()]
    found = find_rule(decode_rules(document), origin, method, names) if document else None
    if found is None:
        raise PreflightRefused(extras=(("Method", method), ("ResourceType", "OBJECT")))
    rule, said = found
    headers = [*_allowing(rule, said), (b"content-length", b"0")]
    if names:
        headers.append((b"access-control-allow-headers", ", ".join(names).encode()))
    return Response(200, headers)


def with_cors(face: Face, request: Request, response: Response) -> Response:
    """The answer to a request with an Origin, as browsers need it to show it to their page."""
    if request.method == "OPTIONS":
        return response
    try:
        document = face.namespace.buckets.document(request.bucket, DOCUMENT)
    except StoreError:
        # There is no such bucket, as the answer says.
        return response
    if document is None:
        return response
    method = request.text(b"access-control-request-method") or request.method
    found = find_rule(decode_rules(document), request.text(b"origin"), method)
    # Without a rule the answer depends on the origin, too, and caches must know.
    added = [_VARY] if found is None else _allowing(*found)
    return replace(response, headers=[*response.headers, *added])


def _allowing(rule: Rule, said: str) -> list[Header]:
    headers = [
        (b"access-control-allow-origin", said.encode()),
        (b"access-control-allow-methods", ", ".join(rule.methods).encode()),
    ]
    if rule.exposed:
        headers.append((b"access-control-expose-headers", ", ".join(rule.exposed).encode()))
    if rule.max_age_s is not None:
        headers.append((b"access-control-max-age", b"%d" % rule.max_age_s))
    if said != "*":
        headers.append((b"access-control-allow-credentials", b"true"))
    headers.append(_VARY)
    return headers
