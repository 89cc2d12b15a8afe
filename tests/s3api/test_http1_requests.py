"""Requests on a socket: what is understood, what is refused, and that nothing is smuggled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from s3api.http1 import HttpConfig
from s3api.httpstream import stream_of
from tests.s3api.http_client import Running, running


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the method, the target as received, and the size of the body."""
    stream = stream_of(scope, receive, send)
    size = 0
    while (piece := await stream.receive_body()) is not None:
        size += len(piece)
    body = b"%b %b ? %b %d" % (
        stream.method.encode(),
        stream.raw_path,
        stream.query_string,
        size,
    )
    await stream.respond(200, [(b"content-type", b"text/plain")], body)


@pytest.fixture
async def server() -> AsyncIterator[Running]:
    async with running(echo, config=HttpConfig(linger_s=0.2)) as started:
        yield started


UNDERSTOOD: list[tuple[str, bytes, bytes]] = [
    ("plain", b"GET /b/k HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /b/k ?  0"),
    (
        "raw target",
        b"GET //a/../%2e//%C3%bc+?x=%20&y HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET //a/../%2e//%C3%bc+ ? x=%20&y 0",
    ),
    ("two marks", b"GET /a?b?c HTTP/1.1\r\nHost: h\r\n\r\n", b"GET /a ? b?c 0"),
    ("absolute", b"GET http://h:1/a?b HTTP/1.1\r\nHost: H:1\r\n\r\n", b"GET /a ? b 0"),
    ("absolute, bare", b"GET http://h HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / ?  0"),
    ("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", b"OPTIONS * ?  0"),
    ("empty lines first", b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", b"GET / ?  0"),
    ("IPv6 host", b"GET / HTTP/1.1\r\nHost: [::1]:9000\r\n\r\n", b"GET / ?  0"),
    (
        "upgrade ignored",
        b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
        b"GET / ?  0",
    ),
    ("length", b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 3 \r\n\r\nabc", b"PUT / ?  3"),
    ("no length", b"PUT / HTTP/1.1\r\nHost: h\r\n\r\n", b"PUT / ?  0"),
    ("GET with body", b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", b"GET / ?  3"),
    (
        "chunked",
        b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: Chunked\r\n\r\n"
        b"3;a=b\r\nabc\r\n0a\r\n0123456789\r\n0\r\nx: y\r\n\r\n",
        b"PUT / ?  13",
    ),
]


@pytest.mark.parametrize(
    ("what", "request_bytes", "expected"), UNDERSTOOD, ids=[row[0] for row in UNDERSTOOD]
)
async def test_request_is_understood_whole_and_byte_by_byte(
    server: Running, what: str, request_bytes: bytes, expected: bytes
) -> None:
    client = await server.connect()
    # Three times on one connection: whole, pipelined behind it, and in single bytes.
    await client.send(request_bytes + request_bytes)
    await client.send(*(bytes([byte]) for byte in request_bytes))
    for _ in range(3):
        response = await client.response()
        assert (response.status, response.body) == (200, expected)
        assert response.keeps


def put(framing: bytes, body: bytes = b"") -> bytes:
    return b"PUT / HTTP/1.1\r\nHost: h\r\n" + framing + b"\r\n" + body


MALFORMED: list[tuple[str, bytes, int]] = [
    ("no Host", b"GET / HTTP/1.1\r\n\r\n", 400),
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400),
    ("bad Host", b"GET / HTTP/1.1\r\nHost: h/x\r\n\r\n", 400),
    ("empty Host", b"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
    ("user in Host", b"GET / HTTP/1.1\r\nHost: a@h\r\n\r\n", 400),
    ("another host in the target", b"GET http://g/ HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("no path", b"GET  HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("relative target", b"GET a HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("asterisk", b"GET * HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("CONNECT", b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("fragment", b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("space in target", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("NUL in target", b"GET /a\0b HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("high byte in target", b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n", 400),
    ("unknown method", b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 501),
    ("HTTP/1.2", b"GET / HTTP/1.2\r\nHost: h\r\n\r\n", 400),
    ("HTTP/2.0", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505),
    ("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ("RTSP", b"GET / RTSP/1.0\r\nHost: h\r\n\r\n", 505),
    ("HTTP/0.9", b"GET /\r\n\r\n", 505),
    ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 501),
    ("bare LF", b"GET / HTTP/1.1\nHost: h\n\n", 400),
    ("bare CR", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\rc: d\r\n\r\n", 400),
    ("obs-fold", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n c\r\n\r\n", 400),
    ("space before colon", put(b"Content-Length : 3\r\n", b"abc"), 400),
    ("NUL in header", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n", 400),
    ("control in header", b"GET / HTTP/1.1\r\nHost: h\r\nA: b\x08\r\n\r\n", 400),
    ("control in name", b"GET / HTTP/1.1\r\nHost: h\r\nA\x0b: b\r\n\r\n", 400),
    ("header without colon", b"GET / HTTP/1.1\r\nHost: h\r\nA\r\n\r\n", 400),
    ("space before first header", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", 400),
    ("CL and TE", put(b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"), 400),
    ("TE and CL", put(b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n", b"0\r\n\r\n"), 400),
    ("two equal CLs", put(b"Content-Length: 3\r\nContent-Length: 3\r\n", b"abc"), 400),
    ("two different CLs", put(b"Content-Length: 3\r\nContent-Length: 4\r\n", b"abc"), 400),
    ("CL list", put(b"Content-Length: 3, 3\r\n", b"abc"), 400),
    ("negative CL", put(b"Content-Length: -3\r\n"), 400),
    ("CL with sign", put(b"Content-Length: +3\r\n"), 400),
    ("hex CL", put(b"Content-Length: 0x3\r\n"), 400),
    ("huge CL", put(b"Content-Length: " + b"9" * 19 + b"\r\n"), 400),
    ("overflowing CL", put(b"Content-Length: " + b"9" * 30 + b"\r\n"), 400),
    ("empty CL", put(b"Content-Length:\r\n"), 400),
    ("two TEs", put(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
    ("TE identity", put(b"Transfer-Encoding: identity\r\n"), 400),
    ("TE chunked not last", put(b"Transfer-Encoding: chunked, gzip\r\n"), 400),
    ("TE gzip, chunked", put(b"Transfer-Encoding: gzip, chunked\r\n"), 501),
    ("TE xchunked", put(b"Transfer-Encoding: xchunked\r\n"), 400),
    ("TE with tab", put(b"Transfer-Encoding:\x0bchunked\r\n"), 400),
    ("TE in 1.0", b"PUT / HTTP/1.0\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ("target too long", b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: h\r\n\r\n", 414),
    ("header too long", b"GET / HTTP/1.1\r\nHost: h\r\nA: " + b"a" * 20000, 431),
    ("too many headers", b"GET / HTTP/1.1\r\nHost: h\r\n" + b"a:\r\n" * 200 + b"\r\n", 431),
]


@pytest.mark.parametrize(
    ("what", "request_bytes", "status"), MALFORMED, ids=[row[0] for row in MALFORMED]
)
async def test_malformed_request_is_refused_and_the_connection_closed(
    server: Running, what: str, request_bytes: bytes, status: int
) -> None:
    client = await server.connect()
    await client.send(request_bytes)
    response = await client.response()
    assert response.status == status
    assert not response.keeps
    await client.stream.send_eof()  # type: ignore[attr-defined]
    assert await client.closed() == b""
    assert server.server.statistics().request_count == 0
    assert server.server.statistics().refusal_count == 1


BAD_CHUNKS: list[tuple[str, bytes]] = [
    ("no size", b"\r\nabc\r\n"),
    ("no hex", b"3g\r\nabc\r\n"),
    ("negative", b"-3\r\nabc\r\n"),
    ("prefix", b"0x3\r\nabc\r\n"),
    ("space first", b" 3\r\nabc\r\n"),
    ("overflow", b"1" + b"0" * 16 + b"\r\n"),
    ("LF after size", b"3\nabc\r\n"),
    ("LF after chunk", b"3\r\nabc\n0\r\n\r\n"),
    ("CR after size", b"3\rabc\r\n"),
    ("garbage after chunk", b"3\r\nabcdef0\r\n\r\n"),
    ("NUL in extension", b"3;\0\r\nabc\r\n"),
    ("long extension", b"3;" + b"a" * 5000),
    ("bare LF at end", b"0\r\n\n"),
    ("many trailers", b"0\r\n" + b"a: b\r\n" * 50),
]


@pytest.mark.parametrize(("what", "body"), BAD_CHUNKS, ids=[row[0] for row in BAD_CHUNKS])
async def test_malformed_chunk_is_refused_and_what_follows_is_no_request(
    server: Running, what: str, body: bytes
) -> None:
    client = await server.connect()
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
    await client.send(put(b"Transfer-Encoding: chunked\r\n", body + smuggled))
    response = await client.response()
    assert response.status == 400
    assert not response.keeps
    await client.stream.send_eof()  # type: ignore[attr-defined]
    assert await client.closed() == b""
    assert server.server.statistics().request_count == 1


async def test_connection_is_kept_or_closed_as_the_client_asks(server: Running) -> None:
    for version, option, keeps in (
        (b"1.1", b"keep-alive", True),
        (b"1.1", b"close", False),
        (b"1.1", b"TE, Close", False),
        (b"1.0", b"keep-alive", True),
        (b"1.0", b"close", False),
        (b"1.0", b"x", False),
    ):
        client = await server.connect()
        response = await client.ask(
            b"GET / HTTP/%b\r\nHost: h\r\nConnection: %b\r\n\r\n" % (version, option)
        )
        assert response.status == 200
        if keeps:
            assert response.headers.get(b"connection", b"keep-alive") == b"keep-alive"
            await client.send(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
            assert (await client.response()).status == 200
        assert await client.closed() == b""


async def test_pipelined_requests_are_answered_in_order(server: Running) -> None:
    client = await server.connect()
    paths = [b"/%d" % number for number in range(50)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            client.send,
            b"".join(
                b"PUT %b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello" % path
                for path in paths
            ),
        )
        for path in paths:
            assert (await client.response()).body == b"PUT %b ?  5" % path


async def test_scope_describes_the_request() -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await stream_of(scope, receive, send).respond(204, [])

    async with running(app) as started:
        client = await started.connect()
        await client.ask(b"GET /a%20%C3%BC%2Fb?c=%20 HTTP/1.1\r\nHost: h\r\nX-Y:  z  \r\n\r\n")
    assert seen["path"] == "/a ü/b"
    assert seen["raw_path"] == b"/a%20%C3%BC%2Fb"
    assert seen["query_string"] == b"c=%20"
    assert seen["headers"] == [(b"host", b"h"), (b"x-y", b"z")]
    assert (seen["type"], seen["http_version"], seen["scheme"]) == ("http", "1.1", "http")
    assert seen["server"][1] == started.port
    assert seen["client"][0] == "127.0.0.1"
