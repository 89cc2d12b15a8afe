"""The control socket: private, bounded, and quick to say that nobody is there."""

from __future__ import annotations

import socket
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from daemon.control import NoDaemon, ask_status, serve_control
from daemon.report import Report
from tests.daemon.reports import make_report


async def started(nursery: trio.Nursery, path: Path, report: Report) -> None:
    nursery.start_soon(serve_control, path, lambda: report)
    await trio.testing.wait_all_tasks_blocked()


async def test_the_report_arrives_whole(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await started(nursery, path, make_report())
        assert await trio.to_thread.run_sync(ask_status, path) == make_report()
        nursery.cancel_scope.cancel()


async def test_only_its_owner_may_connect_and_it_is_gone_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await started(nursery, path, make_report())
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_a_dead_daemon_s_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(NoDaemon, match="no daemon is running"):
        ask_status(path)
    async with trio.open_nursery() as nursery:
        await started(nursery, path, make_report())
        await trio.to_thread.run_sync(ask_status, path)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("line", [b"reboot\n", b"x" * 10_000, b"\n", b""])
async def test_anything_else_than_status_is_answered_by_closing(
    tmp_path: Path, line: bytes
) -> None:
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await started(nursery, path, make_report())
        stream = await trio.open_unix_socket(str(path))
        await stream.send_all(line)
        stream.socket.shutdown(socket.SHUT_WR)
        try:
            assert await stream.receive_some(100) == b""
        except trio.BrokenResourceError:
            pass  # Closed with bytes of ours unread.
        nursery.cancel_scope.cancel()


async def test_a_report_that_fails_is_logged_and_the_next_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "control.sock"
    reports = iter([RuntimeError("no report"), make_report()])

    def report() -> Report:
        found = next(reports)
        if isinstance(found, RuntimeError):
            raise found
        return found

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_control, path, report)
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(NoDaemon):
            await trio.to_thread.run_sync(ask_status, path)
        assert "could not be told" in caplog.text
        await trio.to_thread.run_sync(ask_status, path)
        nursery.cancel_scope.cancel()


def test_without_a_daemon_the_reason_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(NoDaemon, match=r"no daemon is running: nobody listens at /.*/absent$"):
        ask_status(tmp_path / "absent")


def test_nonsense_from_the_other_side_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NoDaemon):
        ask_status(tmp_path / "file")
