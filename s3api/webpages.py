"""Buckets as websites: index and error documents, redirects, and pages of ours in HTML.

A request whose host is `<bucket>.<website domain>` comes here and nowhere else. It is nobody's: no
signature counts, no parameter is looked at, and only GET and HEAD are answered. What is
shown is what anybody may read, by the bucket's policy or ACLs, with public access not blocked.

In this order, as Amazon S3 does it: the redirect of everything, rules for a prefix, the object (or
the index document of its folder), its own redirect, the folder of that name, rules for errors, the
error document.

Concurrency: any task. Source: Amazon S3 user guide, "Hosting a static website", "Website
endpoints", "Configuring a webpage redirect".
"""

from __future__ import annotations

import html
from dataclasses import replace
from http import HTTPStatus

from s3api.errors import AccessDenied, Refusal, failure_of
from s3api.face import Face
from s3api.httpstream import Header
from s3api.listing import encode_key
from s3api.objects import get_object, head_object
from s3api.requests import Request
from s3api.responses import Response
from s3api.settingrefusals import NoSuchWebsite
from s3api.websites import DOCUMENT, Redirect, RoutingRule, Website, decode_website
from store.errors import NotFound, Refused, StoreError
from store.types import ObjectStat

_ALLOWED: Header = (b"allow", b"GET, HEAD")
_OK, _FOUND, _MOVED, _FORBIDDEN, _MISSING = 200, 302, 301, 403, 404
_NAMED = frozenset(HTTPStatus)


async def serve_page(face: Face, request: Request) -> Response:
    """Answer a request to a website; whatever is wrong is told in HTML."""
    if request.method not in ("GET", "HEAD"):
        page = _page(request, 405, "MethodNotAllowed", "This website can only be read.")
        return replace(page, headers=[*page.headers, _ALLOWED])
    # Parameters are for the pages' own scripts.
    request.query = {}
    try:
        return await _serve(face, request)
    except (Refusal, StoreError) as exc:
        failure = failure_of(exc)
        if failure is None:
            raise
        page = _page(request, failure.status, failure.code, failure.message)
        return replace(page, headers=[*page.headers, *failure.headers])


async def _serve(face: Face, request: Request) -> Response:
    document = face.namespace.buckets.document(request.bucket, DOCUMENT)
    if document is None:
        raise NoSuchWebsite()
    website = decode_website(document)
    key = request.key
    if website.everything is not None:
        return _redirect(request, website.everything, key, "")
    rule = _find_rule(website, key, 0)
    if rule is not None:
        return _redirect(request, rule.redirect, key, rule.prefix)
    in_folder = not key or key.endswith("/")
    wanted = key + website.index if in_folder else key
    stat, code = _find(face, request, wanted)
    if stat is not None:
        elsewhere = stat.meta.website_redirect
        if elsewhere.isprintable() and elsewhere:
            return _moved(request, _MOVED, elsewhere)
        return await _object(face, request, wanted)
    if not in_folder and _find(face, request, f"{key}/{website.index}")[0] is not None:
        return _moved(request, _FOUND, f"/{encode_key(key)}/")
    return await _failed(face, request, website, key, code)


async def _failed(face: Face, request: Request, website: Website, key: str, code: int) -> Response:
    """Where there is no page to show. code: why."""
    rule = _find_rule(website, key, code)
    if rule is not None:
        return _redirect(request, rule.redirect, key, rule.prefix)
    if website.error and _find(face, request, website.error)[0] is not None:
        # Conditions and ranges were about another page.
        request.headers = {}
        return replace(await _object(face, request, website.error), status=code)
    if code == _FORBIDDEN:
        return _page(request, code, "AccessDenied", "Access Denied")
    return _page(request, code, "NoSuchKey", "The specified key does not exist.")


def _find(face: Face, request: Request, key: str) -> tuple[ObjectStat | None, int]:
    """The object that anybody may read, else None with the status that says why.

    Whether there is an object is told to whom may list the bucket, as everywhere.
    """
    request.key = key
    try:
        face.authorize(request, "s3:GetObject", request.bucket, key)
        return face.namespace.objects.stat(request.bucket, key), _OK
    except AccessDenied:
        return None, _FORBIDDEN
    except (NotFound, Refused) as absent:
        is_told = not isinstance(face.conceal(request, absent), AccessDenied)
        return None, _MISSING if is_told else _FORBIDDEN


async def _object(face: Face, request: Request, key: str) -> Response:
    request.key = key
    run = head_object if request.method == "HEAD" else get_object
    return await run(face, request)


def _find_rule(website: Website, key: str, error_code: int) -> RoutingRule | None:
    for rule in website.rules:
        if rule.error_code == error_code and key.startswith(rule.prefix):
            return rule
    return None


def _redirect(request: Request, redirect: Redirect, key: str, prefix: str) -> Response:
    if redirect.key is not None:
        key = redirect.key
    elif redirect.prefix is not None:
        key = redirect.prefix + key[len(prefix) :]
    protocol = redirect.protocol or request.scheme
    host = redirect.host or request.text(b"host")
    location = f"{protocol}://{host}/{encode_key(key)}"
    return _moved(request, redirect.code or _MOVED, location)


def _moved(request: Request, status: int, location: str) -> Response:
    page = _page(request, status, "Moved", location)
    return replace(page, headers=[*page.headers, (b"location", location.encode())])


def _page(request: Request, status: int, code: str, message: str) -> Response:
    """A page of our own; nothing of what was asked for stands in it unescaped."""
    title = f"{status} {HTTPStatus(status).phrase}" if status in _NAMED else str(status)
    body = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head><title>{title}</title></head>\n<body>\n'
        f"<h1>{title}</h1>\n<ul>\n<li>Code: {html.escape(code)}</li>\n"
        f"<li>Message: {html.escape(message)}</li>\n</ul>\n</body>\n</html>\n"
    ).encode()
    headers: list[Header] = [(b"content-type", b"text/html; charset=utf-8")]
    if request.method == "HEAD":
        return Response(status, [*headers, (b"content-length", b"%d" % len(body))])
    return Response(status, headers, body)
