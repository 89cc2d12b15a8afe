"""What systemd is told, on a datagram socket of the test's own."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trio.testing

from daemon.notify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(2)
        yield receiver


def environment_of(manager: socket.socket) -> dict[str, str]:
    return {"NOTIFY_SOCKET": manager.getsockname()}


def test_ready_and_stopping_are_told(manager: socket.socket) -> None:
    notifier = Notifier(environment_of(manager))
    notifier.ready("all is up")
    assert manager.recv(1000) == b"READY=1\nSTATUS=all is up"
    notifier.stopping()
    assert manager.recv(1000).startswith(b"STOPPING=1\n")


def test_an_abstract_socket_is_found() -> None:
    name = f"twofold-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(f"\0{name}")
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).status("x")
        assert receiver.recv(1000) == b"STATUS=x"


def test_without_a_manager_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    Notifier({}).ready("x")
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready("x")


async def test_the_watchdog_is_fed_twice_per_period(
    manager: socket.socket, autojump_clock: trio.testing.MockClock
) -> None:
    environment = environment_of(manager) | {"WATCHDOG_USEC": "10000000"}
    with trio.move_on_after(21):
        await Notifier(environment).watch()
    manager.setblocking(False)
    fed = 0
    while True:
        try:
            assert manager.recv(100) == b"WATCHDOG=1"
        except BlockingIOError:
            break
        fed += 1
    assert fed == 5


@pytest.mark.parametrize("extra", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_PID": "1"}])
async def test_no_watchdog_is_fed_that_is_not_ours(
    manager: socket.socket, extra: dict[str, str]
) -> None:
    environment = environment_of(manager) | {"WATCHDOG_USEC": "10000000"} | extra
    if not extra:
        del environment["WATCHDOG_USEC"]
    await Notifier(environment).watch()
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(100)
