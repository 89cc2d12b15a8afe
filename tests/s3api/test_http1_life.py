"""The server's life: time-outs, stop, limits, TLS, and frameworks on top of it."""

from __future__ import annotations

import socket
import ssl
from typing import Any

import pytest
import trio
import trio.testing
from quart import request, websocket
from quart_trio import QuartTrio

from s3api.http1 import HttpConfig, open_listeners
from s3api.httpstream import BodyStalled, ClientDisconnected, stream_of
from s3api.lifespan import LifespanFailed, lifespan
from tests.s3api.http_client import PATIENCE_S, Running, running
from tests.s3api.test_http1_bodies import answering, get, make_tls, part, put, start

HELLO = answering(start(), part(b"hello"))
QUICK = HttpConfig(
    head_timeout_s=0.1,
    keep_alive_timeout_s=0.1,
    body_idle_timeout_s=0.1,
    write_stall_timeout_s=0.1,
    linger_s=0.1,
    stop_timeout_s=0.2,
)


async def test_idle_connection_is_closed_without_a_word() -> None:
    async with running(HELLO, config=QUICK) as started:
        fresh = await started.connect()
        assert await fresh.closed() == b""
        used = await started.connect()
        assert (await used.ask(get())).body == b"hello"
        assert await used.closed() == b""
        assert started.server.statistics().connection_count == 0


async def test_head_that_trickles_is_given_up_with_408() -> None:
    async with running(HELLO, config=QUICK) as started:
        client = await started.connect()
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def trickle() -> None:
                for byte in get() * 100:
                    await client.send(bytes([byte]))
                    await trio.sleep(0.02)

            response = await client.response()
            assert (response.status, response.keeps) == (408, False)
            nursery.cancel_scope.cancel()


async def test_body_that_stalls_is_told_to_the_application() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = stream_of(scope, receive, send)
        try:
            while await stream.receive_body() is not None:
                pass
        except BodyStalled:
            await stream.respond(400, [], b"RequestTimeout")

    async with running(app, config=QUICK) as started:
        client = await started.connect()
        await client.send(put(b"/", b"hello")[:-1])
        response = await client.response()
        assert (response.status, response.body, response.keeps) == (400, b"RequestTimeout", False)
        assert await client.closed() == b""


@pytest.mark.parametrize("asgi", [False, True])
async def test_body_that_stalls_is_408_if_the_application_says_nothing(asgi: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if asgi:
            while (await receive())["type"] != "http.disconnect":
                pass
        else:
            await stream_of(scope, receive, send).receive_body_into(memoryview(bytearray(9)))

    async with running(app, config=QUICK) as started:
        client = await started.connect()
        response = await client.ask(put(b"/", b"h")[:-1])
        assert (response.status, response.keeps) == (408, False)


async def test_slow_but_steady_body_is_no_stall() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = stream_of(scope, receive, send)
        while await stream.receive_body() is not None:
            pass
        await stream.respond(200, [], b"thanks")

    async with running(app, config=QUICK) as started:
        client = await started.connect()
        await client.send(put(b"/", b"hello")[:-5])
        for byte in b"hello":
            await trio.sleep(0.05)
            await client.send(bytes([byte]))
        assert (await client.response()).body == b"thanks"


async def test_peer_that_takes_nothing_is_given_up() -> None:
    outcome: list[str] = []
    done = trio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        stream = stream_of(scope, receive, send)
        await stream.start_response(200, [])
        try:
            while True:
                await stream.send_body(bytes(1 << 20))
        except ClientDisconnected:
            outcome.append("given up")
            raise
        finally:
            done.set()

    async with running(app, config=QUICK) as started:
        client = await started.connect()
        await client.send(get())
        with trio.fail_after(PATIENCE_S):
            await done.wait()
    assert outcome == ["given up"]


def slow_app(begun: trio.Event, may_answer: trio.Event) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await may_answer.wait()
        await stream_of(scope, receive, send).respond(200, [], b"late")

    return app


async def test_stop_closes_the_idle_and_finishes_what_is_in_flight() -> None:
    begun, may_answer = trio.Event(), trio.Event()
    async with running(slow_app(begun, may_answer)) as started:
        idle = await started.connect()
        busy = await started.connect()
        await busy.send(get() * 2)
        await begun.wait()
        await trio.testing.wait_all_tasks_blocked()
        started.server.stop()
        assert await idle.closed() == b""
        with pytest.raises(OSError, match="all attempts"):
            await started.connect()
        may_answer.set()
        assert (await busy.response()).body == b"late"
        # The second request of the pipeline is not begun.
        assert await busy.closed() == b""
        assert started.server.statistics().request_count == 1


async def test_stop_gives_up_after_its_deadline() -> None:
    begun = trio.Event()
    async with running(slow_app(begun, trio.Event()), config=QUICK) as started:
        client = await started.connect()
        await client.send(get())
        await begun.wait()
        started.server.stop()
        assert await client.closed() == b""


async def test_stop_during_a_response_announces_the_close() -> None:
    begun, may_answer = trio.Event(), trio.Event()
    app = slow_app(begun, may_answer)

    async def stopping_app(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    async with running(stopping_app) as started:
        first, second = await started.connect(), await started.connect()
        await first.send(get())
        await begun.wait()
        await second.send(b"GET / HT")
        await trio.testing.wait_all_tasks_blocked(0.01)
        started.server.stop()
        may_answer.set()
        await second.send(b"TP/1.1\r\nHost: h\r\n\r\n")
        assert not (await second.response()).keeps


async def test_connection_beyond_the_limit_waits_for_a_place() -> None:
    async with running(HELLO, config=HttpConfig(connection_count_max=2)) as started:
        first = await started.connect()
        await first.ask(get())
        second = await started.connect()
        await second.ask(get())
        third = await started.connect()
        await third.send(get())
        with trio.move_on_after(0.05) as waited:
            await third.response()
        assert waited.cancelled_caught
        assert started.server.statistics().connection_count == 2
        await first.stream.aclose()
        assert (await third.response()).body == b"hello"


async def test_aborted_connections_leave_nothing_behind() -> None:
    async with running(HELLO) as started:
        for number in range(300):
            client = await started.connect()
            await client.send(get()[: number % 40])
            await client.stream.aclose()
        await started.wait_no_connection()
        assert (await (await started.connect()).ask(get())).body == b"hello"


async def test_tls_serves_https() -> None:
    schemes: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        schemes.append(scope["scheme"])
        await HELLO(scope, receive, send)

    server_tls, client_tls = make_tls()
    async with running(app, tls=server_tls) as started:
        client = await started.connect_tls(client_tls)
        for _ in range(2):
            assert (await client.ask(get())).body == b"hello"
    assert schemes == ["https", "https"]


async def test_tls_handshake_that_fails_or_stalls_is_dropped() -> None:
    server_tls, client_tls = make_tls()
    async with running(HELLO, config=QUICK, tls=server_tls) as started:
        silent = await started.connect()
        plain = await started.connect()
        await plain.send(get())
        await plain.closed()
        assert await silent.closed() == b""
        distrustful = await started.connect_tls(ssl.create_default_context())
        with pytest.raises(trio.BrokenResourceError):
            await distrustful.send(get())
        assert (await (await started.connect_tls(client_tls)).ask(get())).body == b"hello"


async def test_tls_peer_that_stalls_in_its_body_gets_408() -> None:
    server_tls, client_tls = make_tls()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await stream_of(scope, receive, send).receive_body()

    async with running(app, config=QUICK, tls=server_tls) as started:
        client = await started.connect_tls(client_tls)
        assert (await client.ask(put(b"/", b"h")[:-1])).status == 408


def make_quart() -> QuartTrio:
    app = QuartTrio("life")

    @app.before_serving
    async def begin() -> None:
        app.config["BEGUN"] = True

    @app.route("/hello/<name>")
    async def hello(name: str) -> str:
        return f"hello {name} {app.config.get('BEGUN')}"

    @app.route("/size", methods=["PUT"])
    async def size() -> str:
        return str(len(await request.get_data()))

    @app.route("/fail")
    async def fail() -> str:
        raise LookupError

    @app.websocket("/ws")
    async def ws() -> None:
        await websocket.accept()

    return app


@pytest.mark.parametrize("tls", [False, True])
async def test_quart_trio_runs_on_it(tls: bool) -> None:
    app = make_quart()
    server_tls, client_tls = make_tls() if tls else (None, None)

    async def connect(started: Running) -> Any:
        return await (started.connect_tls(client_tls) if client_tls else started.connect())

    async with lifespan(app), running(app, tls=server_tls) as started:
        client = await connect(started)
        assert (await client.ask(get(b"/hello/w%C3%B6rld"))).body.decode() == "hello wörld True"
        assert (await client.ask(put(b"/size", bytes(1_000_000)))).body == b"1000000"
        assert (await client.ask(get(b"/nowhere"))).status == 404
        assert (await client.ask(get(b"/hello/x", b"HEAD"))).body == b""
        # Pipelined requests survive Quart's look-out for a disconnect.
        await client.send(get(b"/hello/a") * 3)
        for _ in range(3):
            assert (await client.response()).body == b"hello a True"
        failed = await client.ask(get(b"/fail"))
        assert failed.status == 500


async def test_quart_trio_ends_when_its_client_leaves() -> None:
    app = make_quart()
    async with lifespan(app), running(app) as started:
        client = await started.connect()
        await client.send(put(b"/size", bytes(1000))[:-1])
        await trio.testing.wait_all_tasks_blocked(0.01)
        await client.stream.aclose()
        await started.wait_no_connection()


async def test_lifespan_failure_is_raised_and_absence_is_not() -> None:
    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async def without(scope: Any, receive: Any, send: Any) -> None:
        raise LookupError(scope["type"])

    with pytest.RaisesGroup(LifespanFailed):
        async with lifespan(failing):
            raise AssertionError("not reached")
    async with lifespan(without):
        pass


async def test_listeners_share_one_free_port() -> None:
    listeners = await open_listeners(None, 0)
    try:
        assert len({listener.getsockname()[1] for listener in listeners}) == 1
        assert {listener.family for listener in listeners} >= {socket.AF_INET}
        with pytest.raises(OSError, match="in use"):
            await open_listeners("127.0.0.1", listeners[0].getsockname()[1])
    finally:
        for listener in listeners:
            listener.close()
