"""The XML of IAM and STS: results of actions, and errors.

Concurrency: pure. Source: AWS IAM API reference; the "query" protocol as botocore's models have it.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from s3api import xml
from s3api.httpstream import Header
from s3api.iam.refusals import QueryFailure
from s3api.responses import Response

NAMESPACES = {
    "iam": "https://iam.amazonaws.com/doc/2010-05-08/",
    "sts": "https://sts.amazonaws.com/doc/2011-06-15/",
}
_HEADERS: tuple[Header, ...] = ((b"content-type", b"text/xml"),)


@dataclass(frozen=True, slots=True)
class Pairs:
    """A map, which goes out as entries of key and value."""

    values: Mapping[str, str | int]


Value = None | bool | int | str | Pairs | Sequence["Value"] | Mapping[str, "Value"]
Structure = Mapping[str, Value]


def answer(service: str, action: str, result: Structure | None) -> Response:
    """A result, or for None an answer without one."""
    inner = "" if result is None else _element(f"{action}Result", result)
    metadata = _element("ResponseMetadata", {"RequestId": str(uuid.uuid4())})
    return _document(f"{action}Response", service, inner + metadata, 200)


def error_answer(service: str, failure: QueryFailure) -> Response:
    """An error document."""
    error: Structure = {
        "Type": "Sender" if failure.by_sender else "Receiver",
        "Code": failure.code,
        "Message": failure.message,
    }
    body = _element("Error", error) + _element("RequestId", str(uuid.uuid4()))
    return _document("ErrorResponse", service, body, failure.status)


def moment(time_s: float) -> str:
    """2026-01-31T23:59:59Z"""
    return datetime.fromtimestamp(int(time_s), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def quoted(document: str) -> str:
    """A policy document as answers hold it: percent-encoded (RFC 3986)."""
    return quote(document, safe="")


def _document(root: str, service: str, body: str, status: int) -> Response:
    text = f'{xml.PROLOGUE}<{root} xmlns="{NAMESPACES[service]}">{body}</{root}>'
    return Response(status, _HEADERS, text.encode())


def _element(name: str, value: Value) -> str:
    if value is None:
        return ""
    return f"<{name}>{_content(value)}</{name}>"


def _content(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, str):
        return xml.escape(value)
    if isinstance(value, Pairs):
        return "".join(
            _element("entry", {"key": key, "value": each}) for key, each in value.values.items()
        )
    if isinstance(value, Mapping):
        return "".join(_element(name, each) for name, each in value.items())
    assert isinstance(value, Sequence)
    return "".join(_element("member", each) for each in value)
