"""Bodies on a socket: both ways, every framing, and nothing taken that nobody asked for."""

from __future__ import annotations

import hashlib
import ssl
from typing import Any

import pytest
import trio
import trio.testing
import trustme

from s3api.http1 import HttpConfig
from s3api.httpstream import AsgiStream, ClientDisconnected, RequestStream, stream_of
from tests.s3api.http_client import Client, running

CONFIG = HttpConfig(linger_s=0.3)
BIG = bytes(range(256)) * 4096 * 8 + b"odd"


def put(path: bytes, body: bytes, headers: bytes = b"") -> bytes:
    length = b"Content-Length: %d\r\n" % len(body)
    return b"PUT %b HTTP/1.1\r\nHost: h\r\n%b%b\r\n" % (path, length, headers) + body


def get(path: bytes = b"/", method: bytes = b"GET", version: bytes = b"1.1") -> bytes:
    return b"%b %b HTTP/%b\r\nHost: h\r\n\r\n" % (method, path, version)


async def digest_app(scope: Any, receive: Any, send: Any) -> None:
    """PUT /pieces, /into, /asgi: answers with the SHA-256 of the body. GET: sends BIG."""
    stream = stream_of(scope, receive, send)
    if stream.method == "GET":
        await stream.start_response(200, [(b"content-length", b"%d" % len(BIG))])
        for at in range(0, len(BIG), 1 << 20):
            await stream.send_body(memoryview(BIG)[at : at + (1 << 20)])
        await stream.end_response()
        return
    digest = hashlib.sha256()
    if stream.raw_path == b"/into":
        buffer = memoryview(bytearray(100_003))
        while count := await stream.receive_body_into(buffer):
            digest.update(buffer[:count])
    else:
        if stream.raw_path == b"/asgi":
            stream = AsgiStream(scope, receive, send)
        while (piece := await stream.receive_body()) is not None:
            digest.update(piece)
    await stream.respond(200, [], digest.hexdigest().encode())


@pytest.mark.parametrize("path", [b"/pieces", b"/into", b"/asgi"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("tls", [False, True])
async def test_big_body_arrives_whole(path: bytes, chunked: bool, tls: bool) -> None:
    server_tls, client_tls = make_tls() if tls else (None, None)
    request = put(path, BIG)
    if chunked:
        frames = b"".join(
            b"%x\r\n%b\r\n" % (len(part), part)
            for part in (BIG[at : at + 70_001] for at in range(0, len(BIG), 70_001))
        )
        request = (
            b"PUT %b HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" % path
            + frames
            + b"0\r\n\r\n"
        )
    async with running(digest_app, tls=server_tls) as started:
        client = await (started.connect_tls(client_tls) if client_tls else started.connect())
        for _ in range(2):
            response = await client.ask(request)
            assert response.body == hashlib.sha256(BIG).hexdigest().encode()


@pytest.mark.parametrize("tls", [False, True])
async def test_big_body_leaves_whole(tls: bool) -> None:
    server_tls, client_tls = make_tls() if tls else (None, None)
    async with running(digest_app, tls=server_tls) as started:
        client = await (started.connect_tls(client_tls) if client_tls else started.connect())
        for _ in range(2):
            assert (await client.ask(get())).body == BIG


def make_tls() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return server, client


async def test_body_that_nobody_receives_stays_with_the_client() -> None:
    may_receive = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await may_receive.wait()
        await digest_app(scope, receive, send)

    body = BIG * 8
    sent = 0
    async with running(app) as started, trio.open_nursery() as nursery:
        client = await started.connect()

        async def send_slowly() -> None:
            nonlocal sent
            request = put(b"/into", body)
            for at in range(0, len(request), 65536):
                await client.send(request[at : at + 65536])
                sent = at

        nursery.start_soon(send_slowly)
        seen = -1
        while sent != seen:
            seen = sent
            await trio.sleep(0.05)
        # What is gone sits in the kernel's two socket buffers.
        assert sent < 32 * 1024 * 1024 < len(body)
        may_receive.set()
        assert (await client.response()).body == hashlib.sha256(body).hexdigest().encode()


async def test_continue_is_sent_when_the_application_receives() -> None:
    asked = trio.Event()
    may_receive = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.set()
        await may_receive.wait()
        await digest_app(scope, receive, send)

    async with running(app) as started:
        client = await started.connect()
        head = put(b"/into", b"hello", b"Expect: 100-Continue\r\n")[:-5]
        await client.send(head)
        await asked.wait()
        with trio.move_on_after(0.05) as nothing_came:
            await client.stream.receive_some()
        assert nothing_came.cancelled_caught
        may_receive.set()
        assert await client.stream.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await client.send(b"hello")
        response = await client.response()
        assert response.body == hashlib.sha256(b"hello").hexdigest().encode()
        assert response.keeps


async def test_continue_is_not_sent_to_a_client_that_did_not_wait() -> None:
    async with running(digest_app) as started:
        client = await started.connect()
        await client.send(put(b"/into", b"hello", b"Expect: 100-continue\r\n"))
        assert (await client.stream.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")


async def test_another_expectation_is_ignored() -> None:
    async with running(digest_app) as started:
        client = await started.connect()
        response = await client.ask(put(b"/into", b"hello", b"Expect: 200-ok\r\n"))
        assert (response.status, response.keeps) == (200, True)


async def refusing_app(scope: Any, receive: Any, send: Any) -> None:
    await stream_of(scope, receive, send).respond(403, [], b"no")


async def test_refusal_instead_of_continue_closes_the_connection() -> None:
    async with running(refusing_app, config=CONFIG) as started:
        client = await started.connect()
        head = put(b"/", b"hello", b"Expect: 100-continue\r\n")[:-5]
        response = await client.ask(head)
        assert (response.status, response.keeps) == (403, False)


async def test_small_unread_body_is_drained_and_the_connection_kept() -> None:
    async with running(refusing_app) as started:
        client = await started.connect()
        for _ in range(3):
            response = await client.ask(put(b"/", b"GET /smuggled HTTP/1.1\r\n\r\n" * 100))
            assert (response.status, response.keeps) == (403, True)
        assert started.server.statistics().request_count == 3


@pytest.mark.parametrize("chunked", [False, True])
async def test_client_sees_the_early_answer_to_a_large_unread_body(chunked: bool) -> None:
    async with running(refusing_app, config=CONFIG) as started, trio.open_nursery() as nursery:
        client = await started.connect()
        request = put(b"/", BIG)
        if chunked:
            head = b"PUT / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
            request = head + b"%x\r\n" % len(BIG) + BIG
        nursery.start_soon(client.send, request)
        response = await client.response()
        assert (response.status, response.body, response.keeps) == (403, b"no", False)
        assert await client.closed() == b""


def answering(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return app


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def part(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


LENGTH_5 = (b"content-length", b"5")
BODIES = {"type": "http.response.bodies", "bodies": [b"he", bytearray(b"l"), memoryview(b"lo")]}


@pytest.mark.parametrize(
    ("messages", "headers"),
    [
        ([start(), part(b"hello")], {b"content-length": b"5"}),
        ([start(200, LENGTH_5), part(b"hello")], {b"content-length": b"5"}),
        ([start(200, LENGTH_5), part(b"he", True), part(b"llo")], {b"content-length": b"5"}),
        ([start(), part(b"he", True), part(b"llo")], {b"transfer-encoding": b"chunked"}),
        ([start(), part(b"", True), part(b"hello", True), part(b"")], {}),
        ([start(), BODIES], {b"content-length": b"5"}),
        ([start(), part(b"he", True), {**BODIES, "bodies": [b"l", b"lo"]}], {}),
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
async def test_response_in_any_messages_is_the_same_body(
    messages: list[dict[str, Any]], headers: dict[bytes, bytes], version: bytes
) -> None:
    async with running(answering(*messages)) as started:
        client = await started.connect()
        response = await client.ask(get(version=version))
        assert response.body == b"hello"
        if version == b"1.1":
            assert headers.items() <= response.headers.items()
            assert (await client.ask(get())).body == b"hello"
        else:
            assert b"transfer-encoding" not in response.headers
            assert await client.closed() == b""


@pytest.mark.parametrize(
    ("method", "messages", "length"),
    [
        (b"HEAD", [start(200, LENGTH_5), part(b"")], b"5"),
        (b"HEAD", [start(200, LENGTH_5), part(b"hello")], b"5"),
        (b"HEAD", [start(), part(b"hello")], b"5"),
        (b"HEAD", [start(), part(b"he", True), part(b"llo")], None),
        (b"GET", [start(204), part(b"")], None),
        (b"GET", [start(204), part(b"hello")], None),
        (b"GET", [start(304, LENGTH_5), part(b"")], b"5"),
    ],
)
async def test_response_without_body_has_none_and_keeps_the_connection(
    method: bytes, messages: list[dict[str, Any]], length: bytes | None
) -> None:
    async with running(answering(*messages)) as started:
        client = await started.connect()
        await client.send(get(method=method) * 3)
        for _ in range(3):
            response = await client.response(method)
            assert response.body == b""
            assert response.headers.get(b"content-length") == length
            assert response.keeps


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nset-cookie: b"),
        (b"x", b"a\nb"),
        (b"x", b"a\rb"),
        (b"x", b"\0"),
        (b"x\r\ny", b"a"),
    ],
)
async def test_injected_header_never_leaves(
    header: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(answering(start(200, header), part(b"hello"))) as started:
        client = await started.connect()
        await client.send(get())
        said = await client.closed()
    assert b"set-cookie" not in said
    assert b"200 OK" not in said
    assert "failed" in caplog.text


@pytest.mark.parametrize(
    "messages",
    [
        [start(200, LENGTH_5), part(b"hell")],
        [start(200, LENGTH_5), part(b"hell", True), part(b"oo")],
        [start(200, LENGTH_5), part(b"he", True)],
        [start(), part(b"he", True)],
        [start(), part(b"he", True), start()],
        [start(), part(b"he", True), {"type": "websocket.send"}],
    ],
)
async def test_response_that_breaks_its_promise_is_cut(
    messages: list[dict[str, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    async with running(answering(*messages)) as started:
        client = await started.connect()
        await client.send(get())
        said = await client.closed()
    assert b"hello" not in said
    assert not said.endswith(b"0\r\n\r\n")


@pytest.mark.parametrize("messages", [[], [start()]])
@pytest.mark.parametrize("raises", [False, True])
async def test_application_that_fails_before_its_answer_is_a_500(
    messages: list[dict[str, Any]], raises: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        if raises:
            raise LookupError("secret detail")

    async with running(app) as started:
        client = await started.connect()
        response = await client.ask(get())
        assert response.status == 500
        assert not response.keeps
        assert b"secret" not in response.body
        assert ("secret detail" in caplog.text) is raises
        # The server lives on.
        assert (await (await started.connect()).ask(get())).status == 500


async def test_disconnect_reaches_every_way_of_waiting() -> None:
    outcomes: list[str] = []
    done = trio.Semaphore(0)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream: RequestStream = stream_of(scope, receive, send)
        try:
            if stream.raw_path == b"/asgi":
                while (message := await receive())["type"] == "http.request":
                    pass
                outcomes.append(message["type"])
            elif stream.raw_path == b"/pieces":
                while await stream.receive_body() is not None:
                    pass
            elif stream.raw_path == b"/into":
                while await stream.receive_body_into(memoryview(bytearray(10))):
                    pass
            else:
                await stream.start_response(200, [])
                while True:
                    await stream.send_body(BIG)
        except ClientDisconnected:
            outcomes.append("ClientDisconnected")
            raise
        finally:
            done.release()

    async with running(app) as started:
        for path, body in (
            (b"/asgi", b""),
            (b"/asgi", b"hello"),
            (b"/pieces", b"hello"),
            (b"/into", b"hello"),
            (b"/out", b""),
        ):
            client = await started.connect()
            # One byte of a body is missing when the client leaves.
            await client.send(put(path, body)[: -1 if body else None])
            await trio.testing.wait_all_tasks_blocked(0.01)
            await client.stream.aclose()
            with trio.fail_after(5):
                await done.acquire()
    assert outcomes == ["http.disconnect"] * 2 + ["ClientDisconnected"] * 3


async def test_receive_after_the_response_is_a_disconnect_and_keeps_pipelined_requests() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def look_out() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_out)
            await trio.testing.wait_all_tasks_blocked()
            await send(start())
            await send(part(scope["raw_path"]))
            nursery.cancel_scope.cancel()

    async with running(app) as started:
        client: Client = await started.connect()
        await client.send(*(get(b"/%d" % number) for number in range(5)))
        for number in range(5):
            assert (await client.response()).body == b"/%d" % number
