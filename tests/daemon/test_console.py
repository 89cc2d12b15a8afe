"""The console's application: health, the page, and what it must not let through."""

from __future__ import annotations

import socket
from html.parser import HTMLParser

import msgspec
import pytest
import trio

from daemon.console import create_console, serve_console
from daemon.report import Report
from tests.daemon.reports import make_drive, make_report


async def get(report: Report, path: str) -> tuple[int, str, dict[str, str]]:
    response = await create_console(lambda: report).test_client().get(path)
    text = await response.get_data(as_text=True)
    return (
        response.status_code,
        text,
        {name.lower(): value for name, value in response.headers.items()},
    )


async def test_live_whatever_the_store_does() -> None:
    status, text, _ = await get(make_report(phase="starting", writable=False), "/health/live")
    assert (status, text) == (200, "live\n")


@pytest.mark.parametrize(
    ("report", "status", "text"),
    [
        (make_report(), 200, "ready\n"),
        (make_report(phase="starting"), 503, "not ready: starting\n"),
        (make_report(phase="restarting"), 503, "not ready: restarting\n"),
        (make_report(phase="stopping"), 503, "not ready: stopping\n"),
        (make_report(writable=False), 503, "not ready: too few drives can be written\n"),
    ],
)
async def test_ready_only_when_requests_can_be_served(
    report: Report, status: int, text: str
) -> None:
    found_status, found_text, headers = await get(report, "/health/ready")
    assert (found_status, found_text) == (status, text)
    assert ("retry-after" in headers) is (status == 503)


async def test_the_page_shows_drives_space_endpoint_mount_and_version() -> None:
    status, text, headers = await get(make_report(), "/")
    assert status == 200
    assert headers["content-type"] == "text/html; charset=utf-8"
    for shown in ("/data/d1", "online", "1.0 TiB", "http://127.0.0.1:9000", "/mnt/tf", "0.0.1"):
        assert shown in text


async def test_what_the_page_shows_is_escaped() -> None:
    drive = make_drive(path="/d<script>alert(1)</script>", state="fenced", cause='"><img src=x>')
    _, text, _ = await get(make_report(drives=[drive]), "/")
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;" in text


async def test_the_page_is_well_formed_and_loads_nothing_from_elsewhere() -> None:
    _, text, headers = await get(make_report(), "/")

    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.open: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert not {"src", "href"} & {name for name, _ in attrs}
            if tag != "meta":
                self.open.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert self.open.pop() == tag

    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["x-content-type-options"] == "nosniff"


async def test_the_page_shows_a_store_that_is_still_starting() -> None:
    report = msgspec.structs.replace(make_report(phase="starting"), pool=None)
    status, text, _ = await get(report, "/")
    assert status == 200
    assert "starting" in text


async def test_unknown_paths_and_methods_are_refused() -> None:
    client = create_console(make_report).test_client()
    assert (await client.get("/static/../etc/passwd")).status_code == 404
    assert (await client.post("/health/ready")).status_code == 405


async def test_connections_are_kept_and_closed_as_the_client_asks() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_console, create_console(make_report), [listener])
            peer = await trio.open_tcp_stream(*listener.getsockname())
            for wish in (b"keep-alive", b"keep-alive", b"close"):
                await peer.send_all(
                    b"GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: %s\r\n\r\n" % wish
                )
                answer = b""
                with trio.fail_after(2):
                    while not answer.endswith(b"live\n"):
                        answer += await peer.receive_some()
            with trio.fail_after(2):
                assert await peer.receive_some() == b""
            nursery.cancel_scope.cancel()
