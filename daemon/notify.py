"""Telling systemd how we are: READY, STOPPING, WATCHDOG and a status line.

One datagram to the socket in $NOTIFY_SOCKET; without it every call does nothing.
Source: sd_notify(3), sd_watchdog_enabled(3).
Concurrency: any task. A datagram that can't be sent is dropped: nobody may wait for systemd.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping

import trio


class Notifier:
    """Speaks to the service manager named in `environment`, or to nobody."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ means the abstract namespace, which the kernel marks by a NUL.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._watchdog_s = 0.0
        if environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid()):
            microseconds = environment.get("WATCHDOG_USEC", "")
            self._watchdog_s = int(microseconds) / 1e6 if microseconds.isdigit() else 0.0

    def ready(self, line: str) -> None:
        """All services are up."""
        self._send(f"READY=1\nSTATUS={line}")

    def stopping(self) -> None:
        """On the way down."""
        self._send("STOPPING=1\nSTATUS=stopping")

    @property
    def supervised(self) -> bool:
        """Whether there is a manager to be told."""
        return bool(self._address)

    def main_process(self, pid: int) -> None:
        """Another process is the service from now on."""
        self._send(f"MAINPID={pid}")

    def status(self, line: str) -> None:
        """What we are doing, for `systemctl status`."""
        self._send(f"STATUS={line}")

    async def watch(self) -> None:
        """Say that the loop still turns, twice per watchdog period; for ever."""
        while self._watchdog_s:
            self._send("WATCHDOG=1")
            await trio.sleep(self._watchdog_s / 2)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
                sender.sendto(text.encode(), self._address)
        except OSError:
            return  # The manager is gone or its queue is full; the next message may get through.
