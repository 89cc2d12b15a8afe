"""XML in and out: request documents read with suspicion, response documents written as text.

In: one size cap a document, UTF-8 only, no document type, no entity but the five of XML, bounded
depth. Whatever breaks this is MalformedXML. Out: strings joined, every value escaped; control
characters, which XML 1.0 lacks, go out as references as S3 does it (clients ask for
encoding-type=url where that matters).

Pure functions. Source: XML 1.0 (2.2, 2.4); Amazon S3 API reference.
"""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Iterable, Iterator

from lxml import etree

from s3api.errors import Failure, MalformedXML
from s3api.httpstream import Header

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
PROLOGUE = '<?xml version="1.0" encoding="UTF-8"?>\n'
XML_HEADERS: tuple[Header, ...] = ((b"content-type", b"application/xml"),)
DEPTH_MAX = 16
# A Complete of 10,000 parts, each with number, ETag and a checksum, has 80,002. Four MiB of nothing
# but tags would keep the loop for most of a second.
TAG_COUNT_MAX = 200_000

Element = etree._Element

_needs_escape = re.compile('[&<>"\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]').search
_ESCAPES = {code: f"&#x{code:x};" for code in (*range(0x20), 0x7F, 0xFFFE, 0xFFFF)}
_ESCAPES |= dict.fromkeys(range(0xD800, 0xE000), "\ufffd")
_ESCAPES |= {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord('"'): "&quot;"}


def parse(document: bytes, root: str) -> Element:
    """The root element of a request document, which must be named `root`. Raises MalformedXML."""
    # A NUL is what UTF-16 and UTF-32 would show; no other encoding is read.
    if not document.strip() or b"\0" in document or b"<!DOCTYPE" in document:
        raise MalformedXML()
    if document.count(b"<") > TAG_COUNT_MAX:
        raise MalformedXML()
    parser = etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        load_dtd=False,
        no_network=True,
        remove_comments=True,
        remove_pis=True,
        huge_tree=False,
    )
    try:
        element = etree.fromstring(document, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise MalformedXML() from None
    if element.getroottree().docinfo.doctype or local_name(element) != root:
        raise MalformedXML()
    _check_depth(element)
    return element


def _check_depth(element: Element) -> None:
    depth = 0
    for event, _ in etree.iterwalk(element, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > DEPTH_MAX:
            raise MalformedXML()


def local_name(element: Element) -> str:
    """The element's name without its namespace; clients differ in whether they send one."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def children(element: Element, name: str) -> Iterator[Element]:
    """The direct children of this name, in order."""
    return (child for child in element if local_name(child) == name)


def only(element: Element, *names: str) -> Element:
    """The element, if all its children are of these names.

    Raises MalformedXML for another: what it asks for would not be done.
    """
    for child in element:
        if local_name(child) not in names:
            raise MalformedXML()
    return element


def texts(element: Element) -> dict[str, str]:
    """Name -> text of the direct children; the last of a name wins. Raises MalformedXML.

    An entity reference that was left unresolved makes the document malformed.
    """
    found: dict[str, str] = {}
    for child in element:
        if len(child) and not isinstance(child[0].tag, str):
            raise MalformedXML()
        found[local_name(child)] = child.text or ""
    return found


def escape(text: str) -> str:
    """`text` as character content."""
    return text.translate(_ESCAPES) if _needs_escape(text) else text


def element(name: str, text: str | int) -> str:
    """One element with escaped text."""
    return f"<{name}>{escape(text) if isinstance(text, str) else text}</{name}>"


def optional(name: str, text: str | None) -> str:
    """The same, or nothing where there is no text."""
    return element(name, text) if text else ""


def flag(name: str, value: bool) -> str:
    return f"<{name}>{'true' if value else 'false'}</{name}>"


def document(root: str, parts: Iterable[str]) -> bytes:
    """A whole response document."""
    body = "".join(parts)
    return f'{PROLOGUE}<{root} xmlns="{NAMESPACE}">{body}</{root}>'.encode()


def error_document(failure: Failure, resource: str, request_id: str, host_id: str) -> bytes:
    """What S3 answers a failed request with; it has no namespace."""
    extras = "".join(element(name, text) for name, text in failure.extras)
    return (
        f"{PROLOGUE}<Error>{element('Code', failure.code)}{element('Message', failure.message)}"
        f"{extras}{element('Resource', resource)}{element('RequestId', request_id)}"
        f"{element('HostId', host_id)}</Error>"
    ).encode()


def timestamp(time_ns: int) -> str:
    """2026-01-31T23:59:59.000Z"""
    return f"{_whole_seconds(time_ns // 1_000_000_000)}.{time_ns // 1_000_000 % 1000:03}Z"


@functools.lru_cache(maxsize=4096)
def _whole_seconds(time_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_s))
