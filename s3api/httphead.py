"""Request heads: parsed by llhttp, then held to what keeps two parsers from disagreeing.

llhttp (through httptools, without leniency) refuses bare CR and LF, obs-fold, control characters
and Content-Length beside Transfer-Encoding. Added here: one Host, one Content-Length, "chunked" as
the only transfer coding, HTTP/1.0 or 1.1, limits.

Concurrency: pure. Source: RFC 9110, RFC 9112 (sections 3, 5, 6, 11.2).
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import httptools

from s3api.httpstream import Header

# Remembered, because a server has few names.
_is_host = functools.lru_cache(maxsize=256)(
    re.compile(rb"(?:[A-Za-z0-9\-._~%!$&'()*+;=]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]*)?").fullmatch
)
_absolute_form = re.compile(rb"https?://([^/?#]*)([^#]*)", re.IGNORECASE).fullmatch
_is_length = re.compile(rb"[0-9]{1,18}").fullmatch


# What decides where a request ends and whom it is for.
_FRAMING_HEADERS = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"connection", b"expect")
)


class HeadRefused(Exception):
    """A request head that is answered with `status` and a closed connection."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(f"{status} {reason}")


@dataclass(slots=True, kw_only=True)
class RequestHead:
    """content_length: 0 without a body, None when chunked. http_version: "1.0" or "1.1"."""

    method: str
    raw_path: bytes
    query_string: bytes
    http_version: str
    headers: list[Header]
    content_length: int | None
    keep_alive: bool
    expects_continue: bool


# Stands for a head that could not be parsed: the answer to it closes the connection.
NO_HEAD = RequestHead(
    method="",
    raw_path=b"",
    query_string=b"",
    http_version="1.1",
    headers=[],
    content_length=0,
    keep_alive=False,
    expects_continue=False,
)


class HeadParser:
    """Parses one head, fed as it comes. httptools calls the on_ methods."""

    def __init__(self, *, header_count_max: int, target_size_max_bytes: int) -> None:
        self._header_count_max = header_count_max
        self._target_size_max_bytes = target_size_max_bytes
        self._target = b""
        self._headers: list[Header] = []
        self._parser = httptools.HttpRequestParser(self)

    def on_url(self, part: bytes) -> None:
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value.rstrip(b" \t")))

    def feed(self, piece: bytes) -> None:
        """Take a further piece, which must not go beyond the head's empty line.

        Raises HeadRefused as soon as the head can't become valid.
        """
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserUpgrade:
            return  # We don't upgrade: the request is served as if it hadn't asked (RFC 9110, 7.8).
        except httptools.HttpParserInvalidMethodError:
            raise HeadRefused(501, "The method is not known.") from None
        except httptools.HttpParserError as exc:
            raise HeadRefused(400, f"The request is malformed: {exc}.") from None

    def finish(self, head: bytes) -> RequestHead:
        """The head, once all of it, `head`, was fed. Raises HeadRefused."""
        request_line = head[: head.find(b"\r\n")]
        is_1_1 = request_line.endswith(b" HTTP/1.1")
        if not is_1_1 and not request_line.endswith(b" HTTP/1.0"):
            raise HeadRefused(505, "Only HTTP/1.1 and HTTP/1.0 are spoken here.")
        if len(self._target) > self._target_size_max_bytes:
            raise HeadRefused(414, "The request target is too long.")
        if len(self._headers) > self._header_count_max:
            raise HeadRefused(431, "The request has too many headers.")
        method = self._parser.get_method().decode("ascii")
        # The parser refers to us: without this, every request waits for the garbage collector.
        del self._parser
        host: bytes | None = None
        length: bytes | None = None
        coding: bytes | None = None
        connection = expect = b""
        for name, value in self._headers:
            if name not in _FRAMING_HEADERS:
                continue
            if name == b"host":
                if host is not None:
                    raise HeadRefused(400, "There is more than one Host header.")
                host = value
            elif name == b"content-length":
                if length is not None:
                    raise HeadRefused(400, "There is more than one Content-Length header.")
                length = value
            elif name == b"transfer-encoding":
                if coding is not None:
                    raise HeadRefused(400, "There is more than one Transfer-Encoding header.")
                coding = value
            elif name == b"connection":
                connection += b"," + value.lower()
            elif name == b"expect":
                # RFC 9110, 10.1.1, lets others be ignored, as Amazon S3 does.
                expect = b"100-continue" if value.lower() == b"100-continue" else b""
        if host is None:
            if is_1_1:
                raise HeadRefused(400, "The Host header is missing.")
        elif not _is_host(host):
            raise HeadRefused(400, "The Host header is malformed.")
        options = connection.replace(b" ", b"").split(b",") if connection else ()
        raw_path, query_string = _split_target(method, self._target, host)
        content_length = _body_length(length, coding, is_1_1)
        return RequestHead(
            method=method,
            raw_path=raw_path,
            query_string=query_string,
            http_version="1.1" if is_1_1 else "1.0",
            headers=self._headers,
            content_length=content_length,
            keep_alive=b"close" not in options if is_1_1 else b"keep-alive" in options,
            expects_continue=bool(expect) and is_1_1 and content_length != 0,
        )


def _split_target(method: str, target: bytes, host: bytes | None) -> tuple[bytes, bytes]:
    """Path and query of a target in origin or absolute form, or `OPTIONS *`."""
    # llhttp has refused all other characters that have no place here.
    if not target or b"#" in target:
        raise HeadRefused(400, "The request target is malformed.")
    if target[0] != 0x2F:
        absolute = _absolute_form(target)
        if absolute is None:
            if target == b"*" and method == "OPTIONS":
                return b"*", b""
            raise HeadRefused(400, "The request target is malformed.")
        if absolute[1].lower() != (host or b"").lower():
            raise HeadRefused(400, "The request target names another host than the Host header.")
        target = absolute[2] if absolute[2].startswith(b"/") else b"/" + absolute[2]
    raw_path, _, query_string = target.partition(b"?")
    return raw_path, query_string


def _body_length(length: bytes | None, coding: bytes | None, is_1_1: bool) -> int | None:
    if coding is not None:
        if length is not None or not is_1_1:
            raise HeadRefused(400, "Transfer-Encoding must not be used like this.")
        if coding.lower() != b"chunked":
            raise HeadRefused(501, "Only the transfer coding chunked is known.")
        return None
    if length is None:
        return 0
    if not _is_length(length):
        raise HeadRefused(400, "The Content-Length header is malformed.")
    return int(length)
